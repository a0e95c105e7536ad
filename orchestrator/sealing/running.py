"""Sealing: every day that is over and has no seal yet, each after the one before.

A day is read from where the last seal ended, so that a day's work is a day's records. Nothing is
anchored before the seal is whole and its signature verified; a kill before that leaves nothing, and
a kill between two anchors leaves a seal in the first, which the next run copies to the others.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

import structlog

from orchestrator.core.sealing.growing import Growth, Seat, growths
from orchestrator.core.sealing.seals import (
    NONE,
    Seal,
    Statement,
    UnreadableSeal,
    key_hash,
    next_day,
    read_seal,
    root_of,
    seal_problem,
)
from orchestrator.errors import OrchestratorError, SealRefused, SigningError, SigningProblem
from orchestrator.ports import SealableLog, SealAnchor, SealKey
from schemas.base import instant

log = structlog.get_logger(__name__)

Tell = Callable[[str, int, int], None]
"""Step, done, total."""

GRACE_SECONDS = 300
"""After midnight: a transaction that is open then has ended (they time out after seconds), and
clocks that differ a little do not matter."""
SIGN_ATTEMPTS = 5


class NotYet(OrchestratorError):
    """The day that was asked for is not over."""


@dataclass(frozen=True, slots=True)
class SealedDay:
    seal: Seal
    records: int
    seconds: float


@dataclass
class Done:
    """What a run did: days sealed, copies made of earlier seals, and the newest seal there is."""

    sealed: list[SealedDay] = field(default_factory=list)
    copied: list[tuple[str, str]] = field(default_factory=list)
    newest: Seal | None = None


def newest_due(now: float, grace_seconds: float = GRACE_SECONDS) -> str:
    """The newest day that is over by so much at `now` (Unix seconds)."""
    return next_day(datetime.fromtimestamp(now - grace_seconds, UTC).date().isoformat(), -1)


class Sealing:
    """Seals the log `name` into every anchor; the first anchor decides which seal of a day stands.

    `earlier_keys` are public keys by hash that seals made before may be signed by, beside `key`.
    """

    def __init__(
        self,
        name: str,
        source: SealableLog,
        key: SealKey,
        anchors: Sequence[SealAnchor],
        *,
        earlier_keys: Mapping[str, bytes],
        tell: Tell = lambda step, done, total: None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        assert anchors
        self._name = name
        self._source = source
        self._key = key
        self._anchors = anchors
        self._earlier_keys = earlier_keys
        self._tell = tell
        self._clock = clock

    async def run(self, day: str | None = None) -> Done:
        """Seal up to `day`, or all that is over. Raises NotYet, SealRefused, AnchorUnavailable,
        LogUnavailable, SigningError, StartRefused; what was sealed before that stays sealed."""
        due = newest_due(self._clock())
        if day is not None and day > due:
            raise NotYet(f"{day} cannot be sealed before {GRACE_SECONDS} s of the next day (UTC)")
        last = due if day is None else day
        public_key = await self._key.public_key()
        keys = {**self._earlier_keys, key_hash(public_key): public_key}
        done = Done()
        done.newest = await self._newest(keys, done)
        following = last if done.newest is None else next_day(done.newest.day)
        while following <= last:
            sealed = await self._seal(following, done.newest, public_key)
            done.sealed.append(sealed)
            done.newest = sealed.seal
            following = next_day(following)
        return done

    async def _newest(self, keys: Mapping[str, bytes], done: Done) -> Seal | None:
        """The newest seal of any anchor, believed, once every anchor has what another one has."""
        held = [set(await anchor.days()) for anchor in self._anchors]
        every = sorted(set().union(*held))
        if not every:
            return None
        for day in every:
            lacking = [a for a, days in zip(self._anchors, held, strict=True) if day not in days]
            if lacking:
                await self._copy(day, keys, lacking, done)
        first, *others = [await anchor.read(every[-1]) for anchor in self._anchors]
        if any(other != first for other in others):
            raise SealRefused(f"the anchors hold different seals of {every[-1]}")
        return self._believed(first, every[-1], keys)

    async def _copy(
        self, day: str, keys: Mapping[str, bytes], lacking: Sequence[SealAnchor], done: Done
    ) -> None:
        document = None
        for anchor in self._anchors:
            document = document or await anchor.read(day)
        self._believed(document, day, keys)
        assert document is not None
        for anchor in lacking:
            await anchor.put(day, document)
            done.copied.append((day, anchor.name))
            log.info("seal copied", day=day, anchor=anchor.name)

    def _believed(self, document: bytes | None, day: str, keys: Mapping[str, bytes]) -> Seal:
        """Raises SealRefused."""
        try:
            seal = read_seal(document or b"")
        except UnreadableSeal as error:
            raise SealRefused(f"the seal of {day}: {error}") from None
        if seal.day != day or seal.statement.log != self._name:
            other = f"the day {seal.day} of the log {seal.statement.log!r}"
            raise SealRefused(f"what stands as the seal of {day} is that of {other}")
        problem = seal_problem(seal, keys)
        if problem is not None:
            raise SealRefused(f"the seal of {day} {problem}")
        return seal

    async def _seal(self, day: str, previous: Seal | None, public_key: bytes) -> SealedDay:
        began = time.monotonic()
        now = self._clock()
        grown = await self._grown(day, previous, int(now * 1000))
        partitions = tuple(growth.sealed() for growth in grown)
        statement = Statement(
            log=self._name,
            day=day,
            sealed_at=instant(now),
            previous=NONE if previous is None else previous.statement.hash,
            root=root_of(partitions),
            key=key_hash(public_key),
        )
        signature = await self._signed(statement.text())
        seal = Seal(statement, partitions, signature, public_key)
        keys = {statement.key: public_key}
        problem = seal_problem(seal, keys)
        if problem is not None:
            raise SigningError(SigningProblem.BAD_SIGNATURE, f"the seal of {day} {problem}")
        seal = await self._anchored(seal, keys)
        records = sum(item.records for item in partitions)
        log.info("day sealed", day=day, records=records, root=seal.statement.root)
        return SealedDay(seal, records, time.monotonic() - began)

    async def _grown(self, day: str, previous: Seal | None, now_ms: int) -> list[Growth]:
        bounds = await self._source.bounds()
        grown = growths(list(bounds), previous, day, now_ms)
        for (topic, partition), growth in grown.items():
            if (topic, partition) not in bounds:
                raise SealRefused(f"{topic}/{partition} was sealed and is no longer on the log")
            begin, end = bounds[topic, partition]
            if begin > growth.start:
                text = f"begins at {begin}: records from {growth.start} were deleted unsealed"
                raise SealRefused(f"{topic}/{partition} {text}")
            if end < growth.start:
                text = f"ends at {end}, and was sealed up to {growth.start}"
                raise SealRefused(f"{topic}/{partition} {text}")
        starts = {seat: growth.start for seat, growth in grown.items()}
        ends = {seat: end for seat, (_, end) in bounds.items()}
        total = sum(ends[seat] - start for seat, start in starts.items())
        finished: set[Seat] = set()
        done = 0
        self._tell(day, 0, total)
        async for seat, records in self._source.records(starts, ends, finished):
            grown[seat].take(records)
            if grown[seat].over:
                finished.add(seat)
            done += len(records)
            self._tell(day, done, total)
        self._tell(day, total, total)
        return list(grown.values())

    async def _signed(self, text: bytes) -> bytes:
        """KMS asked again, for what passes, a few times. Raises SigningError."""
        for attempt in range(1, SIGN_ATTEMPTS + 1):
            try:
                return await self._key.sign(text)
            except SigningError as error:
                passing = error.problem in (SigningProblem.THROTTLED, SigningProblem.UNAVAILABLE)
                if not passing or attempt == SIGN_ATTEMPTS:
                    raise
            await asyncio.sleep(random.uniform(0.5, 1) * 2 ** (attempt - 2))  # noqa: S311 - jitter
        raise AssertionError

    async def _anchored(self, seal: Seal, keys: Mapping[str, bytes]) -> Seal:
        """Put into every anchor; another one's seal of the day that came first is taken over."""
        document = seal.document()
        first, *others = self._anchors
        stands = await first.put(seal.day, document)
        if stands != document:
            document, seal = stands, self._believed(stands, seal.day, keys)
            log.info("another process sealed the day first", day=seal.day)
        for anchor in others:
            if await anchor.put(seal.day, document) != document:
                raise SealRefused(f"{first.name} and {anchor.name} hold different seals")
        return seal
