"""Planted defects: what the simulation must catch. Each puts one wrong part into the agents."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

from orchestrator.core.lifecycle import Stage
from orchestrator.core.owing import Sign
from orchestrator.ports import Message, OwnedLog
from schemas.base import Fact
from schemas.lanes import LaneFact, RelayRefusal, TransactionPrepared
from schemas.requests import DraftRecalled, RefusalReported
from schemas.topics import REQUESTS
from streams.controls import Controls
from streams.deciding import Decider
from streams.lane_owner import LaneOwner
from streams.sequencing import SequenceOwner
from streams.signing import SigningDesk
from tests.simulation.worker import Agents


class SkipsWhatItHasSeen(Decider):
    """Its table of what was seen outlives the process, and is written before the output is."""

    memory: dict[str, Any]

    async def forward(self, messages: Sequence[Message]) -> None:
        seen = self.memory.setdefault("seen", set())
        fresh = []
        for message in messages:
            mark = fact_id(message)
            if mark not in seen:
                seen.add(mark)
                fresh.append(message)
        await super().forward(fresh)


def fact_id(message: Message) -> str:
    found = re.search(rb'"id":"([^"]*)"', message.value or b"")
    return found[1].decode() if found else f"{message.topic}/{message.partition}/{message.offset}"


class DraftsTwice(Decider):
    """Says of what a lane has that its approval is dead, and so drafts another one beside it."""

    def _owed(self, keys: set[str]) -> dict[str, list[Fact]]:
        owed = super()._owed(keys)
        for key in sorted(keys):
            state = self._book.state(key)
            if state is None or state.stage is not Stage.RELAYING or state.attempt > 1:
                continue
            if state.assigned is None or state.refusal is not None:
                continue
            lie = RefusalReported(
                request_key=key,
                attempt=state.attempt,
                assignment=state.assigned.assignment,
                reason=RelayRefusal.EXPIRED,
                detail="a lie",
                block_number=1,
                block_timestamp=2_000_000_000,
            )
            owed.setdefault(REQUESTS.name, []).append(lie)
        return owed


class ActsOnArrivalsOnly(SigningDesk):
    """Signs for what has just arrived; what was there before it came owes it nothing."""

    async def own(self, partitions: set[int]) -> None:
        await super().own(partitions)
        self._book.touched.clear()


class BroadcastsFirst(LaneOwner):
    """Sends the signed bytes, then appends them."""

    async def _append(self, owned: OwnedLog, facts: Sequence[LaneFact]) -> None:
        raws = [fact.raw for fact in facts if isinstance(fact, TransactionPrepared)]
        if raws:
            await self._node.send_raw(raws)
        await super()._append(owned, facts)


class CountsNoncesItself(LaneOwner):
    """Takes the chain's count for the next nonce when it starts, and counts on from there."""

    async def _open(self, owned: OwnedLog) -> None:
        await super()._open(owned)
        self._state.next_nonce = await self._node.transaction_count(self._state.wallet)


class DeafToPauses(LaneOwner):
    """Goes on whatever operators order."""

    def _forget(self, wallet: str) -> None:
        super()._forget(wallet)
        self._orders._controls = cast("Controls", Heedless())


class Heedless:
    def holds(self, *_: object, **__: object) -> None:
        return None

    pause = holds


class DeafDesk(SigningDesk):
    """Asks KMS for whatever was drafted before the pause."""

    def _is_held(self, owed: Sign) -> bool:
        return False


class SignsWhatIsNotCleared(SigningDesk):
    """Leaves it to the decider to recall what another policy had cleared."""

    def _is_unjudged(self, owed: Sign) -> bool:
        return False


class NeverRecalls(Decider):
    """Leaves it to the desk to refuse."""

    def _owed(self, keys: set[str]) -> dict[str, list[Fact]]:
        owed = super()._owed(keys)
        for topic, facts in owed.items():
            owed[topic] = [fact for fact in facts if not isinstance(fact, DraftRecalled)]
        return owed


class GivesUpWhatIsOut(LaneOwner):
    """Says that cancelled work is given up although a transaction of it is out."""

    async def _pass(self, owned: OwnedLog) -> None:
        for relay in [relay for relay in self._state.cancelled if relay in self._state.working]:
            self._state.waiting[relay] = self._state.working.pop(relay)
        await super()._pass(owned)


class ForgetsItsGrants(SequenceOwner):
    """Goes by the chain's count when it starts: what it granted before is nobody's."""

    async def _replay(self) -> None:
        await super()._replay()
        self._state.live.clear()
        for sequence in self._state.by_recipient.values():
            sequence.held.clear()


@dataclass(frozen=True)
class Defect:
    agents: Callable[[], Agents]
    caught_by: tuple[str, ...]
    """How the story ends, one of these."""
    within_seeds: int
    start: int = 0
    """The first seed: chosen so that the test is quick."""


DEFECTS = {
    "skip on seen": Defect(
        lambda: Agents(decider=SkipsWhatItHasSeen), ("never came to an end",), 100, start=300
    ),
    "broadcast before append": Defect(
        lambda: Agents(lane_owner=BroadcastsFirst), ("bytes at a node that are not on the log",), 3
    ),
    "no fence": Defect(
        lambda: Agents(fencing=False),
        (
            "one nonce, two requests",
            "the lane's fold says",
            "the sequence's fold says",
            "a lane's owner differs from the log",
            "one request, two nonces",
            "bytes at",
            "an agent reports: the guard refuses",
        ),
        100,
    ),
    "deaf to pauses": Defect(
        lambda: Agents(lane_owner=DeafToPauses), ("sent to a node while paused", "prepared"), 50
    ),
    "deaf desk": Defect(lambda: Agents(desk=DeafDesk), ("sent to KMS while paused",), 40, start=70),
    "signs what is not cleared": Defect(
        lambda: Agents(desk=SignsWhatIsNotCleared), ("sent to KMS uncleared",), 100, start=416
    ),
    "never recalls": Defect(lambda: Agents(decider=NeverRecalls), ("never came to an end",), 100),
    "gives up what is out": Defect(
        lambda: Agents(lane_owner=GivesUpWhatIsOut), ("the lane's fold says", "an agent"), 50
    ),
    "forgets its grants": Defect(
        lambda: Agents(sequence_owner=ForgetsItsGrants),
        ("the sequence's fold says", "one nonce, two live approvals", "an agent reports"),
        50,
    ),
    "drafts twice": Defect(lambda: Agents(decider=DraftsTwice), ("two live approvals",), 20),
    "edge trigger": Defect(lambda: Agents(desk=ActsOnArrivalsOnly), ("never came to an end",), 50),
    "counter nonce": Defect(
        lambda: Agents(lane_owner=CountsNoncesItself),
        ("one nonce, two requests", "the lane's fold says", "never came to an end", "an agent"),
        50,
    ),
}


def first_caught(defect: Defect, start: int | None = None) -> tuple[int, str] | None:
    """The number of seeds it took, and the violation; None when it was not caught."""
    from tests.simulation.running import simulate

    first = defect.start if start is None else start
    for count in range(defect.within_seeds):
        outcome = simulate(first + count, defect.agents())
        if outcome.violations:
            return count + 1, outcome.violations[0]
    return None
