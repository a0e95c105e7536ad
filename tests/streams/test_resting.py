"""Requests at rest: packed without loss, owing nothing, and decided as if they had never left."""

from __future__ import annotations

import asyncio
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.adapters.sqlite_archive import Fold, SqliteArchive
from orchestrator.core.lifecycle import TERMINAL, RequestState, Verdict, evolve
from orchestrator.core.owing import at_rest, pending
from orchestrator.errors import ArchiveUnavailable
from orchestrator.ports import Saved
from schemas.base import Position, encode_value
from schemas.topics import REQUESTS, Topic
from streams import packing
from streams.books import Book
from streams.resting import MemoryArchive
from tests.core.facts import TERMS, completed, drafted, evidence, received, record, retracted
from tests.core.test_lifecycle_properties import LOGS, chosen, runs

SEAT = 4
POLICY = "controls/0/0"


@dataclass(frozen=True)
class Entry:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class ListedLog:
    """One partition, as a list; `ports.LogReader` as far as a book asks it."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.replayed = 0

    def append(self, key: str, value: bytes) -> Entry:
        entry = Entry(REQUESTS.name, SEAT, len(self.entries), key.encode(), value)
        self.entries.append(entry)
        return entry

    async def replay(
        self, topic: Topic, starts: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, Sequence[Entry]]]:
        for number, start in starts.items():
            for place in range(start, len(self.entries), 3):
                found = self.entries[place : place + 3]
                self.replayed += len(found)
                yield number, found

    def tail(self, topic: Topic, partition: int, start: int):
        raise AssertionError("a book replays, and tails nothing")


def keys() -> list[str]:
    """Some that stand on the one partition."""
    found = (f"k-{number}" for number in range(1000))
    return [key for key in found if partition_of(REQUESTS, key) == SEAT][:4]


def sqlite(
    folder: Path,
    partition: int = SEAT,
    version: str = "1",
    every: int = 2,
    origin: str = "requests-4 of decide on one",
) -> SqliteArchive:
    path = folder / f"requests-{partition}.sqlite"
    fold = Fold(packing.packed, packing.unpacked, packing.approval_in, at_rest, version)
    made = SqliteArchive(path, fold, origin)
    made.every = every
    return made


async def settled(book: Book) -> None:
    """What the book was putting away has been put away."""
    for page in book._pages.values():
        await page.settled()


@settings(max_examples=150, deadline=None)
@given(LOGS)
def test_a_state_comes_back_as_it_was_packed(log):
    for _, _, state, _ in runs(log):
        if state is not None:
            again = packing.unpacked(packing.packed(state))
            assert again == state
            assert packing.packed(again) == packing.packed(state)
            assert type(again.stage) is type(state.stage)


@settings(max_examples=150, deadline=None)
@given(LOGS)
def test_what_is_at_rest_owes_nothing_under_any_terms(log):
    others = replace(TERMS, chains={})
    for _, _, state, _ in runs(log):
        if state is not None and at_rest(state):
            assert state.stage in TERMINAL
            for terms in (TERMS, others):
                assert pending(state, terms) is None
                assert pending(state, terms, policy=POLICY) is None


STEPS = st.lists(
    st.one_of(
        st.tuples(st.integers(0, 3), LOGS.map(lambda log: log[:6])),
        st.just("start anew"),
        st.just("read again"),
        st.just("garbage"),
    ),
    max_size=14,
)


class Comparison:
    """A book with an archive, driven like a role drives it, beside a plain fold."""

    def __init__(self, make) -> None:
        self.log = ListedLog()
        self.make = make
        self.names = keys()
        self.plain: dict[str, RequestState] = {}
        self.refused: set[int] = set()
        self.told: set[int] = set()
        self.book = Book(self.log, make)

    async def start_anew(self) -> None:
        """A kill: nothing of the book is closed in good order but what the system closes."""
        await settled(self.book)
        for page in self.book._pages.values():
            page.archive.close()
        self.book = Book(self.log, self.make)
        await self.book.own({SEAT})

    async def read(self, entries: Sequence[Entry]) -> None:
        for letter in await self.book.read(entries):
            self.told.add(int(letter.origin.rpartition("/")[2]))
        await settled(self.book)

    def append(self, key: str, items) -> list[Entry]:
        entries = []
        for second, item in enumerate(items):
            fact = chosen(self.plain.get(key), item)
            if fact is None:
                continue
            fact = fact.model_copy(update={"request_key": key})
            entry = record(fact, second)
            raw = encode_value(entry)
            placed = self.log.append(key, raw)
            entry = REQUESTS.decode(raw, Position(REQUESTS.name, SEAT, placed.offset))
            state, verdict = evolve(self.plain.get(key), entry)
            if state is not None and verdict is Verdict.APPLIED:
                self.plain[key] = state
            if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
                self.refused.add(placed.offset)
            entries.append(placed)
        return entries

    def check(self) -> None:
        for key in self.names:
            assert self.book.state(key) == self.plain.get(key)
        assert self.refused <= self.told
        awake = {key for key, state in self.plain.items() if not at_rest(state)}
        assert awake <= {state.key for state in self.book.states()}


async def compared(steps, make) -> Comparison:
    both = Comparison(make)
    await both.book.own({SEAT})
    await both.read([])
    for step in steps:
        match step:
            case "start anew":
                await both.start_anew()
            case "read again":
                await both.read(both.log.entries[-4:])
            case "garbage":
                entry = both.log.append("?", b"{not json")
                both.refused.add(entry.offset)
                await both.read([entry])
            case (number, items):
                await both.read(both.append(both.names[number], items))
        both.check()
    return both


@settings(max_examples=60, deadline=None)
@given(STEPS)
def test_a_book_with_an_archive_in_memory_is_the_plain_fold(steps):
    asyncio.run(compared(steps, partial(MemoryArchive, every=3)))


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(STEPS)
def test_a_book_that_starts_from_a_file_is_the_plain_fold(tmp_path_factory, steps):
    folder = tmp_path_factory.mktemp("states") / "mine"
    asyncio.run(compared(steps, partial(sqlite, folder)))


def life() -> list:
    """A request that completes; its facts fit another key as well."""
    seen = evidence(1)
    first = received(origin_event=None)
    return [first, seen, completed(seen.seat)]


async def filled(folder: Path, make=None) -> Comparison:
    make = make or partial(sqlite, folder)
    both = Comparison(make)
    await both.book.own({SEAT})
    for name in both.names:
        await both.read(both.append(name, life()))
    await both.read(both.append(both.names[0], [received(origin_event=None)]))
    await both.read([])
    return both


async def test_a_start_replays_only_what_came_after(tmp_path):
    both = await filled(tmp_path / "s")
    both.log.replayed = 0
    await both.start_anew()
    both.check()
    assert both.log.replayed <= 4 < len(both.log.entries)


async def test_ended_requests_leave_memory_and_are_found_again(tmp_path):
    both = await filled(tmp_path / "s")
    assert len(list(both.book.states())) < len(both.names)
    gone = both.names[1]
    await both.read(both.append(gone, [retracted(evidence(1).seat)]))
    both.check()
    assert both.book.state(gone).stage == "RECEIVED"
    assert gone in both.book.touched


def damage_a_row(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("UPDATE states SET state = substr(state, 1, length(state) - 1)")


def lose_a_row(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("DELETE FROM states WHERE request_key = (SELECT min(request_key) FROM states)")


def wake_a_row(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("UPDATE states SET resting = 1 - resting")


def overwrite(path: Path) -> None:
    for suffix in ("-wal", "-shm"):
        Path(f"{path}{suffix}").unlink(missing_ok=True)
    path.write_bytes(b"\x00" * path.stat().st_size)


def cut(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    os.truncate(path, path.stat().st_size // 2)


def lose_the_position(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("DELETE FROM position")


def move_the_position(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("UPDATE position SET next_offset = next_offset - 1")


def damage_a_letter(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("INSERT INTO letters VALUES (0, 0, ?)", (b"{}",))


def lay_out_otherwise(path: Path) -> None:
    with sqlite3.connect(path) as link:
        link.execute("PRAGMA user_version = 99")


HARMS = (
    damage_a_row,
    lose_a_row,
    wake_a_row,
    overwrite,
    cut,
    lose_the_position,
    move_the_position,
    damage_a_letter,
    lay_out_otherwise,
)


@pytest.mark.parametrize("harm", HARMS)
async def test_a_damaged_file_is_thrown_away(tmp_path, harm):
    both = await filled(tmp_path / "s")
    for page in both.book._pages.values():
        page.archive.close()
    harm(tmp_path / "s" / f"requests-{SEAT}.sqlite")
    both.log.replayed = 0
    await both.start_anew()
    both.check()
    assert both.log.replayed == len(both.log.entries)
    await both.start_anew()
    both.check()


async def test_another_version_of_the_code_replays(tmp_path):
    both = await filled(tmp_path / "s")
    both.make = partial(sqlite, tmp_path / "s", version="2")
    both.log.replayed = 0
    await both.start_anew()
    both.check()
    assert both.log.replayed == len(both.log.entries)


async def test_a_log_that_was_made_anew_is_replayed(tmp_path):
    for length in (1, 20):
        folder = tmp_path / f"s{length}"
        await_closed = await filled(folder)
        for page in await_closed.book._pages.values():
            page.archive.close()
        other = Comparison(partial(sqlite, folder))
        for _ in range(length):
            other.append(other.names[2], [received(origin_event=None, amount="7"), drafted(1)])
        await other.book.own({SEAT})
        for name in other.names:
            assert other.book.state(name) == other.plain.get(name)


async def test_a_file_that_another_process_holds_is_left_alone(tmp_path):
    both = await filled(tmp_path / "s")
    second = Book(both.log, partial(sqlite, tmp_path / "s"))
    await second.own({SEAT})
    for name in both.names:
        assert second.state(name) == both.plain.get(name)
    both.check()


async def test_a_folder_that_others_may_write_to_is_not_believed(tmp_path):
    folder = tmp_path / "s"
    folder.mkdir()
    folder.chmod(0o777)
    with pytest.raises(ArchiveUnavailable, match="can be written by others"):
        await sqlite(folder).load()
    both = await filled(folder)
    both.check()
    assert not list(folder.iterdir())


async def test_an_archive_that_fails_while_reading_is_replaced_by_the_log(tmp_path):
    both = await filled(tmp_path / "s")
    page = both.book._pages[SEAT]
    page.archive._reading.close()
    assert page.archive._path.exists()
    await both.read(both.append(both.names[1], [retracted(evidence(1).seat)]))
    both.check()


class Full(MemoryArchive):
    """A disk without room."""

    async def save(self, saved: Saved) -> None:
        raise ArchiveUnavailable("no room")


async def test_what_cannot_be_put_away_stays_in_memory(tmp_path):
    both = await filled(tmp_path, partial(Full, every=1))
    both.check()
    assert {state.key for state in both.book.states()} == set(both.names)


KILLED = """
import asyncio, sys
from functools import partial
from pathlib import Path
from tests.streams.test_resting import SEAT, Comparison, life, sqlite

