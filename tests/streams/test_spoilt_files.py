"""Whatever has become of a file of states, a start ends with what the log says: from the file where
it is whole and borne out by the log, by a full replay where it is not."""

from __future__ import annotations

import os
import shutil
import sqlite3
from functools import partial
from pathlib import Path
from random import Random

import pytest

from orchestrator.adapters.key_set import KeySet
from streams.books import Book
from streams.resting import MemoryArchive
from tests.core.facts import drafted, evidence, received, retracted
from tests.streams.test_resting import SEAT, Comparison, ListedLog, filled, life, settled, sqlite

NAME = f"requests-{SEAT}.sqlite"
SUFFIXES = ("", "-wal", "-shm")


async def kept(folder: Path, killed: Path | None = None) -> Comparison:
    """A history that was put away, with a request under way and a dead letter; let go of. `killed`
    becomes what a kill before that would have left: much stands in the write-ahead log alone."""
    both = await filled(folder)
    await both.read([both.log.append("?", b"{not json")])
    both.refused.add(len(both.log.entries) - 1)
    await both.read(both.append(both.names[3], [retracted(evidence(1).seat)]))
    await both.read([])
    await settled(both.book)
    if killed is not None:
        copied(folder, killed)
    for page in both.book._pages.values():
        page.archive.close()
    return both


def copied(source: Path, target: Path) -> Path:
    target.mkdir(mode=0o700)
    for suffix in SUFFIXES:
        if (source / f"{NAME}{suffix}").exists():
            shutil.copy(source / f"{NAME}{suffix}", target)
    return target / NAME


async def started(both: Comparison, folder: Path, log: ListedLog | None = None) -> Book:
    book = Book(log or both.log, partial(sqlite, folder))
    await book.own({SEAT})
    return book


async def right(both: Comparison, book: Book) -> None:
    for name in both.names:
        assert book.state(name) == both.plain.get(name)
    told: list = []
    await book.own({SEAT}, told.extend)
    for name in both.names:
        assert book.state(name) == both.plain.get(name)
    await settled(book)
    for page in book._pages.values():
        page.archive.close()


@pytest.mark.parametrize("logged", [False, True], ids=["the file", "its write-ahead log"])
@pytest.mark.parametrize("seed", range(4))
async def test_no_byte_that_is_changed_changes_a_state(tmp_path, seed, logged):
    """In the file itself, or in what SQLite has not carried into it yet."""
    both = await kept(tmp_path / "s", tmp_path / "killed")
    source = tmp_path / ("killed" if logged else "s")
    random = Random(seed)
    for turn in range(25):
        file = copied(source, tmp_path / f"{turn}")
        victim = Path(f"{file}-wal") if logged else file
        raw = bytearray(victim.read_bytes())
        place = random.randrange(len(raw))
        for number in range(place, min(place + random.choice((1, 1, 4, 600)), len(raw))):
            raw[number] ^= random.randrange(1, 256)
        victim.write_bytes(raw)
        await right(both, await started(both, file.parent))


@pytest.mark.parametrize("seed", range(3))
async def test_no_length_to_which_it_is_cut_changes_a_state(tmp_path, seed):
    both = await kept(tmp_path / "s")
    random = Random(seed)
    for turn in range(10):
        file = copied(tmp_path / "s", tmp_path / f"{turn}")
        os.truncate(file, random.randrange(file.stat().st_size))
        await right(both, await started(both, file.parent))


async def test_a_log_that_was_restored_is_not_led_by_a_file_that_is_ahead_of_it(tmp_path):
    """A broker that came back from a backup knows less, and then goes on otherwise."""
    both = await kept(tmp_path / "s")
    whole = len(both.log.entries)
    for length in range(whole):
        for goes_on in (0, 1, whole):
            folder = tmp_path / f"{length}-{goes_on}"
            copied(tmp_path / "s", folder)
            other = Comparison(partial(MemoryArchive, every=1000))
            other.log.entries = both.log.entries[:length]
            for _ in range(goes_on):
                facts = [received(origin_event=None, amount="7"), drafted(1)]
                other.append(other.names[2], facts)
            plain = Book(other.log)
            await plain.own({SEAT})
            book = await started(other, folder, other.log)
            for name in other.names:
                assert book.state(name) == plain.state(name)
            for page in book._pages.values():
                await page.settled()
                page.archive.close()


