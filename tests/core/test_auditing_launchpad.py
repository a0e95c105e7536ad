"""The same claims on a contract of the launchpad's kind: 32-byte ids, and burns at once."""

from __future__ import annotations

from orchestrator.core.auditing.checking import Audit
from orchestrator.core.auditing.findings import Kind
from orchestrator.core.auditing.profile import Ways
from orchestrator.core.launchpad_profile import LaunchpadProfile
from schemas.base import Fact, Position, Record, RequestType, instant
from schemas.evm import BlocksFollowed, ContractEvent, EventName
from schemas.requests import RequestCompleted, RequestReceived
from tests.core.audited import (
    CHAIN,
    CONTRACT,
    START,
    TOKEN,
    USER,
    block_hash,
    kinds,
    mint_ok,
    word,
)

PROFILE = LaunchpadProfile("Some Token")


def event(name: EventName, request_id: str, amount: int, index: int) -> ContractEvent:
    return ContractEvent(
        chain_id=CHAIN,
        block_number=7,
        block_hash=block_hash(7),
        block_timestamp=START,
        tx_hash=word(index),
        log_index=index,
        contract=CONTRACT,
        event=name,
        request_id=request_id,
        account=USER,
        amount=amount,
    )


def judged(*facts: Fact) -> Audit:
    audit = Audit({CHAIN: Ways(PROFILE)})
    for number, fact in enumerate(facts):
        audit.feed(Record(fact, instant(START), Position("requests", 0, number)))
    last = {"from_block": 0, "to_block": 9, "to_hash": block_hash(9), "to_timestamp": START}
    audit.feed(Record(BlocksFollowed(chain_id=CHAIN, **last), instant(START + 9_999)))
    audit.match()
    audit.judge_supply(CHAIN, None)
    return audit


def received(key: str, request_id: str, kind: RequestType, seat: str | None) -> RequestReceived:
    return RequestReceived(
        request_key=key,
        request_id=request_id,
        type=kind,
        chain_id=CHAIN,
        user=USER,
        amount=str(TOKEN if kind is RequestType.MINT else 5),
        fiat_ref="w",
        origin="somewhere",
        origin_event=seat,
    )


def test_ids_are_words_and_burns_need_no_asking() -> None:
    minted = event(EventName.MINTED, PROFILE.contract_id("m-1"), TOKEN, 0)
    place = f"{word(1)}:1"
    burnt = event(EventName.REDEEMED_AT_ONCE, place, 5, 1)
    key = f"redeem:{CHAIN}:{place}"
    done = {"tx_hash": word(1), "block_number": 7}
    audit = judged(
        received("m-1", "m-1", RequestType.MINT, None),
        RequestCompleted(request_key="m-1", seat=minted.seat, **done),
        received(key, place, RequestType.REDEEM, burnt.seat),
        RequestCompleted(request_key=key, seat=burnt.seat, **done),
        minted,
        burnt,
        mint_ok("m-1"),
    )
    assert kinds(audit.findings) == {}
    assert audit.supplies[CHAIN].on_log == audit.supplies[CHAIN].by_facts == TOKEN - 5


def test_a_word_that_kuro_never_named() -> None:
    audit = judged(event(EventName.MINTED, PROFILE.contract_id("m-2"), TOKEN, 0), mint_ok("m-1"))
    assert audit.findings.counts[Kind.MINT_WITHOUT_KURO] == 1