async def main():
    both = Comparison(partial(sqlite, Path(sys.argv[1]), every=1))
    await both.book.own({SEAT})
    for number in range(100000):
        if number == 20:
            print("ready", flush=True)
        key = both.names[number % 4]
        both.plain.clear()
        await both.read(both.append(key, life()))

asyncio.run(main())
"""


@pytest.mark.parametrize("after_seconds", [0.01, 0.05, 0.2])
def test_a_kill_while_it_is_written_leaves_a_whole_one(tmp_path, after_seconds):
    """Whatever moment the kill meets, the file is one of those that were committed."""
    folder = tmp_path / "s"
    command = [sys.executable, "-c", KILLED, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert "ready\n" in iter(child.stdout.readline, "")
        time.sleep(after_seconds)
        child.send_signal(signal.SIGKILL)
    archive = sqlite(folder)
    archive._open()
    found = archive._loaded()  # raises for what is not whole
    archive.close()
    assert found is not None and found.next_offset > 20


async def test_the_same_history_gives_the_same_rows(tmp_path):
    rows = []
    for name in ("one", "two"):
        await filled(tmp_path / name)
        with sqlite3.connect(tmp_path / name / f"requests-{SEAT}.sqlite") as link:
            rows.append(link.execute("SELECT * FROM states ORDER BY request_key").fetchall())
            rows[-1] += link.execute("SELECT * FROM position").fetchall()
    assert rows[0] == rows[1]
