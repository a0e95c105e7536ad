"""What is signed may execute whatever became of its request: at each start a gate hears of it, also
of what rests, and before anything is signed."""

from __future__ import annotations

from functools import partial

import pytest
from hypothesis import given, settings

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.adapters.sqlite_archive import SqliteArchive
from orchestrator.core.contract import Approval
from orchestrator.core.objections import ObjectionKind
from orchestrator.core.owing import approval_of
from orchestrator.errors import ArchiveUnavailable
from orchestrator.ports import Archive
from schemas.base import RequestType, encode_value
from schemas.requests import RequestFact
from schemas.topics import REQUESTS
from streams import packing
from streams.books import Book
from streams.conserving import Gate
from streams.resting import MemoryArchive
from streams.signing import SigningDesk
from tests.core.facts import (
    CHAIN,
    MINT_KEY,
    REVERTED,
    TERMS,
    USER,
    assigned,
    cancelled,
    completed,
    drafted,
    evidence,
    failed,
    received,
    record,
    refused,
    retried,
    signed,
    submitted,
)
from tests.core.test_conserving import allowed, happened
from tests.core.test_lifecycle_properties import LOGS, runs
from tests.streams.test_replaying import Calm, Signer, Writer
from tests.streams.test_resting import SEAT, ListedLog, sqlite

AMOUNT = 500
NAMES = [f"m-{n}" for n in range(2000) if partition_of(REQUESTS, f"m-{n}") == SEAT]
RELAYED = [received(key=MINT_KEY, amount=str(AMOUNT))]
RELAYED += [drafted(), signed(), assigned(), submitted()]
FAILED = [*RELAYED, refused(reason=REVERTED), failed()]
SEEN = evidence(1, key=MINT_KEY, amount=AMOUNT)
COMPLETED = [*RELAYED, SEEN, completed(SEEN.seat)]


class Settled(Calm):
    """Controls by which nobody settled anything."""

    class state:
        settled = frozenset()


def put(log: ListedLog, key: str, facts: list[RequestFact]) -> None:
    for second, fact in enumerate(facts):
        changes = {"request_key": key}
        if fact.kind == "RequestReceived":
            changes["request_id"] = key
        told = record(fact.model_copy(update=changes), second)
        log.append(key, encode_value(told))


def desk_of(log: ListedLog, make) -> tuple[SigningDesk, Book, Gate]:
    book = Book(log, make)
    gate = Gate(None, Writer(), Settled(), {})
    return SigningDesk(book, Writer(), Signer(), TERMS, 8, Settled(), gate=gate), book, gate


async def owned(log: ListedLog, make) -> tuple[Book, Gate]:
    desk, book, gate = desk_of(log, make)
    await desk.own({SEAT})
    return book, gate


async def closed(book: Book) -> None:
    for page in book._pages.values():
        await page.settled()
        page.archive.close()


@pytest.fixture(params=["in memory", "on disk"])
def make(request, tmp_path):
    if request.param == "in memory":
        return partial(MemoryArchive, every=2)
    return partial(sqlite, tmp_path / "s")


def awake(book: Book) -> set[str]:
    return {state.key for state in book.states()}


async def test_a_gate_hears_of_what_was_signed_and_failed_and_rests(make):
    """It may be minted until its deadline: while it may, no more is signed than facts cover."""
    log = ListedLog()
    for name in NAMES[:5]:
        put(log, name, FAILED)
    for _ in range(2):
        book, gate = await owned(log, make)
        assert not awake(book) & set(NAMES[:4])
        assert gate.ledger.approved[CHAIN] == 5 * AMOUNT
        await closed(book)


async def test_a_signature_without_its_fact_is_in_doubt_though_its_request_rests(make):
    log = ListedLog()
    put(log, NAMES[0], FAILED)
    put(log, NAMES[1], FAILED)
    for _ in range(2):
        book, gate = await owned(log, make)
        assert NAMES[0] not in awake(book)
        assert {doubt.chain_id for doubt in gate.doubts} == {CHAIN} and len(gate.doubts) == 2
        gate.ledger.fold(allowed(NAMES[0], AMOUNT))
        assert NAMES[0] not in " ".join(doubt.why for doubt in gate.doubts)
        await closed(book)


