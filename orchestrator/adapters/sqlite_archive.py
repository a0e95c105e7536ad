"""An archive in a file: SQLite, one file a partition of a role, held by one process at a time.

A cache of the fold and nothing else: it may be deleted at any time, while nobody runs. It is taken
only when this very version of the code wrote it (`version`), of this very partition of this cluster
(`origin`), when every row has its digest and no row is missing, and when the log still has the
record at which it ends; the reader of the log checks the last of these. Everything else is said and
thrown away, and what hinders using it (no room, no right) is said and left alone.

While it is used, each question also asks whether the file is still as this process left it (its
`stamp`): a file that was swapped, or that another process wrote in spite of the lock, answers
nothing more, and neither does one that does not find what it was given (`KeySet`).

One transaction takes in the changed states and the offset together, so a kill leaves the former or
the latter. The write-ahead log with `synchronous=NORMAL` may lose the last transactions when the
machine loses power, never half of one (https://sqlite.org/pragma.html#pragma_synchronous). It
needs a disk of this machine (https://sqlite.org/wal.html): none that is shared over a network.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import structlog

from orchestrator.adapters.key_set import KeySet
from orchestrator.adapters.sqlite_layout import (
    APPLICATION,
    DAMAGE,
    FIND,
    LAYOUT,
    PART,
    SUFFIXES,
    SUM_LIMIT,
    TABLES,
    digest_of,
    hinders,
    stamp_of,
)
from orchestrator.adapters.state_folder import locked, private_file, usable_folder
from orchestrator.core.contract import Approval
from orchestrator.core.stages import RequestState
from orchestrator.errors import ArchiveUnavailable
from orchestrator.ports import Resting, Saved
from schemas.dead_letters import DeadLetter

log = structlog.get_logger(__name__)

AT_ONCE = 300
"""So many rows are some milliseconds of the event loop."""


@dataclass(frozen=True, slots=True)
class Fold:
    """How states become bytes and back, which of them rest, and which code folded them."""

    pack: Callable[[RequestState], bytes]
    unpack: Callable[[bytes], RequestState]
    approval: Callable[[bytes], Approval | None]
    rests: Callable[[RequestState], bool]
    version: str


@dataclass(frozen=True, slots=True)
class _Held:
    """What the file holds: how many rows, the sum of their digests, how many of them rest, and the
    places of dead letters."""

    next_offset: int = 0
    rows: int = 0
    sum: int = 0
    resting: int = 0
    letters: frozenset[int] = frozenset()
    stamp: bytes | None = None


Row = tuple[str, int, int, bytes]


class SqliteArchive:
    """The states of one partition. `origin` names where the partition is: cluster, topic, number,
    and whose consumer group reads it."""

    every = 2_000
    every_seconds = 10.0

    def __init__(self, path: Path, fold: Fold, origin: str) -> None:
        self._path = path
        self._fold = fold
        self._origin = origin
        self._lock: int | None = None
        self._reading: sqlite3.Connection | None = None
        self._writing: sqlite3.Connection | None = None
        self._busy = threading.Lock()
        self._held = _Held()
        self._known: dict[bytes | None, _Held] = {None: self._held}
        self._keys = KeySet()
        self._wipes = 0

    async def load(self) -> Saved | None:
        """See `Archive`. Raises ArchiveUnavailable when another process holds the file."""
        return await asyncio.to_thread(self._load)

    def _load(self) -> Saved | None:
        usable_folder(self._path.parent)
        if self._lock is None:
            self._lock = locked(self._path)
        try:
            self._open()
            return self._loaded()
        except ArchiveUnavailable:
            self._disconnect()
            raise
        except DAMAGE as error:
            if hinders(error):
                self._disconnect()
                raise ArchiveUnavailable(f"{self._path}: {error}") from None
            log.warning(
                "an archive of states is thrown away; the log is replayed instead",
                file=str(self._path),
                reason=str(error),
            )
            self.wipe()
            return None

    def _open(self) -> None:
        """Raises ValueError for a file that is laid out otherwise."""
        os.close(private_file(self._path))
        self._writing = self._connection()
        mode = self._writing.execute("PRAGMA journal_mode = WAL").fetchone()[0]
        if mode != "wal":
            raise ArchiveUnavailable(f"{self._path}: the file system takes no write-ahead log")
        if not self._writing.execute("SELECT 1 FROM sqlite_schema").fetchone():
            self._writing.executescript(TABLES)
        marks = [_pragma(self._writing, name) for name in ("application_id", "user_version")]
        if marks != [APPLICATION, LAYOUT]:
            raise ValueError("it is laid out in another way")
        self._reading = self._connection()

    def _connection(self) -> sqlite3.Connection:
        made = sqlite3.connect(self._path, timeout=5, isolation_level=None, check_same_thread=False)
        for setting in ("synchronous = NORMAL", "trusted_schema = OFF", "cell_size_check = ON"):
            made.execute(f"PRAGMA {setting}")
        return made

    def _loaded(self) -> Saved | None:
        """Raises ValueError for what cannot be relied on."""
        assert self._reading is not None
        row = self._reading.execute(
            "SELECT next_offset, last_digest, held, sum, version, origin, stamp FROM position"
        ).fetchone()
        if row is None:
            if self._reading.execute("SELECT 1 FROM states").fetchone():
                raise ValueError("it has states and no position")
            return None
        next_offset, last_digest, held, held_sum, version, origin, stamp = row
        if stamp != stamp_of(*row[:6]):
            raise ValueError("its position is damaged")
        if version != self._fold.version:
            raise ValueError("another version of this service made it")
        if origin != self._origin:
            raise ValueError(f"it is of {origin}, and not of {self._origin}")
        count = total = resting = 0
        awake: dict[str, RequestState] = {}
        keys: list[str] = []
        letters: dict[int, DeadLetter] = {}
        for key, rests, digest, raw in self._rows():
            count, total, resting = count + 1, (total + digest) % SUM_LIMIT, resting + rests
            keys.append(key)
            if not rests:
                awake[key] = self._fold.unpack(raw)
        for place, digest, raw in self._reading.execute("SELECT * FROM letters ORDER BY place"):
            if digest != digest_of(str(place), 0, raw):
                raise ValueError(f"the dead letter of {place} is damaged")
            count, total = count + 1, (total + digest) % SUM_LIMIT
            letters[place] = DeadLetter.model_validate_json(raw)
        if (count, total) != (held, held_sum):
            raise ValueError(f"it should hold {held} rows, and holds {count} or others")
        self._keys = KeySet(keys)
        self._knows(_Held(next_offset, count, total, resting, frozenset(letters), stamp))
        return Saved(next_offset, last_digest, awake, letters)

    def _rows(self) -> Iterator[Row]:
        """Every state, as they follow each other in the file: in the order of their keys, or a
        question for one of them could miss it."""
        assert self._reading is not None
        before: str | None = None
        for key, rests, digest, raw in self._reading.execute("SELECT * FROM states"):
            misplaced = before is not None and key <= before
            if misplaced or digest != digest_of(key, rests, raw):
                raise ValueError(f"the row of {key!r} is damaged")
            before = key
            yield key, rests, digest, raw

    def _knows(self, held: _Held) -> None:
        """The file holds exactly this, and nothing else is possible."""
        self._held, self._known = held, {held.stamp: held}

    def find(self, key: str) -> RequestState | None:
        if self._reading is None:
            raise ArchiveUnavailable(f"{self._path} is closed")
        known = self._known  # a save in its thread may change it meanwhile, and the file
        try:
            stamp, rests, digest, raw = self._reading.execute(FIND, (key,)).fetchone()
            if stamp not in known and stamp not in self._known:
                raise ValueError("it is not as this process left it")
            if raw is None:
                if key in self._keys:
                    raise ValueError(f"the row of {key!r} is lost")
                return None
            if digest != digest_of(key, rests, raw):
                raise ValueError(f"the row of {key!r} is damaged")
            return self._fold.unpack(raw)
        except DAMAGE as error:
            raise ArchiveUnavailable(f"{self._path}: {error}") from None

    def approvals(self) -> Iterator[Sequence[tuple[str, Approval]]]:
        """Each part asks whether the file is as this process left it; the end, whether that was all
        that rests."""
        after, seen = "", 0
        while True:
            try:
                rows = self._part(after)
                found = [(key, self._fold.approval(raw)) for key, _, _, raw in rows]
            except DAMAGE as error:
                raise ArchiveUnavailable(f"{self._path}: {error}") from None
            seen += len(rows)
            yield [(key, approval) for key, approval in found if approval is not None]
            if len(rows) < AT_ONCE:
                break
            after = rows[-1][0]
        if seen != self._held.resting:
            raise ArchiveUnavailable(f"{self._path}: {self._held.resting} should rest, not {seen}")

    def _part(self, after: str) -> list[Row]:
        if self._reading is None:
            raise ArchiveUnavailable(f"{self._path} is closed")
        self._reading.execute("BEGIN")
        try:
            found = self._reading.execute("SELECT stamp FROM position").fetchone()
            if (found[0] if found else None) not in self._known:
                raise ValueError("it is not as this process left it")
            rows: list[Row] = self._reading.execute(PART, (after, AT_ONCE)).fetchall()
        finally:
            self._reading.execute("ROLLBACK")
        for key, rests, digest, raw in rows:
            if digest != digest_of(key, rests, raw):
                raise ValueError(f"the row of {key!r} is damaged")
        return rows

    async def save(self, saved: Saved) -> None:
        """Packed and written in a thread: states never change once they are made."""
        await asyncio.to_thread(self._save, saved, self._wipes)

    def _save(self, saved: Saved, wipes: int) -> None:
        with self._busy:
            if self._writing is None or wipes != self._wipes:
                raise ArchiveUnavailable(f"{self._path} was closed or begun anew meanwhile")
            if saved.next_offset < self._held.next_offset:
                raise ArchiveUnavailable(f"{self._path} holds more than it is to be given")
            try:
                self._write(self._writing, saved)
            except DAMAGE as error:
                raise ArchiveUnavailable(f"{self._path}: {error}") from None

    def _write(self, link: sqlite3.Connection, saved: Saved) -> None:
        """Until the end of the transaction is known, the file may be as it was or as it will be."""
        rows = []
        for key, state in saved.changed.items():
            rests, raw = int(self._fold.rests(state)), self._fold.pack(state)
            rows.append((key, rests, digest_of(key, rests, raw), raw))
        link.execute("BEGIN IMMEDIATE")
        try:
            found = link.execute("SELECT stamp FROM position").fetchone()
            before = self._known.get(found[0] if found else None)
            if before is None:
                raise ValueError("another process has written it")
            after = self._written(link, rows, saved, before)
            self._known = {**self._known, after.stamp: after}
            link.execute("COMMIT")
        except BaseException:
            if link.in_transaction:
                link.execute("ROLLBACK")
            raise
        self._knows(after)
        self._keys.add(saved.changed)

    def _written(
        self, link: sqlite3.Connection, rows: list[Row], saved: Saved, held: _Held
    ) -> _Held:
        """What the file holds then."""
        count, total, resting = held.rows, held.sum, held.resting
        for key, rests, digest, _ in rows:
            before = link.execute(
                "SELECT digest, resting FROM states WHERE request_key = ?", (key,)
            ).fetchone()
            total += digest - (before[0] if before else 0)
            resting += rests - (before[1] if before else 0)
            count += before is None
        link.executemany("INSERT OR REPLACE INTO states VALUES (?, ?, ?, ?)", rows)
        for place in sorted(held.letters - saved.refused.keys()):
            gone = link.execute(
                "DELETE FROM letters WHERE place = ? RETURNING digest", (place,)
            ).fetchall()
            count, total = count - len(gone), total - sum(digest for (digest,) in gone)
        for place in sorted(saved.refused.keys() - held.letters):
            raw = saved.refused[place].model_dump_json().encode()
            digest = digest_of(str(place), 0, raw)
            link.execute("INSERT INTO letters VALUES (?, ?, ?)", (place, digest, raw))
            count, total = count + 1, total + digest
        total %= SUM_LIMIT
        told = saved.next_offset, saved.last_digest, count, total, self._fold.version, self._origin
        stamp = stamp_of(*told)
        link.execute(
            "INSERT OR REPLACE INTO position"
            " (one, next_offset, last_digest, held, sum, version, origin, stamp)"
            " VALUES (1, ?, ?, ?, ?, ?, ?, ?)",
            (*told, stamp),
        )
        letters = frozenset(saved.refused)
        return _Held(saved.next_offset, count, total, resting, letters, stamp)

    def resting(self) -> Resting:
        size = 0
        for suffix in SUFFIXES[:2]:
            try:
                size += Path(f"{self._path}{suffix}").stat().st_size
            except OSError:
                continue
        return Resting(self._held.resting, size, on_disk=True)

    def wipe(self) -> None:
        """Delete the file and begin anew; the lock stays ours."""
        self._wipes += 1
        self._disconnect()
        self._knows(_Held())
        self._keys = KeySet()
        try:
            for suffix in SUFFIXES:
                Path(f"{self._path}{suffix}").unlink(missing_ok=True)
            self._open()
        except (OSError, sqlite3.Error, ValueError) as error:
            self._disconnect()
            raise ArchiveUnavailable(f"{self._path}: {error}") from None

    def _disconnect(self) -> None:
        with self._busy:
            for link in (self._reading, self._writing):
                if link is not None:
                    link.close()
            self._reading = self._writing = None

    def close(self) -> None:
        self._disconnect()
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None


def _pragma(link: sqlite3.Connection, name: str) -> int:
    return int(link.execute(f"PRAGMA {name}").fetchone()[0])