@pytest.mark.parametrize("again", [False, True], ids=["as it was written", "as it was loaded"])
async def test_a_row_that_is_lost_while_the_file_is_used_was_not_never_seen(tmp_path, again):
    """Its place in the file is what finds it: bytes that change there lead past it."""
    both = await filled(tmp_path / "s")
    if again:
        await both.start_anew()
    lost = both.names[1]
    assert lost not in {state.key for state in both.book.states()}
    with sqlite3.connect(tmp_path / "s" / NAME) as link:
        link.execute("DELETE FROM states WHERE request_key = ?", (lost,))
    assert both.book.state(lost) is None  # it is at rest: it owes nothing
    await both.read(both.append(lost, [received(origin_event=None), retracted(evidence(1).seat)]))
    both.check()
    assert both.book.state(lost).stage == "RECEIVED"
    assert isinstance(both.book._pages[SEAT].archive, MemoryArchive)


def test_a_set_of_keys_forgets_none_and_knows_no_others(monkeypatch):
    monkeypatch.setattr("orchestrator.adapters.key_set.MOST_RECENT", 7)
    held = KeySet(f"a-{number}" for number in range(100))
    for number in range(50):
        held.add([f"b-{number}", f"b-{number}", "a-1"])
    assert all(f"a-{number}" in held for number in range(100))
    assert all(f"b-{number}" in held for number in range(50))
    assert not any(f"c-{number}" in held for number in range(10_000))


async def test_an_older_copy_is_gone_on_from(tmp_path):
    """It ends at a record that the log still has: what came after is replayed."""
    both = await filled(tmp_path / "s")
    for page in both.book._pages.values():
        page.archive.close()
    old = copied(tmp_path / "s", tmp_path / "old").parent
    await both.start_anew()
    for name in both.names:
        await both.read(both.append(name, [retracted(evidence(1).seat), *life()]))
    await both.read([])
    await settled(both.book)
    for page in both.book._pages.values():
        page.archive.close()
    both.log.replayed = 0
    book = await started(both, old)
    assert both.log.replayed < len(both.log.entries)
    await right(both, book)


def a_folder(path: Path) -> None:
    path.mkdir(parents=True)


def a_file(path: Path) -> None:
    path.write_text("mine")


@pytest.mark.parametrize(
    ("name", "make"),
    [("s", a_file), (f"s/{NAME}", a_folder), (f"s/{NAME}.lock", a_folder)],
    ids=["no folder", "no file", "no lock"],
)
async def test_what_cannot_be_opened_is_done_without_and_left_alone(tmp_path, name, make):
    if name != "s":
        (tmp_path / "s").mkdir(mode=0o700)
    make(tmp_path / name)
    both = await filled(tmp_path / "s")
    both.check()
    assert isinstance(both.book._pages[SEAT].archive, MemoryArchive)
    await both.start_anew()
    both.check()
    assert (tmp_path / name).is_file() == (make is a_file)


async def test_two_workers_at_once_both_say_what_the_log_says(tmp_path):
    """One has the file; the other does without, and neither is led by what the other keeps."""
    both = await filled(tmp_path / "s")
    second = Comparison(partial(sqlite, tmp_path / "s"))
    second.log, second.plain = both.log, both.plain
    second.book = Book(both.log, second.make)
    await second.book.own({SEAT})
    for number in (1, 2, 3):
        late = both.append(both.names[number], [retracted(evidence(1).seat), *life()])
        await both.read(late)
        await second.read(late)
    both.check()
    second.check()
    assert isinstance(second.book._pages[SEAT].archive, MemoryArchive)
    assert not isinstance(both.book._pages[SEAT].archive, MemoryArchive)
