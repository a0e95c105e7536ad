"""Archives that are of something else, that others touch, that have no room; and books whose
assignment changes while one of them is read or written."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import stat
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path

import pytest

from orchestrator.adapters.sqlite_archive import SqliteArchive
from orchestrator.adapters.sqlite_layout import hinders
from orchestrator.errors import ArchiveUnavailable
from orchestrator.ports import Saved
from schemas.base import UnreadableRecord
from schemas.dead_letters import DeadLetter, DeadLetterReason
from streams import packing
from streams.books import Book
from streams.pages import Page
from streams.resting import MemoryArchive
from tests.core.facts import evidence, retracted
from tests.streams.test_resting import SEAT, Comparison, filled, life, sqlite


def archive_of(both: Comparison) -> SqliteArchive:
    found = both.book._pages[SEAT].archive
    assert isinstance(found, SqliteArchive)
    return found


def file_in(folder: Path) -> Path:
    return folder / f"requests-{SEAT}.sqlite"


def closed(both: Comparison) -> None:
    for page in both.book._pages.values():
        page.archive.close()


async def read_late(both: Comparison, number: int) -> None:
    """A late fact about a request that rests."""
    await both.read(both.append(both.names[number], [retracted(evidence(1).seat)]))


async def restarted(both: Comparison) -> int:
    """How many facts a restart replays; everything is as the plain fold says."""
    both.log.replayed = 0
    await both.start_anew()
    both.check()
    return both.log.replayed


async def test_nobody_else_may_read_or_write_the_files(tmp_path):
    before = os.umask(0)
    try:
        folder = tmp_path / "above" / "s"
        await filled(folder)
        found = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
        assert {name.removeprefix(f"requests-{SEAT}.sqlite") for name in found} == {
            "",
            "-wal",
            "-shm",
            ".lock",
        }
        assert set(found.values()) == {0o600}
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    finally:
        os.umask(before)


async def test_a_file_that_others_could_read_is_closed_to_them(tmp_path):
    both = await filled(tmp_path / "s")
    closed(both)
    file_in(tmp_path / "s").chmod(0o644)
    assert await restarted(both) < len(both.log.entries)
    assert stat.S_IMODE(file_in(tmp_path / "s").stat().st_mode) == 0o600


async def test_a_link_is_not_followed(tmp_path):
    both = await filled(tmp_path / "other")
    closed(both)
    (tmp_path / "s").mkdir(mode=0o700)
    file_in(tmp_path / "s").symlink_to(file_in(tmp_path / "other"))
    both.make = partial(sqlite, tmp_path / "s")
    assert await restarted(both) == len(both.log.entries)
    assert isinstance(both.book._pages[SEAT].archive, MemoryArchive)


@pytest.mark.parametrize(
    "origin", ["requests-4 of decide on another", "requests-3 of decide on one"]
)
async def test_a_file_of_another_cluster_or_partition_is_thrown_away(tmp_path, origin):
    both = await filled(tmp_path / "s")
    both.make = partial(sqlite, tmp_path / "s", origin=origin)
    assert await restarted(both) == len(both.log.entries)
    await both.read(both.append(both.names[0], life()))
    await both.read([])
    assert await restarted(both) < len(both.log.entries)


async def test_a_file_that_is_swapped_while_it_is_used_answers_nothing_more(tmp_path):
    """An older copy has not got every request that rests: it must not pass for "never seen"."""
    folder = tmp_path / "s"
    both = Comparison(partial(sqlite, folder))
    await both.book.own({SEAT})
    await both.read(both.append(both.names[0], life()))
    await both.read([])
    old = sqlite3.connect(tmp_path / "old")
    with sqlite3.connect(file_in(folder)) as link:
        link.backup(old)
    await both.read(both.append(both.names[1], life()))
    await both.read([])
    assert both.names[1] not in {state.key for state in both.book.states()}
    with sqlite3.connect(file_in(folder)) as link:
        old.backup(link)
    assert both.book.state(both.names[1]) is None  # it is at rest: it owes nothing
    await read_late(both, 1)
    both.check()
    assert both.book.state(both.names[1]).stage == "RECEIVED"
    assert both.book.state(both.names[0]) is not None


async def test_what_another_process_wrote_in_spite_of_the_lock_is_not_written_over(tmp_path):
    both = await filled(tmp_path / "s")
    file_in(tmp_path / "s").with_suffix(".sqlite.lock").unlink()
    second = Comparison(partial(sqlite, tmp_path / "s"))
    second.log, second.plain = both.log, both.plain
    second.book = Book(both.log, second.make)
    await second.book.own({SEAT})
    await second.read(second.append(second.names[1], [retracted(evidence(1).seat)]))
    await second.read(second.append(second.names[2], [retracted(evidence(1).seat)]))
    await second.read([])
    with pytest.raises(ArchiveUnavailable, match="another process has written it"):
        await archive_of(both).save(Saved(len(both.log.entries), b"", {}, {}))
    await both.read(both.log.entries[-2:])
    both.check()
    second.check()


async def test_an_older_save_that_comes_late_is_refused(tmp_path):
    both = await filled(tmp_path / "s")
    with pytest.raises(ArchiveUnavailable, match="holds more"):
        await archive_of(both).save(Saved(1, b"", {}, {}))
    assert await restarted(both) < len(both.log.entries)


@pytest.mark.parametrize(
    ("hinder", "mend"),
    [
        ("PRAGMA max_page_count = 1", "PRAGMA max_page_count = 1000000"),
        ("PRAGMA query_only = 1", "PRAGMA query_only = 0"),
    ],
    ids=["no room", "read-only"],
)
async def test_what_finds_no_room_stays_in_memory_until_there_is(tmp_path, hinder, mend):
    """SQLite's own refusals, on the connection that writes."""
    both = Comparison(partial(sqlite, tmp_path / "s"))
    await both.book.own({SEAT})
    await both.read(both.append(both.names[0], life()))
    await both.read([])
    link = archive_of(both)._writing
    kept = link.execute("SELECT next_offset FROM position").fetchone()
    link.execute(hinder)
    for name in both.names[1:]:
        first, *rest = life()
        reference = "".join(sha256(f"{name}{n}".encode()).hexdigest() for n in range(2_000))
        await both.read(
            both.append(name, [first.model_copy(update={"fiat_ref": reference}), *rest])
        )
    await both.read([])
    assert link.execute("SELECT next_offset FROM position").fetchone() == kept
    both.check()
    assert {state.key for state in both.book.states()} >= set(both.names[1:])
    link.execute(mend)
    await both.read(both.append(both.names[0], life()))
    await both.read(both.append(both.names[0], life()))
    await both.read([])
    assert link.execute("SELECT next_offset FROM position").fetchone() > kept
    assert await restarted(both) < len(both.log.entries)


