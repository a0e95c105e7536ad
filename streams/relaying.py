"""Relaying: the lanes, sequences and policies of the partitions owned here, each with its task."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

import structlog

from orchestrator.closing import ended
from orchestrator.ports import Message
from schemas.base import UnreadableRecord
from schemas.controls import OrderFact
from schemas.lanes import CancellationRequested, LaneResumed, RelayRequested
from schemas.policies import ClearanceRequested, PolicyAdopted, ReleaseRequested
from schemas.sequences import MintRetracted, MintSeen, NonceRequested
from schemas.topics import LANES
from streams.clearing import PolicyOwner
from streams.lane_owner import LaneOwner
from streams.sequencing import SequenceOwner

log = structlog.get_logger(__name__)

OFFERED = (
    RelayRequested,
    CancellationRequested,
    LaneResumed,
    NonceRequested,
    MintSeen,
    MintRetracted,
    PolicyAdopted,
    ClearanceRequested,
    ReleaseRequested,
)
"""What others append for an owner."""
_MARKS = tuple(kind.__name__.encode() for kind in OFFERED)


class Owner(Protocol):
    """The owner of a lane, of a chain's sequences, or of the policies."""

    key: str
    reason: str | None

    def offer(self, fact: Any) -> None: ...

    def hurry(self) -> None: ...

    async def run(self) -> None: ...


class Relayer:
    """Starts and stops lane owners as partitions come and go.

    A lane that stays ours is not disturbed by a rebalance. Where assignments passed without us (a
    process that slept past its session), another process may have owned it, and read what was
    asked of it: the fence would tell only at an append, and nothing may be left to append. So every
    owner starts anew then, from the log."""

    def __init__(
        self,
        lanes: Mapping[str, tuple[int, Callable[[], Owner]]],
        generation: Callable[[], int],
    ) -> None:
        """`lanes`: by the key of its facts, the partition that has it and what makes its owner.
        `generation` counts the group's assignments, as the broker told it with the last one."""
        self._makers = dict(lanes)
        self._generation = generation
        self._owned_since: int | None = None
        self._owners: dict[str, Owner] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._leaving: set[asyncio.Future[None]] = set()
        self._unknown: set[str] = set()

    @property
    def owners(self) -> Sequence[Owner]:
        return list(self._owners.values())

    @property
    def lane_owners(self) -> Sequence[LaneOwner]:
        return [owner for owner in self._owners.values() if isinstance(owner, LaneOwner)]

    @property
    def sequence_owners(self) -> Sequence[SequenceOwner]:
        return [owner for owner in self._owners.values() if isinstance(owner, SequenceOwner)]

    @property
    def policy_owners(self) -> Sequence[PolicyOwner]:
        return [owner for owner in self._owners.values() if isinstance(owner, PolicyOwner)]

    async def own(self, partitions: set[int]) -> None:
        wanted = {key for key, (seat, _) in self._makers.items() if seat in partitions}
        generation, before = self._generation(), self._owned_since
        followed = before is not None and generation in (before, before + 1)
        for key in sorted(set(self._owners) - (wanted if followed else set())):
            await self._stop(key)
        self._owned_since = generation
        for key in sorted(wanted - set(self._owners)):
            owner = self._makers[key][1]()
            self._owners[key] = owner
            self._tasks[key] = asyncio.create_task(owner.run(), name=f"lane {key}")
            self._tasks[key].add_done_callback(_report)
        log.info("lanes owned here", lanes=sorted(self._owners))

    async def read(self, messages: Sequence[Message]) -> None:
        """Hand to each lane what others append for it. All else on the topic is the owners' own."""
        for message in messages:
            value = message.value or b""
            if not any(mark in value for mark in _MARKS):
                continue
            try:
                fact = LANES.decode(message.value).fact
            except UnreadableRecord:  # the deciding role dead-letters it
                continue
            if not isinstance(fact, OFFERED):
                continue
            owner = self._owners.get(fact.key)
            if owner is not None:
                owner.offer(fact)
            elif fact.key not in self._makers and fact.key not in self._unknown:
                self._unknown.add(fact.key)
                log.error(
                    "work for a wallet that is not configured here; it waits on the log",
                    lane=fact.key,
                )

    def hear(self, _: OrderFact | None) -> None:
        """An order came, or what was held may go on: every lane looks at once."""
        for owner in self._owners.values():
            owner.hurry()

    async def _stop(self, key: str) -> None:
        """Goes on by itself should the assignment change once more meanwhile."""
        self._owners.pop(key)
        leaving = asyncio.ensure_future(ended([self._tasks.pop(key)]))
        self._leaving.add(leaving)
        leaving.add_done_callback(self._leaving.discard)
        await asyncio.shield(leaving)

    async def close(self) -> None:
        for key in list(self._owners):
            await self._stop(key)


def _report(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and task.exception() is not None:
        log.error("lane owner died", task=task.get_name(), exc_info=task.exception())
