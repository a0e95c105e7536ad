"""A chain's supply by its events beside what its contract says, and the search for what differs."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.conserving import Ledger
from orchestrator.core.objections import ObjectionKind, standing
from orchestrator.core.supply import (
    MOST_QUESTIONS,
    Change,
    Difference,
    Floor,
    Move,
    Search,
    SupplyBook,
    first_otherwise,
)
from schemas.evm import (
    BlocksFollowed,
    ChainHalted,
    EventName,
    SupplyCompared,
    SupplyTraced,
)
from tests.core.facts import CHAIN
from tests.core.test_conserving import CONTRACT, allowed, approval, happened, taken_back

OTHER_CHAIN = CHAIN + 1


def marked(block: int, chain: int = CHAIN) -> BlocksFollowed:
    return BlocksFollowed(
        chain_id=chain, from_block=0, to_block=block, to_hash=f"0x{block:064x}", to_timestamp=block
    )


def compared(
    block: int, total: int, *, chain: int = CHAIN, baseline: bool = False
) -> SupplyCompared:
    return SupplyCompared(
        chain_id=chain,
        contract=CONTRACT,
        block_number=block,
        block_hash=f"0x{block:064x}",
        block_timestamp=block,
        total_supply=total,
        by_events=0,
        baseline=baseline,
    )


def traced(found: SupplyCompared, detail: str = "It began in block 8") -> SupplyTraced:
    return SupplyTraced(chain_id=found.chain_id, compared=found.id, questions=3, detail=detail)


def book(*facts: object) -> SupplyBook:
    made = SupplyBook()
    for fact in facts:
        made.fold(fact)  # type: ignore[arg-type]
    return made


def ledger(*facts: object) -> Ledger:
    made = Ledger({})
    for fact in facts:
        made.fold(fact)  # type: ignore[arg-type]
    return made


def test_what_events_explain_is_no_difference():
    burnt = happened("r-1", 40, EventName.REDEEMED, block=8)
    gone = happened("r-2", 10, EventName.REDEEMED_AT_ONCE, block=9)
    asked = happened("r-3", 5, EventName.REDEEM_REQUESTED, block=9)
    held = book(happened("m-1", 100), burnt, gone, asked, burnt, marked(9), compared(9, 50))
    assert held.by_events == 50 and not held.differences and held.compared == compared(9, 50)


def test_each_new_difference_stands_by_itself():
    held = book(happened("m-1", 100), marked(9), compared(9, 100), marked(12), compared(12, 400))
    [first] = held.differences
    assert first.amount == 300 and first.floor == Floor(9, True) and held.open is first
    assert "300 more than they tell" in first.why and "being searched" in first.why
    held.fold(traced(first.compared))
    assert held.open is None and "It began in block 8" in first.why
    for fact in (marked(15), compared(15, 400), compared(15, 400)):
        held.fold(fact)
    assert held.differences == [first]
    for fact in (marked(18), compared(18, 380)):
        held.fold(fact)
    assert [one.amount - one.before for one in held.differences] == [300, -20]
    assert "20 less than they tell" in held.differences[1].why
    assert len({one.order for one in held.differences}) == 2
    assert all(len(one.order) <= 64 for one in held.differences)


def test_a_later_comparison_ends_the_wait_for_a_search():
    held = book(marked(9), compared(9, 0), marked(12), compared(12, 7), marked(15), compared(15, 7))
    [one] = held.differences
    assert one.settleable and "searched" not in one.why
    held.fold(traced(one.compared))
    assert one.traced is None, "its words stand in a pause by now"


def test_what_was_there_before_is_no_difference():
    held = book(compared(99, 500, baseline=True), happened("m-1", 100, block=101), marked(110))
    held.fold(compared(110, 600))
    assert not held.differences
    for fact in (marked(120), compared(120, 601)):
        held.fold(fact)
    [one] = held.differences
    assert one.before == 500 and "and 500 from before" in one.why


def test_without_a_baseline_what_was_there_is_a_difference_that_a_person_settles():
    held = book(marked(9), compared(9, 500))
    [one] = held.differences
    assert one.amount == 500 and one.floor is None


def test_a_baseline_that_comes_late_counts_no_more():
    held = book(marked(9), compared(9, 0), compared(3, 500, baseline=True), marked(12))
    held.fold(compared(12, 0))
    assert not held.differences


def test_a_comparison_that_does_not_stand_at_the_cursor_counts_for_nothing():
    held = book(marked(9), compared(8, 500))
    assert held.compared is None and not held.differences


def test_what_a_reorganisation_took_back_counts_no_more():
    kept, lost = happened("m-1", 100), happened("m-2", 30, block=9)
    halted = ChainHalted(
        chain_id=CHAIN,
        block_number=9,
        block_hash=f"0x{9:064x}",
        fork_block=8,
        fork_hash=f"0x{8:064x}",
        reason="deep",
    )
    held = book(kept, marked(7), compared(7, 100), lost, marked(9), compared(9, 130))
    for fact in (taken_back(lost), taken_back(lost), halted):
        held.fold(fact)
    assert held.by_events == 100
    assert held.compared is not None and held.compared.block_number == 9
    held.fold(compared(9, 777))
    assert not held.differences, "the cursor is the fork"
    for fact in (happened("m-3", 5, block=10), marked(10), compared(10, 999)):
        held.fold(fact)
    [one] = held.differences
    assert one.floor == Floor(8, False), "what was compared above the fork is gone with it"
    assert one.expected(8) == 100 and one.expected(10) == 105


# The gate


def test_a_supply_that_no_event_explains_stops_its_chain_until_a_person_settles_it():
    """Somebody with a minter's role mints beside us. Without the comparison, it is signed."""
    before = [allowed("m-1"), marked(9), compared(9, 0), marked(12)]
    assert ledger(*before).judge("m-1", approval("m-1")) is None
    held = ledger(*before, compared(12, 3 * 10**14))
    [doubt] = held.doubts()
    assert doubt.chain_id == CHAIN and not doubt.settleable and doubt.surplus == 3 * 10**14
    assert standing(held.doubts(), CHAIN, ()) == doubt
    assert standing(held.doubts(), CHAIN, {doubt.order}) is None
    found = held.judge("m-1", approval("m-1"))
    assert found is not None and found.kind is ObjectionKind.EXCEEDED
    held.fold(traced(compared(12, 3 * 10**14)))
    [doubt] = held.doubts()
    assert doubt.settleable and "It began in block 8" in doubt.why
    assert held.judge("m-1", approval("m-1"), {doubt.order}) is None