def test_what_hinders_tells_nothing_against_a_file(tmp_path):
    with pytest.raises(sqlite3.OperationalError) as missing:
        sqlite3.connect(tmp_path / "none" / "x").execute("SELECT 1")
    assert hinders(missing.value) and hinders(PermissionError())
    (tmp_path / "x").write_bytes(b"no database at all, but a text" * 100)
    with pytest.raises(sqlite3.DatabaseError) as garbage:
        sqlite3.connect(tmp_path / "x").execute("SELECT * FROM sqlite_schema")
    assert not hinders(garbage.value) and not hinders(ValueError())


class Slow(MemoryArchive):
    """An archive that waits to be let go on, and may fail in a way that nobody foresaw."""

    def __init__(self, failure: Exception | None) -> None:
        super().__init__(every=1)
        self.failure, self.gate, self.begun = failure, asyncio.Event(), asyncio.Event()

    async def save(self, saved: Saved) -> None:
        self.begun.set()
        await self.gate.wait()
        if self.failure is not None:
            raise self.failure
        await super().save(saved)


@pytest.mark.parametrize("failure", [None, ArchiveUnavailable("no"), RuntimeError("unforeseen")])
async def test_an_assignment_that_changes_while_states_are_put_away_loses_none(failure):
    slow = Slow(failure)
    both = Comparison(lambda partition: slow)
    for name in both.names:
        both.append(name, life())
    owning = asyncio.create_task(both.book.own({SEAT}))
    await slow.begun.wait()
    owning.cancel()
    await asyncio.gather(owning, return_exceptions=True)
    page = both.book._pages[SEAT]
    before = set(page.states)
    slow.gate.set()
    await page.settled()
    assert page.changed == (before if failure else set())
    slow.failure = None
    await both.book.own({SEAT})
    await both.read(both.append(both.names[0], life()))
    both.check()


