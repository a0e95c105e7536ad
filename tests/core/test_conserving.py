"""The gate's own fold: what each rule refuses, and that without it the harm would pass."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.conserving import Ledger, amount_of
from orchestrator.core.contract import Approval
from orchestrator.core.launchpad_profile import contract_id
from orchestrator.core.objections import ObjectionKind, exceeded, standing
from schemas.base import UINT256_MAX, RequestType
from schemas.evm import ContractEvent, EventName, EventRetracted
from schemas.kuro import MintOk, Via
from tests.core.facts import CHAIN, OTHER_USER, USER

OTHER_CHAIN = CHAIN + 1
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


def allowed(name: str, amount: int | str = 100, user: str = USER, chain: int = CHAIN) -> MintOk:
    return MintOk(
        request_id=name,
        user=user,
        amount=str(amount),
        fiat_ref=f"wire-{name}",
        chain_id=chain,
        timestamp_ms=1,
        via=Via.SOCKET,
    )


def happened(
    name: str,
    amount: int = 100,
    event: EventName = EventName.MINTED,
    *,
    block: int = 7,
    chain: int = CHAIN,
    account: str = USER,
) -> ContractEvent:
    return ContractEvent(
        chain_id=chain,
        block_number=block,
        block_hash=f"0x{block:064x}",
        block_timestamp=1_700_000_000 + block,
        tx_hash=f"0x{block:062x}77",
        log_index=0,
        contract=CONTRACT,
        event=event,
        request_id=name,
        account=account,
        amount=amount,
    )


def taken_back(event: ContractEvent) -> EventRetracted:
    seat = event.model_dump(include=set(EventRetracted.model_fields) - {"reason"})
    return EventRetracted(**seat, reason="reorganised away")


def approval(name: str, amount: int = 100, **fields: object) -> Approval:
    plain = Approval(RequestType.MINT, CHAIN, CONTRACT, name, USER, amount, 5, 2**33)
    return replace(plain, **fields)


def ledger(*facts: object, names: object = None) -> Ledger:
    made = Ledger(names or {})  # type: ignore[arg-type]
    for fact in facts:
        made.fold(fact)  # type: ignore[arg-type]
    return made


def kind_of(
    book: Ledger, asked: Approval, key: str | None = None, settled: frozenset[str] = frozenset()
) -> ObjectionKind | None:
    found = book.judge(key or asked.request_id, asked, settled)
    return None if found is None else found.kind


def test_a_mint_with_its_fact_passes():
    assert kind_of(ledger(allowed("m-1")), approval("m-1")) is None
    assert kind_of(ledger(allowed("m-1", "000100", USER.lower())), approval("m-1")) is None


def test_a_draft_that_nobody_allowed_does_not():
    assert kind_of(ledger(allowed("m-1")), approval("m-2")) is ObjectionKind.NO_FACT


@pytest.mark.parametrize(
    "asked",
    [
        approval("m-1", 101),
        approval("m-1", 99),
        approval("m-1", account=OTHER_USER),
        approval("m-1", chain_id=OTHER_CHAIN),
    ],
)
def test_what_differs_from_its_fact_does_not(asked):
    assert kind_of(ledger(allowed("m-1")), asked) is ObjectionKind.OTHER_CONTENT


def test_of_two_facts_of_an_id_the_first_counts():
    book = ledger(allowed("m-1"), allowed("m-1", 300))
    assert kind_of(book, approval("m-1", 300)) is ObjectionKind.OTHER_CONTENT
    assert kind_of(book, approval("m-1")) is None
    assert book.covered[CHAIN] == 100


def test_one_fact_backs_one_request():
    book = ledger(allowed("m-1"))
    assert kind_of(book, approval("m-1"), key="another") is ObjectionKind.OTHER_KEY


def test_what_is_no_amount_covers_nothing():
    texts = ["", "-5", "1e9", "0x10", "٣", str(UINT256_MAX + 1), "9" * 5000]
    assert [amount_of(text) for text in texts] == [0] * len(texts)
    assert amount_of(str(UINT256_MAX)) == UINT256_MAX
    book = ledger(allowed("m-1", "0"))
    assert kind_of(book, approval("m-1", 0)) is ObjectionKind.OTHER_CONTENT


def test_a_mint_without_a_fact_is_a_doubt_that_names_block_and_transaction():
    outside = happened("outsider", 300)
    book = ledger(allowed("m-1"), outside)
    [doubt] = book.doubts()
    assert doubt.chain_id == CHAIN and outside.tx_hash in doubt.why and "block 7" in doubt.why
    assert standing(book.doubts(), CHAIN, ()) == doubt
    assert standing(book.doubts(), OTHER_CHAIN, ()) is None
    assert standing(book.doubts(), CHAIN, {doubt.order}) is None
    assert kind_of(book, approval("m-1")) is ObjectionKind.EXCEEDED
    assert kind_of(book, approval("m-1"), settled=frozenset({doubt.order})) is None


def test_an_excess_elsewhere_counts_in_total():
    book = ledger(allowed("m-1"), happened("outsider", 1, chain=OTHER_CHAIN))
    assert kind_of(book, approval("m-1")) is ObjectionKind.EXCEEDED_IN_TOTAL


def test_a_fact_that_comes_later_ends_the_doubt():
    book = ledger(happened("late", 300))
    assert book.doubts()
    book.fold(allowed("late", 300))
    assert not book.doubts()
    assert kind_of(book, approval("late", 300)) is ObjectionKind.DONE


@pytest.mark.parametrize("changed", [{"amount": 101}, {"account": OTHER_USER}])
def test_a_mint_of_another_content_under_an_allowed_id_is_a_doubt(changed):
    book = ledger(allowed("m-1"), happened("m-1", **changed))
    assert len(book.doubts()) == 1


def test_a_fact_backs_one_mint_and_a_retracted_one_no_more():
    first, again = happened("m-1"), happened("m-1", block=9)
    book = ledger(allowed("m-1"), first, first, again)
    assert len(book.doubts()) == 1 and book.minted[CHAIN] == 200
    book.fold(taken_back(first))
    book.fold(taken_back(first))
    assert not book.doubts() and book.minted[CHAIN] == 100
    book.fold(taken_back(again))
    assert book.minted[CHAIN] == 0 and kind_of(book, approval("m-1")) is None


def test_what_was_approved_outside_of_the_facts_takes_their_room():
    """As after a restart with a signed approval on the log that nobody allowed."""
    book = ledger(allowed("m-1"), allowed("m-2"))
    book.approve(approval("forged", 150))
    assert kind_of(book, approval("m-1")) is ObjectionKind.EXCEEDED
    [first, again] = [exceeded("m-1", approval("m-1"), "0x" + "ab" * 32) for _ in "12"]
    assert first == again and first.chain_id == CHAIN


def test_approved_then_minted_counts_once():
    book = ledger(allowed("m-1"), allowed("m-2"))
    for name in ("m-1", "m-2"):
        assert kind_of(book, approval(name)) is None
        book.approve(approval(name))
        book.approve(approval(name))
    assert book.approved[CHAIN] == 200
    book.fold(happened("m-1"))
    book.approve(approval("m-1"))
    assert (book.approved[CHAIN], book.minted[CHAIN]) == (100, 100)
    assert kind_of(book, approval("m-2")) is None


def test_a_redeem_rests_on_its_own_event():
    asked = approval("redeem-1", type=RequestType.REDEEM)
    key = f"redeem:{CHAIN}:redeem-1"
    event = happened("redeem-1", event=EventName.REDEEM_REQUESTED)
    assert kind_of(ledger(), asked, key) is ObjectionKind.NO_FACT
    book = ledger(event)
    assert kind_of(book, asked, key) is None
    assert kind_of(book, replace(asked, amount=101), key) is ObjectionKind.OTHER_CONTENT
    assert kind_of(book, asked, "redeem-1") is ObjectionKind.OTHER_KEY
    again = happened("redeem-1", event=EventName.REDEEM_REQUESTED, block=9)
    book.fold(again)
    book.fold(taken_back(event))
    assert kind_of(book, asked, key) is None
    book.fold(taken_back(again))
    assert kind_of(book, asked, key) is ObjectionKind.TAKEN_BACK


def test_a_signature_that_no_fact_allows_is_a_doubt_until_its_fact_comes():
    """As one from before the gate, or by another process that was taken over."""
    book = ledger(allowed("m-1"))
    book.approve(approval("forged", 150))
    book.approve(approval("m-1"))
    [doubt] = book.doubts()
    assert doubt.chain_id == CHAIN and "forged" in doubt.why and len(doubt.order) <= 64
    book.approve(approval("m-1", 90))
    assert len(book.doubts()) == 2
    book.fold(allowed("forged", 150))
    assert len(book.doubts()) == 1
    book.approve(approval("m-1"))
    assert not book.doubts()


def test_a_signature_without_a_fact_takes_no_room_once_a_person_settled_it():
    book = ledger(allowed("m-1"))
    book.approve(approval("forged", 150))
    settled = frozenset(doubt.order for doubt in book.doubts())
    assert kind_of(book, approval("m-1")) is ObjectionKind.EXCEEDED
    assert kind_of(book, approval("m-1"), settled=settled) is None


def test_a_name_that_is_the_id_of_one_fact_and_the_hash_of_another():
    """Either may be minted there, and only one of them."""
    name = contract_id("m-1")
    book = ledger(allowed("m-1"), allowed(name, 300), names={CHAIN: contract_id})
    book.fold(happened(name, 300))
    assert not book.doubts()
    book.fold(happened(name, 100, block=9))
    assert len(book.doubts()) == 1


def test_where_a_contract_has_its_own_names():
    book = ledger(allowed("m-1"), happened(contract_id("m-1")), names={CHAIN: contract_id})
    assert not book.doubts()
    assert kind_of(book, approval("m-1")) is ObjectionKind.DONE


@given(st.data())
def test_never_more_than_what_is_covered_in_any_order(data):
    """Whatever is asked in whatever order: what passes, with what is minted, stays within."""
    names = [f"m-{number}" for number in range(5)]
    amounts = {name: data.draw(st.integers(1, 50), label=name) for name in names}
    steps: list[tuple[str, str]] = [("allow", n) for n in names] + [("ask", n) for n in names]
    steps += [("ask", n) for n in names] + [("mint", n) for n in names] + [("outside", "x")]
    book, passed = Ledger({}), set()
    for act, name in data.draw(st.permutations(steps)):
        amount = amounts.get(name, 7)
        if act == "allow":
            book.fold(allowed(name, amount))
        elif act == "ask" and kind_of(book, approval(name, amount)) is None:
            book.approve(approval(name, amount))
            passed.add(name)
            total = book.minted[CHAIN] + book.approved[CHAIN]
            assert total <= book.covered[CHAIN]
        elif act == "outside" or (act == "mint" and name in passed):
            book.fold(happened(name, amount, block=sum(name.encode())))