def test_an_unexplained_supply_elsewhere_counts_in_total():
    other = [marked(9, OTHER_CHAIN), compared(9, 50, chain=OTHER_CHAIN)]
    held = ledger(allowed("m-1"), marked(9), compared(9, 0), *other)
    found = held.judge("m-1", approval("m-1"))
    assert found is not None and found.kind is ObjectionKind.EXCEEDED_IN_TOTAL
    held.fold(allowed("m-2", 50))
    assert held.judge("m-1", approval("m-1")) is None


def test_less_than_the_events_tell_is_a_doubt_as_well():
    """A burn that nobody told of, or a node that lies."""
    held = ledger(allowed("m-1"), happened("m-1"), marked(9), compared(9, 60))
    [doubt] = held.doubts()
    assert doubt.surplus == 0 and "40 less" in doubt.why


# Searching


def difference(high: int, floor: Floor, changes: list[Change], surplus: int = 7) -> Difference:
    by_events = sum(one.amount for one in changes)
    return Difference(compared(high, by_events + surplus), by_events, 0, floor, changes)


@given(st.data())
def test_a_search_finds_the_first_block_that_differs(data):
    """Whatever events lie between, whichever states are gone."""
    low = data.draw(st.integers(0, 50), label="low")
    high = low + data.draw(st.integers(1, 5000), label="span")
    began = data.draw(st.integers(low + 1, high), label="began")
    places = data.draw(st.lists(st.integers(low + 1, high), max_size=5))
    changes = [Change(at, 10 * (n + 1), f"0x{n}") for n, at in enumerate(places)]
    gone_below = data.draw(st.integers(0, high), label="states are kept from")
    sure = data.draw(st.booleans(), label="agrees")
    one = difference(high, Floor(low, sure), changes)
    search = Search(one, Floor(low, sure))
    while (number := search.next) is not None:
        assert low <= number < high
        total = sum(item.amount for item in changes if item.block_number <= number)
        state = total + (7 if number >= began else 0)
        search.answer(state if number >= gone_below else None)
    assert search.questions <= 16
    assert not search.earlier
    if search.exact:
        assert search.differs == began
    else:
        agrees = -1 if search.agrees is None else search.agrees
        assert agrees < began <= search.differs and search.hidden < gone_below
        assert search.differs - max(search.hidden, agrees) == 1, "all was asked that there was"


def test_what_differs_at_the_floor_already_is_told_as_such():
    floor = Floor(99, False)
    search = Search(difference(1000, floor, []), floor)
    assert search.next == 99
    search.answer(7)
    assert search.next is None and search.earlier and not search.exact


def test_a_search_is_bounded():
    floor = Floor(0, True)
    search = Search(difference(2**63 - 1, floor, []), floor)
    while (number := search.next) is not None:
        search.answer(7 if number >= 5 else 0)
    assert search.exact and search.questions <= MOST_QUESTIONS


def test_the_transaction_whose_transfers_the_log_does_not_tell():
    moves = [Move(8, 3, "0xb", 300), Move(8, 1, "0xa", 100), Move(8, 4, "0xb", -1)]
    assert first_otherwise(moves, {"0xa": 100, "0xb": 299}) is None
    assert first_otherwise(moves, {"0xa": 100}) == ("0xb", 299, 0)
    assert first_otherwise(moves, {"0xb": 299}) == ("0xa", 100, 0)
    assert first_otherwise([], {"0xa": 0, "0xc": 5}) == ("0xc", 0, 5)
    assert first_otherwise([], {}) is None