async def test_an_archive_that_is_being_read_when_the_assignment_changes_is_still_ours(tmp_path):
    both = await filled(tmp_path / "s")
    closed(both)
    both.book = Book(both.log, both.make)
    for _ in range(3):
        owning = asyncio.create_task(both.book.own({SEAT}))
        await asyncio.sleep(0)
        owning.cancel()
        await asyncio.gather(owning, return_exceptions=True)
    both.log.replayed = 0
    await both.book.own({SEAT})
    both.check()
    assert isinstance(both.book._pages[SEAT].archive, SqliteArchive)
    assert both.log.replayed < len(both.log.entries)


async def test_a_partition_that_went_while_its_archive_was_read_is_let_go(tmp_path):
    both = await filled(tmp_path / "s")
    closed(both)
    both.book = Book(both.log, both.make)
    owning = asyncio.create_task(both.book.own({SEAT}))
    await asyncio.sleep(0)
    owning.cancel()
    await both.book.own(set())
    other = sqlite(tmp_path / "s")
    assert await other.load() is not None
    other.close()


class Unsound(SqliteArchive):
    def find(self, key: str):
        raise ArchiveUnavailable("a disk that reads nothing back")


async def test_a_disk_that_fails_again_is_done_without(tmp_path):
    def make(partition: int) -> SqliteArchive:
        made = sqlite(tmp_path / "s", partition)
        made.__class__ = Unsound
        return made

    both = Comparison(make)
    for name in both.names:
        both.append(name, life())
    await both.book.own({SEAT})
    both.check()
    assert isinstance(both.book._pages[SEAT].archive, MemoryArchive)


def letter(offset: int) -> DeadLetter:
    problem = str(UnreadableRecord("no"))
    origin = f"requests/{SEAT}/{offset}"
    return DeadLetter.of(DeadLetterReason.MALFORMED, problem, b"x", origin=origin)


def test_dead_letters_that_the_stream_has_passed_are_kept_no_longer():
    page = Page(SEAT, MemoryArchive(), refused={n: letter(n) for n in (2, 5, 9)})
    assert page.passed(4) is None and list(page.refused) == [5, 9]
    assert page.passed(5) == letter(5) and page.passed(5) is None
    assert page.passed(3) is None and list(page.refused) == [9]


async def test_dead_letters_are_kept_over_a_restart_until_they_are_out(tmp_path):
    archive = sqlite(tmp_path / "s")
    await archive.load()
    for refused in ({2: letter(2), 5: letter(5)}, {5: letter(5)}, {5: letter(5), 9: letter(9)}):
        await archive.save(Saved(10, b"d", {}, refused))
        archive.close()
        archive = sqlite(tmp_path / "s")
        found = await archive.load()
        assert found is not None and found.refused == refused
    archive.close()


def test_code_without_sources_has_no_version_and_code_that_differs_another(monkeypatch, tmp_path):
    assert packing.VERSION is not None and packing._version() == packing.VERSION
    monkeypatch.setattr(packing.schemas, "__path__", [str(tmp_path)])
    assert packing._version() is None
    (tmp_path / "requests.py").write_text("changed = True\n")
    assert packing._version() not in (None, packing.VERSION)


async def test_what_rests_is_counted_wherever_it_is(tmp_path):
    makers: list[Callable] = [partial(sqlite, tmp_path / "s"), partial(MemoryArchive, every=2)]
    for make, on_disk in zip(makers, (True, False), strict=True):
        both = await filled(tmp_path / "s", make)
        [told] = both.book.resting()
        assert told.on_disk is on_disk and told.size_bytes > 0
        assert told.requests == len(both.names) - both.book.awake
        await read_late(both, 1)
        await both.read(both.append(both.names[2], life()))
        await both.read([])
        [after] = both.book.resting()
        assert after.requests == told.requests - 1
        closed(both)
