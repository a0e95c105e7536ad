"""A clean log is clean; a planted discrepancy of each kind is found and named."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime

import orjson
import pytest

from orchestrator.auditing import report
from orchestrator.core.auditing.books import EventBook, show_position
from orchestrator.core.auditing.findings import MEANING, SHOWN_PER_KIND, Findings, Kind, Note
from schemas.base import RequestType
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import BlocksFollowed, ChainHalted, ContractEvent, EventName, EventRetracted
from schemas.lanes import (
    NonceTaken,
    TransactionBroadcast,
    TransactionFinal,
    TransactionPrepared,
)
from schemas.requests import (
    ApprovalDrafted,
    ApprovalSigned,
    RequestCompleted,
    RequestReceived,
)
from tests.core.audited import (
    CHAIN,
    FINAL,
    OTHER,
    SEAT,
    TOKEN,
    USER,
    World,
    audited,
    block_hash,
    clean_world,
    kinds,
    mint,
    mint_ok,
    word,
)
from tests.core.uncleared import signed_uncleared, signed_under_a_policy_of_before

Plant = Callable[[World], None]


def outsider_mints(world: World) -> None:
    """The key was used without Kuro; the chain took it, and the log saw it."""
    world.append(world.happen(EventName.MINTED, "outsider", OTHER, TOKEN, 33))


def other_recipient(world: World) -> None:
    event = world.happen(EventName.MINTED, "m-9", OTHER, TOKEN, 34)
    world.append(mint_ok("m-9"), event)


def minted_again(world: World) -> None:
    event = world.happen(EventName.MINTED, "m-1", USER, TOKEN, 35)
    world.append(event)


def fiat_ref_reused(world: World) -> None:
    mint(world, "m-3", fiat_ref="wire-m-1")


def redeemed_without_asking(world: World) -> None:
    world.append(world.happen(EventName.REDEEMED, "redeem-9", USER, 1, 36))


def redeemed_another_amount(world: World) -> None:
    world.append(world.happen(EventName.REDEEM_REQUESTED, "redeem-8", USER, 7, 36))
    world.append(world.happen(EventName.REDEEMED, "redeem-8", USER, 8, 37))


def redeemed_again(world: World) -> None:
    world.append(world.happen(EventName.REDEEMED, "redeem-1", USER, TOKEN // 2, 38))


def minted_by_the_owner(world: World) -> None:
    world.supply += 1


def two_works_on_one_nonce(world: World) -> None:
    prepared = world.find(TransactionPrepared)
    other = world.find(TransactionPrepared, 1)
    changed = {"relay": "m-x:1", "tx_hash": other.tx_hash, "raw": other.raw}
    world.append(prepared.model_copy(update=changed))


def two_finals_on_one_nonce(world: World) -> None:
    final, other = world.find(TransactionFinal), world.find(TransactionPrepared, 1)
    world.append(other.model_copy(update={"nonce": final.nonce, "relay": final.relay}))
    world.append(final.model_copy(update={"tx_hash": other.tx_hash}))


def wallet_used_elsewhere(world: World) -> None:
    world.nonce += 1


def nonce_found_taken(world: World) -> None:
    world.append(NonceTaken(**SEAT, nonce=9, block_number=40))


def sent_before_prepared(world: World) -> None:
    sent = world.find(TransactionBroadcast)
    world.append(sent.model_copy(update={"tx_hash": word(0xBAD)}))


def other_bytes(world: World) -> None:
    world.append(world.find(TransactionPrepared).model_copy(update={"raw": "0x02", "nonce": 40}))


def final_elsewhere(world: World) -> None:
    final = world.find(TransactionFinal)
    world.replace(final, final.model_copy(update={"block_hash": word(0xBAD)}))


def final_before_its_time(world: World) -> None:
    world.append(*world.transact("m-x:1"))
    world.nonce -= 1


def sent_by_another(world: World) -> None:
    tx_hash = world.find(TransactionFinal).tx_hash
    world.mined[tx_hash] = replace(world.mined[tx_hash], sender=OTHER)


def signed_without_draft(world: World) -> None:
    world.replace(world.find(ApprovalDrafted), None)


def signed_before_draft(world: World) -> None:
    facts = world.log["requests"]
    draft, signed = world.find(ApprovalDrafted), world.find(ApprovalSigned)
    facts.remove(signed)
    facts.insert(facts.index(draft), signed)


def unsound_signature(world: World) -> None:
    signed = world.find(ApprovalSigned)
    spoilt = signed.signature[:10] + ("0" if signed.signature[10] != "0" else "1")
    world.replace(signed, signed.model_copy(update={"signature": spoilt + signed.signature[11:]}))


def another_key(world: World) -> None:
    from eth_keys.main import KeyAPI

    key = KeyAPI().PrivateKey(b"\x33" * 32)
    signed = world.find(ApprovalSigned)
    made = key.sign_msg_hash(bytes.fromhex(signed.digest[2:]))
    raw = made.r.to_bytes(32, "big") + made.s.to_bytes(32, "big") + bytes([27 + made.v])
    update = {"signature": "0x" + raw.hex(), "signer": key.public_key.to_checksum_address()}
    world.replace(signed, signed.model_copy(update=update))


def draft_of_another_amount(world: World) -> None:
    draft = world.find(ApprovalDrafted)
    world.replace(draft, draft.model_copy(update={"deadline": draft.deadline + 1}))


def received_without_kuro(world: World) -> None:
    """A fact appended by hand: whoever may write to the topic asks for a mint."""
    first = world.find(RequestReceived)
    world.append(first.model_copy(update={"request_key": "by-hand", "request_id": "by-hand"}))


def redeem_received_without_event(world: World) -> None:
    first = world.find(RequestReceived, 2)
    assert first.type is RequestType.REDEEM
    key = f"redeem:{CHAIN}:redeem-77"
    update = {"request_key": key, "request_id": "redeem-77", "origin_event": f"{CHAIN}:{word(1)}:1"}
    world.append(first.model_copy(update=update))


def received_with_more(world: World) -> None:
    first = world.find(RequestReceived)
    world.append(mint_ok("m-7"))
    update = {"request_key": "m-7", "request_id": "m-7", "amount": str(9 * TOKEN)}
    world.append(first.model_copy(update=update))


def completed_by_hand(world: World) -> None:
    done = world.find(RequestCompleted)
    world.append(done.model_copy(update={"seat": f"{CHAIN}:{word(5)}:5"}))


def completed_by_anothers_event(world: World) -> None:
    done, other = world.find(RequestCompleted), world.find(RequestCompleted, 1)
    world.append(done.model_copy(update={"seat": other.seat}))


def never_completed(world: World) -> None:
    world.replace(world.find(RequestCompleted), None)


def left_out_by_the_follower(world: World) -> None:
    world.happen(EventName.REDEEM_REQUESTED, "redeem-5", USER, 5, 39)


def event_by_hand(world: World) -> None:
    event = world.happen(EventName.REDEEM_REQUESTED, "redeem-5", USER, 5, 39)
    world.chain_logs.pop()
    world.append(event)


def event_told_wrongly(world: World) -> None:
    event = world.find(ContractEvent)
    world.replace(event, event.model_copy(update={"tx_hash": word(0xBAD)}))


def another_block(world: World) -> None:
    world.head_hash = word(0xBAD)


def blocks_left_out(world: World) -> None:
    last = world.find(BlocksFollowed, 1)
    world.replace(last, last.model_copy(update={"from_block": 45}))


def garbage(world: World) -> None:
    world.append(b"not a fact", topic="requests")


def wrong_id(world: World) -> None:
    """What the service refuses, the audit must not take for a Kuro fact."""
    from schemas.base import Record, encode_value, instant

    body = encode_value(Record(mint_ok("outsider"), instant(1)))
    world.append(body.replace(b"mint-ok:outsider", b"mint-ok:other"), topic="kuro.events")
    outsider_mints(world)


PLANTS: list[tuple[Plant, set[Kind]]] = [
    (outsider_mints, {Kind.MINT_WITHOUT_KURO, Kind.SUPPLY_DIFFERS}),
    (other_recipient, {Kind.MINT_DIFFERS, Kind.SUPPLY_DIFFERS}),
    (minted_again, {Kind.MINTED_TWICE, Kind.SUPPLY_DIFFERS}),
    (fiat_ref_reused, {Kind.FIAT_REF_REUSED}),
    (redeemed_without_asking, {Kind.REDEEM_WITHOUT_REQUEST, Kind.SUPPLY_DIFFERS}),
    (redeemed_another_amount, {Kind.REDEEM_DIFFERS, Kind.SUPPLY_DIFFERS}),
    (redeemed_again, {Kind.REDEEMED_TWICE, Kind.SUPPLY_DIFFERS}),
    (minted_by_the_owner, {Kind.SUPPLY_DIFFERS}),
    (two_works_on_one_nonce, {Kind.NONCE_TWO_OWNERS}),
    (two_finals_on_one_nonce, {Kind.NONCE_TWO_OWNERS}),
    (wallet_used_elsewhere, {Kind.NONCE_OUTSIDE}),
    (nonce_found_taken, {Kind.NONCE_OUTSIDE}),
    (sent_by_another, {Kind.NONCE_OUTSIDE}),
    (sent_before_prepared, {Kind.TRANSACTION_UNPREPARED}),
    (other_bytes, {Kind.TRANSACTION_UNPREPARED}),
    (final_elsewhere, {Kind.TRANSACTION_DIFFERS}),
    (final_before_its_time, {Kind.TRANSACTION_DIFFERS}),
    (signed_uncleared, {Kind.SIGNATURE_UNCLEARED}),
    (signed_under_a_policy_of_before, {Kind.SIGNATURE_UNCLEARED}),
    (signed_without_draft, {Kind.SIGNATURE_WITHOUT_DRAFT}),
    (signed_before_draft, {Kind.SIGNATURE_WITHOUT_DRAFT}),
    (unsound_signature, {Kind.SIGNATURE_UNSOUND}),
    (another_key, {Kind.SIGNER_UNKNOWN}),
    (draft_of_another_amount, {Kind.DRAFT_DIFFERS}),
    (received_without_kuro, {Kind.REQUEST_WITHOUT_ORIGIN}),
    (redeem_received_without_event, {Kind.REQUEST_WITHOUT_ORIGIN}),
    (received_with_more, {Kind.REQUEST_DIFFERS}),
    (completed_by_hand, {Kind.COMPLETED_WITHOUT_EVENT}),
    (completed_by_anothers_event, {Kind.COMPLETED_WITHOUT_EVENT}),
    (never_completed, {Kind.EVENT_NOT_COMPLETED, Kind.SUPPLY_DIFFERS}),
    (left_out_by_the_follower, {Kind.EVENT_NOT_ON_LOG}),
    (event_by_hand, {Kind.EVENT_NOT_ON_CHAIN}),
    (event_told_wrongly, {Kind.EVENT_DIFFERS}),
    (another_block, {Kind.BLOCK_DIFFERS}),
    (blocks_left_out, {Kind.RANGE_GAP}),
    (garbage, {Kind.UNREADABLE_RECORD}),
    (wrong_id, {Kind.UNREADABLE_RECORD, Kind.MINT_WITHOUT_KURO, Kind.SUPPLY_DIFFERS}),
]


def test_every_kind_is_planted_and_says_what_it_disproves() -> None:
    assert {kind for _, found in PLANTS for kind in found} == set(Kind) == set(MEANING)


async def test_a_clean_world_is_clean() -> None:
    audit, run = await audited(clean_world())
    assert kinds(audit.findings) == {}
    assert report.verdict(audit, run) == report.CLEAN
    supply = audit.supplies[CHAIN]
    assert supply.total_supply == supply.on_log == supply.by_facts == 5 * TOKEN // 2
    assert (run.standings[CHAIN].block_number, run.standings[CHAIN].block_hash) == (
        FINAL,
        block_hash(FINAL),
    )
    assert run.standings[CHAIN].transactions == audit.requests.signatures == 3


@pytest.mark.parametrize(("plant", "expected"), PLANTS, ids=[p.__name__ for p, _ in PLANTS])
async def test_a_plant_is_found_and_named(plant: Plant, expected: set[Kind]) -> None:
    world = clean_world()
    plant(world)
    audit, run = await audited(world)
    found = {kind for kind in audit.findings.counts if isinstance(kind, Kind)}
    assert found == expected
    assert report.verdict(audit, run) == report.DISCREPANCIES
    for item in audit.findings.shown:
        assert item.subject and item.detail


@pytest.mark.parametrize(
    "plant", [outsider_mints, completed_by_hand, signed_without_draft, fiat_ref_reused]
)
async def test_the_log_alone_tells_as_well(plant: Plant) -> None:
    audit, run = await audited(clean_world(), offline=True)
    assert report.verdict(audit, run) == report.CLEAN
    world = clean_world()
    plant(world)
    audit, run = await audited(world, offline=True)
    assert report.verdict(audit, run) == report.DISCREPANCIES


async def test_facts_told_twice_are_one_fact() -> None:
    world = clean_world()
    for facts in world.log.values():
        facts += [fact for fact in facts if not isinstance(fact, BlocksFollowed)]
    audit, _ = await audited(world)
    assert kinds(audit.findings) == {}


async def test_what_is_refused_loudly_is_a_note() -> None:
    world = clean_world()
    world.append(mint_ok("m-1", user=OTHER), b"not a fact", topic="kuro.events")
    letter = DeadLetter.of(DeadLetterReason.MALFORMED, "no", b"x", origin="kuro.events/0/0")
    audit, run = await audited(world)
    [broken] = [f for f in audit.findings.shown if f.kind is Kind.UNREADABLE_RECORD]
    world.append(letter.model_copy(update={"origin": broken.subject}))
    audit, run = await audited(world)
    assert report.verdict(audit, run) == report.CLEAN
    assert audit.findings.counts[Note.KURO_TOLD_OTHERWISE] == 1


async def test_a_new_event_may_still_be_on_its_way() -> None:
    world = clean_world()
    world.replace(world.find(RequestCompleted, 1), None)
    world.ages[id(world.find(ContractEvent, 1))] = 9_950
    audit, run = await audited(world)
    assert kinds(audit.findings) == {"EVENT_PENDING": 1}
    assert report.verdict(audit, run) == report.CLEAN


async def test_what_a_reorganisation_took_back_counts_no_more() -> None:
    world = clean_world()
    event = mint(world, "m-4")
    world.chain_logs.pop()
    world.supply -= event.amount
    gone = {name: getattr(event, name) for name in EventRetracted.model_fields if name != "reason"}
    world.append(EventRetracted(**gone, reason="a deep reorganisation"))
    audit, run = await audited(world)
    assert kinds(audit.findings) == {"EVENT_RETRACTED": 1}
    assert report.verdict(audit, run) == report.CLEAN


async def test_judged_at_an_earlier_block() -> None:
    world = clean_world()
    burnt = [log for log in world.chain_logs if log.block_number > 25]
    world.supply = 3 * TOKEN
    audit, run = await audited(world, at_blocks={CHAIN: 25})
    assert len(burnt) == 2
    assert kinds(audit.findings) == {}
    assert run.standings[CHAIN].block_hash == block_hash(25)
    audit, run = await audited(clean_world(), at_blocks={CHAIN: FINAL + 1})
    assert run.problems == [f"chain {CHAIN}: the log follows it to block {FINAL} only"]
    assert report.verdict(audit, run) == report.INCOMPLETE


async def test_a_halted_chain_is_judged_to_its_fork() -> None:
    world = clean_world()
    world.append(
        ChainHalted(
            chain_id=CHAIN,
            block_number=FINAL,
            block_hash=block_hash(FINAL),
            fork_block=40,
            fork_hash=block_hash(40),
            reason="deep",
        )
    )
    audit, run = await audited(world)
    assert kinds(audit.findings) == {}
    assert run.standings[CHAIN].block_number == 40


async def test_the_report_reads_prints_and_keeps_figures() -> None:
    world = clean_world()
    outsider_mints(world)
    world.append(mint_ok("<script>", user="<b>"), mint_ok("<script>"))
    world.append(DeadLetter.of(DeadLetterReason.CONFLICT, "no", b"x", origin="requests/0/0"))
    audit, run = await audited(world)
    body = report.as_json(audit, run, datetime(2026, 1, 31, tzinfo=UTC), 2.0, False)
    assert orjson.loads(orjson.dumps(body)) == body
    page, text = report.as_html(body), report.as_text(body)
    for shown in (page, text):
        assert block_hash(FINAL) in shown
        assert "MINT_WITHOUT_KURO" in shown
        assert str(7 * TOKEN // 2) in shown
    assert "<script" not in page and "http://" not in page and "https://" not in page
    assert "@media print" in page
    assert body["exitCode"] == 1
    assert body["claims"][0] == {
        "kind": "MINT_WITHOUT_KURO",
        "claim": "every Minted has a Kuro fact",
        "found": 1,
    }


def test_all_are_counted_and_the_first_are_kept() -> None:
    findings = Findings(only=frozenset({1}))
    for number in range(SHOWN_PER_KIND + 5):
        findings.add(Kind.RANGE_GAP, 1, str(number), "d")
        findings.add(Kind.RANGE_GAP, 2, str(number), "d")
    assert findings.discrepancies == SHOWN_PER_KIND + 5
    assert len(findings.shown) == SHOWN_PER_KIND
    assert show_position(2**64 - 1) == "nowhere"
    assert EventBook().standing() == []