async def test_what_rests_counts_against_what_facts_cover(make):
    """Three facts, and one mint that none backs, which a person settled: of three requests, two
    signed and put away and one to be signed, the last goes beyond what is covered."""
    log = ListedLog()
    for name in NAMES[:2]:
        put(log, name, FAILED)
    put(log, NAMES[3], [received(key=MINT_KEY)])
    book, gate = await owned(log, make)
    assert not awake(book) & set(NAMES[:2])
    for name in NAMES[:3]:
        gate.ledger.fold(allowed(name, AMOUNT))
    gate.ledger.fold(happened("unknown", AMOUNT))
    asked = Approval(RequestType.MINT, CHAIN, "0x", NAMES[2], USER, AMOUNT, 1, 1)
    found = gate.ledger.judge(NAMES[2], asked)
    assert found is not None and found.kind is ObjectionKind.EXCEEDED
    await closed(book)


async def test_what_was_completed_flies_no_more_once_its_mint_was_read(make):
    log = ListedLog()
    for name in NAMES[:3]:
        put(log, name, COMPLETED)
    book, gate = await owned(log, make)
    assert not awake(book) & set(NAMES[:2])
    assert gate.ledger.approved[CHAIN] == 3 * AMOUNT
    for name in NAMES[:3]:
        gate.ledger.fold(allowed(name, AMOUNT))
        gate.ledger.fold(happened(name, AMOUNT))
    assert gate.ledger.approved[CHAIN] == 0 and gate.doubts == []
    await closed(book)


async def test_a_partition_that_stays_is_told_of_again_as_it_stands(make):
    """What came back to memory is told from there, and once."""
    log = ListedLog()
    for name in NAMES[:4]:
        put(log, name, FAILED)
    told: list[Approval] = []
    book = Book(log, make)
    await book.own({SEAT}, told.extend)
    again = [retried(), cancelled()]
    put(log, NAMES[0], again)
    before = sorted(told, key=lambda one: one.request_id)
    told.clear()
    await book.own({SEAT}, told.extend)
    assert NAMES[0] in awake(book)
    assert sorted(told, key=lambda one: one.request_id) == before
    assert [one.request_id for one in before] == sorted(NAMES[:4])
    await closed(book)


async def test_nothing_is_ready_before_all_was_told(make):
    log = ListedLog()
    for name in NAMES[:4]:
        put(log, name, FAILED)
    book = Book(log, make)
    ready: list[bool] = []

    def tell(approvals) -> None:
        list(approvals)
        ready.append(book.is_ready)

    await book.own({SEAT}, tell)
    assert ready and not any(ready) and book.is_ready
    await closed(book)


class Failing(SqliteArchive):
    """A disk that gives back some of it."""

    def _part(self, after: str):
        if after:
            raise ArchiveUnavailable("a bad block")
        return super()._part(after)


@pytest.mark.parametrize("partly", [True, False])
async def test_what_an_archive_cannot_tell_is_read_from_the_log(tmp_path, monkeypatch, partly):
    monkeypatch.setattr("orchestrator.adapters.sqlite_archive.AT_ONCE", 2)
    log = ListedLog()
    for name in NAMES[:5]:
        put(log, name, FAILED)
    book, _ = await owned(log, partial(sqlite, tmp_path / "s"))
    await closed(book)

    def make(partition: int) -> Archive:
        made = sqlite(tmp_path / "s", partition)
        made.__class__ = Failing if partly else Lossy
        return made

    log.replayed = 0
    book, gate = await owned(log, make)
    assert gate.ledger.approved[CHAIN] == 5 * AMOUNT
    assert log.replayed >= len(log.entries)
    assert isinstance(book._pages[SEAT].archive, MemoryArchive)


class Lossy(SqliteArchive):
    """Some rows are not where they were."""

    def _part(self, after: str):
        return super()._part(after)[:1]


async def test_a_file_that_was_swapped_tells_of_no_signature(tmp_path):
    log = ListedLog()
    for name in NAMES[:4]:
        put(log, name, FAILED)
    book, _ = await owned(log, partial(sqlite, tmp_path / "s"))
    [page] = book._pages.values()
    page.archive._writing.execute("UPDATE position SET stamp = x'00'")
    with pytest.raises(ArchiveUnavailable, match="as this process left it"):
        list(page.archive.approvals())
    told: list[Approval] = []
    await book.own({SEAT}, told.extend)
    assert {one.request_id for one in told} == set(NAMES[:4])
    assert isinstance(book._pages[SEAT].archive, MemoryArchive)


@settings(max_examples=150, deadline=None)
@given(LOGS)
def test_an_approval_is_read_from_packed_states_as_it_is(log):
    for _, _, state, _ in runs(log):
        if state is not None:
            expected = None if state.signed is None else approval_of(state)
            assert packing.approval_in(packing.packed(state)) == expected
