"""The owner of the policies: it judges each mint before it is drafted, where a policy is in force.

One for the whole service, for windows and references span all chains. Like a lane's owner: fence,
replay, then one pass after another, and what is not appended did not happen. Without any fact under
its key it does nothing, and fences nobody. Chains are asked only for their registries
(`registries`); one that cannot be asked holds those whom it is about, and nobody else.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping, Sequence

import structlog

from orchestrator.core.clearing import Clearing, doubtful, evolve, expects, questions
from orchestrator.core.clearing_answers import due, next_moment
from orchestrator.core.stages import Verdict
from orchestrator.errors import Fenced, LogUnavailable
from orchestrator.ports import FactLog, OwnedLog
from schemas.base import UnreadableRecord
from schemas.policies import (
    POLICIES,
    HoldLapsed,
    PolicyAdopted,
    PolicyFact,
    RequestHeld,
)
from schemas.topics import LANES
from streams.registries import LOOK_EVERY_SECONDS, Chains, Registries, Unasked
from streams.retrying import Backoff, awoken

log = structlog.get_logger(__name__)


class PolicyOwner:
    """Owns the policies while their partition is ours. `reason` says why nothing is judged, if
    so."""

    def __init__(
        self,
        chains: Chains,
        facts: FactLog,
        partition: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`clock` gives Unix seconds; each judgement records what it gave."""
        self.key = POLICIES
        self.reason: str | None = "starting"
        self._facts = facts
        self._partition = partition
        self._clock = clock
        self._inbox: list[PolicyFact] = []
        self._awake = asyncio.Event()
        self._state = Clearing()
        self._registries = Registries(
            chains, lambda chain: self._state.final_blocks.get(chain, 0), self._awake.set
        )
        self._log = log.bind(owner=self.key)

    @property
    def state(self) -> Clearing:
        return self._state

    @property
    def unasked(self) -> Mapping[int, Unasked]:
        """Chains whose registry cannot be asked, and why."""
        return self._registries.unasked

    def offer(self, fact: PolicyFact) -> None:
        """What others appended, from the stream; folded at the next pass."""
        self._inbox.append(fact)
        self._awake.set()

    def hurry(self) -> None:
        """Look at once: an operator ordered something."""
        self._awake.set()

    async def run(self) -> None:
        """Own the policies until cancelled. When fenced or when an append's outcome is unknown,
        start anew from the log."""
        backoff = Backoff(first_seconds=0.2, longest_seconds=10)
        while True:
            owned: OwnedLog | None = None
            try:
                if not self._inbox and not await self._replay():
                    self.reason = None
                    await self._awake.wait()
                    self._awake.clear()
                    continue
                owned = self._facts.owned(f"policies.{self._partition}")
                await owned.start()
                await self._replay()
                self._log.info("policies are open", asked=len(self._state.asked))
                backoff.reset()
                await self._serve(owned)
            except Fenced as error:
                self.reason = str(error)
                self._log.warning("policies fenced; starting anew", reason=str(error))
            except LogUnavailable as error:
                self.reason = str(error)
                self._log.warning("policies cannot start or go on", reason=str(error))
            finally:
                await self._registries.close()
                if owned is not None:
                    await owned.close()
            await backoff.sleep()

    async def _replay(self) -> bool:
        """False when nothing stands on the log for this owner."""
        self._state, known = Clearing(), False
        async for _, messages in self._facts.replay(LANES, {self._partition: 0}):
            for message in messages:
                if message.key != self.key.encode():
                    continue
                known = True
                try:
                    self._fold(LANES.decode(message.value).fact)
                except UnreadableRecord as error:  # the stream's reader dead-letters it
                    self._log.error("unreadable record in the policies", reason=str(error))
            await asyncio.sleep(0)
        return known

    async def _serve(self, owned: OwnedLog) -> None:
        while True:
            await self._pass(owned)
            self.reason = None
            await awoken(self._awake, self._pause())

    def _pause(self) -> float:
        """Until something may be due by itself; at most a minute, at least a look's time."""
        moment = next_moment(self._state)
        left = 60.0 if moment is None else moment - self._clock()
        waits = bool(self._inbox or self._state.asked or doubtful(self._state))
        return max(LOOK_EVERY_SECONDS, min(60.0, LOOK_EVERY_SECONDS if waits else left))

    async def _pass(self, owned: OwnedLog) -> None:
        inbox, self._inbox = self._inbox, []
        for fact in inbox:
            self._fold(fact)
        told = [fact for fact in self._registries.taken() if expects(self._state, fact)]
        await self._append(owned, told)
        await self._answer(owned)
        self._registries.consider(questions(self._state), doubtful(self._state))

    async def _answer(self, owned: OwnedLog) -> None:
        unasked = self._registries.given_up
        while facts := due(self._state, int(self._clock()), unasked):
            await self._append(owned, facts)

    async def _append(self, owned: OwnedLog, facts: Sequence[PolicyFact]) -> None:
        """Append in one transaction, then fold: what is not on the log did not happen."""
        if not facts:
            return
        await owned.append(LANES, facts)
        for fact in facts:
            self._log.debug("fact appended", fact=fact)
            self._fold(fact)
            if isinstance(fact, RequestHeld | HoldLapsed):
                self._log.warning("policy", fact=fact)

    def _fold(self, fact: object) -> None:
        assert isinstance(fact, PolicyFact)
        verdict = evolve(self._state, fact)
        if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
            self._log.error("fact refused by the policies", verdict=verdict, fact=fact)
        elif isinstance(fact, PolicyAdopted) and verdict is Verdict.APPLIED:
            self._log.info("policy adopted", version=fact.version, who=fact.who)
