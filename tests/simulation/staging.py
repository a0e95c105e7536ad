"""One request led to any stage, then over any arrow of the lifecycle's table, with a kill there.

The agents are the real ones, two processes of them, on the working model of the log. What other
topics say (Kuro, chains, lanes) is told by the play, so that every stage can meet every fact. An
arrow that `telling` does not know how to provoke fails its test by name.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from random import Random

from orchestrator.core.lifecycle import TABLE, RequestState, Stage, Verdict, evolve
from schemas.base import Fact, Position, Record, encode_value, instant
from schemas.dead_letters import DeadLetter
from schemas.lanes import RelayRefusal
from schemas.requests import ApprovalDrafted, RequestFact
from schemas.topics import EVM_EVENTS, KURO_EVENTS, LANES, REQUESTS, TOPICS, Topic
from streams.deciding import Decider
from tests.simulation.aiming import Aim, Errand, Moment
from tests.simulation.broker import Entry
from tests.simulation.building import FIRST_CHAIN, build
from tests.simulation.faults import Faults
from tests.simulation.loop import Process
from tests.simulation.scenario import Scenario
from tests.simulation.story import agents_tell
from tests.simulation.telling import (
    CAUSES,
    DONE,
    ELSEWHERE,
    KEY,
    LANE_REPORTS,
    MINT_KEY,
    NEEDED_AT,
    OF_MINTS,
    ORIGIN,
    PRELUDES,
    TICKETED,
    WAYS,
    allowed,
    asked,
    done,
    gone,
    granted,
    held,
    orphaned,
    refused,
)
from tests.simulation.worker import Agents

PATIENCE_SECONDS = 120.0
QUIET_SECONDS = 30.0
READ_SECONDS = 2.0
"""Until every book has read what the log shows."""

Arrow = tuple[Stage | None, str, Stage | None]
"""From where, by which fact, to where; no goal means that the fact is recorded."""

ARROWS: list[Arrow] = [
    (start, fact.__name__, goal) for start, row in TABLE.items() for fact, goal in row.items()
]
NEVER_APPLIED = {
    (Stage.UNBACKED, "EvidenceReported"): "what is UNBACKED holds evidence: another is a conflict",
    (Stage.COMPLETED, "EvidenceReported"): "what is COMPLETED holds evidence: as above",
}
"""The table admits these, and the fold refuses or knows each of them before it asks the table."""


Told = tuple[str, str | None]


def told(fact: Fact) -> Told:
    """What tells two facts of one play apart: a request's receipts share one id."""
    return fact.id, getattr(fact, "origin_event", None)


class PatientDecider(Decider):
    """Holds back its decisions on a request while the play says so, as a slow process does."""

    memory: dict[str, Callable[[RequestState], bool]]

    def _owed(self, keys: set[str]) -> dict[str, list[Fact]]:
        holds = self.memory["holds"]
        states = {key: self._book.state(key) for key in keys}
        held = {key for key, state in states.items() if state is not None and holds(state)}
        if held:
            asyncio.get_running_loop().call_later(0.1, self._again, held)
        return super()._owed(keys - held)

    def _again(self, held: set[str]) -> None:
        self._book.touched |= held
        self._awake.set()


class Ledger:
    """The log of `requests`, folded as an auditor would: every fact that was applied, in order."""

    def __init__(self) -> None:
        self.states: dict[str, RequestState] = {}
        self.applied: list[Arrow] = []
        self.told: set[Told] = set()
        self.digests: set[str] = set()
        self.letters: set[str] = set()
        self.refused: list[str] = []
        self.unasked: list[str] = []

    def witness(self, entry: Entry) -> None:
        position = Position(entry.topic, entry.partition, entry.offset)
        record = TOPICS[entry.topic].decode(entry.value, position)
        fact = record.fact
        self.told.add(told(fact))
        if isinstance(fact, DeadLetter):
            self.letters.add(fact.detail)
        if not isinstance(fact, RequestFact):
            return
        before = self.states.get(fact.request_key)
        state, verdict = evolve(before, record)
        if verdict is Verdict.APPLIED and state is not None:
            self.states[fact.request_key] = state
            start = before.stage if before else None
            self.applied.append((start, fact.kind, state.stage))
            if isinstance(fact, ApprovalDrafted):
                self.digests.add(fact.digest)
        elif verdict is not Verdict.REPEATED:
            self.refused.append(f"{verdict} {fact.id}")

    def asked(self, digest: str) -> None:
        if digest not in self.digests:
            self.unasked.append(digest)


FAIR = replace(
    Scenario.of(0),
    layout=(("decide", "sign"), ("decide", "sign")),
    chains=1,
    wallets=2,
    ttl_seconds=600,
    kills_every=0.0,
    pauses_every=0.0,
    zombies=0.0,
    lost_requests=0.0,
    lost_answers=0.0,
    late_arrivals=0.0,
    reorganisations_every=0.0,
    drops_every=0.0,
    node_lags=0.0,
    node_outages_every=0.0,
    kms_outages_every=0.0,
    kms_throttled=0.0,
    deep_reorganisation=False,
    pause_orders_every=0.0,
    cancels_every=0.0,
    retries_every=0.0,
    launchpad=False,
    foreign_mints=0,
    rate_limits=0.0,
    gas_misjudged_every=0.0,
    policy=None,
    compared_within_seconds=0.0,
)


class Play:
    """One arrow, and a kill at its moment; without one, the play that the others are compared with.

    After `run`: `ledger` is what the log says, `aim.fell` where the kill fell, `problems` what the
    agents did wrong."""

    def __init__(self, arrow: Arrow, moment: Moment | None) -> None:
        self.start, self.kind, self.goal = arrow
        self.key = MINT_KEY if self.kind in OF_MINTS else KEY
        self.ledger = Ledger()
        self.problems: list[str] = []
        self.told_when_it_fell: set[Told] = set()
        self._holds: Callable[[RequestState], bool] = lambda state: False
        self.aim: Aim | None = None
        if moment is not None:
            self.aim = Aim(self._wanted, moment)
            self.aim.armed = False
            self.aim.on_fall = lambda: self.told_when_it_fell.update(self.ledger.told)
        memory = {"holds": self._is_held}
        self.world = build(FAIR, Random(1), Agents(decider=PatientDecider, memory=memory), self.aim)
        self.world.broker.witnesses[:] = [self.ledger.witness]
        self.world.broker.recorders.clear()
        self.world.kms._on_ask = self.ledger.asked
        self._told_seconds = 0
        self.world.guard._now = lambda: max(self._told_seconds, self.world.loop.unix_seconds)
        self.chain_terms = self.world.terms.chains[FIRST_CHAIN]

    def _wanted(self, errand: Errand) -> bool:
        return errand.verb == "append" and errand.carries((self.kind,)) and self.stage is self.start

    def _is_held(self, state: RequestState) -> bool:
        return self._holds(state)

    @property
    def state(self) -> RequestState | None:
        return self.ledger.states.get(self.key)

    @property
    def stage(self) -> Stage | None:
        return self.state.stage if self.state else None

    def run(self) -> Play:
        loop, story = self.world.loop, self.world.story
        loop.on_error = self.problems.append
        faults = Faults(self.world, FAIR, Random(2))
        with agents_tell(story, lambda event, details: self.problems.append(f"{event} {details}")):
            loop.world.run(faults.start)
            script = loop.spawn(Process("the play"), self._script(), "the play")
            loop.run(script.done)
            for worker in faults.workers:
                for book in worker.books:
                    for key in {*self.ledger.states, *(one.key for one in book.states())}:
                        if book.state(key) not in (None, self.ledger.states.get(key)):
                            self.problems.append(f"{worker.process.name} holds other than the log")
            story.over = True
            loop.close()
        script.result()
        self.problems += story.violations + self.ledger.unasked
        return self

    async def _script(self) -> None:
        await asyncio.sleep(2)
        await self._lead()
        before = len(self.ledger.applied)
        if self.aim is not None:
            self.aim.armed = True
        await self._provoke()
        if self.aim is not None:
            await self._until(lambda: self.aim is not None and self.aim.fell is not None)
        fact = (self.start, self.kind)
        if fact not in NEVER_APPLIED:
            await self._until(lambda: fact in [a[:2] for a in self.ledger.applied[before:]])
        await asyncio.sleep(READ_SECONDS)
        self._release()
        await asyncio.sleep(QUIET_SECONDS)

    async def _until(self, holds: Callable[[], bool]) -> None:
        deadline = self.world.loop.time() + PATIENCE_SECONDS
        while not holds():
            if self.world.loop.time() > deadline:
                self.problems.append(f"it did not come to pass; at {self.stage}")
                return
            await asyncio.sleep(0.05)

    # The way to the stage

    async def _lead(self) -> None:
        """To where the arrow begins, with everything told that it needs but its own cause."""
        start, kind = self.start, self.kind
        late = kind in LANE_REPORTS and start in (Stage.RECEIVED, Stage.HELD, Stage.REJECTED)
        if late:
            await self._late_reports(start)
        elif start is Stage.FAILED and kind == "RefusalReported":
            await self._reach(Stage.INCLUDED)
            self._holds = lambda state: False
            self._tell(EVM_EVENTS, done(amount=999))
        elif start is not None:
            await self._reach(start)
        await self._until(lambda: self.stage is start)
        prelude = PRELUDES.get(kind)
        needed = kind not in NEEDED_AT or start in NEEDED_AT[kind]
        if prelude is not None and needed:
            topic, fact, holds = prelude
            self._tell(topic, fact)
            await self._until(lambda: self.state is not None and holds(self.state))
        await asyncio.sleep(READ_SECONDS)

    async def _late_reports(self, start: Stage | None) -> None:
        """Back to the beginning after a completion that a deep reorganisation took back."""
        await self._reach(Stage.COMPLETED)
        self._holds = lambda state: state.stage is Stage.RECEIVED
        if start is Stage.REJECTED:
            self._forget_the_chain()
            self._holds = lambda state: False
        self._tell(EVM_EVENTS, gone(DONE))
        if start is Stage.HELD:
            await self._until(lambda: self.stage is Stage.RECEIVED)
            assert self.state is not None
            self._tell(LANES, held(self.state.ticket))

    async def _reach(self, stage: Stage) -> None:
        before = {stage, Stage.RECEIVED} if stage is Stage.HELD else {stage}
        self._holds = lambda state: state.stage in before
        self.world.kms.down = stage is Stage.DRAFTED
        if stage is Stage.REJECTED:
            self._forget_the_chain()
        for topic, fact, passed in WAYS[stage]:
            if self.kind in OF_MINTS and topic is EVM_EVENTS:
                self._tell(KURO_EVENTS, allowed())
            else:
                self._tell(topic, fact)
            await self._until(lambda passed=passed: self.stage is passed)  # type: ignore[misc]

    # The arrow itself

    async def _provoke(self) -> None:
        told = CAUSES.get(self.kind)
        if told is None:
            return self._release()
        topic, fact = told
        if self.kind in OF_MINTS:
            self._holds = lambda state: False
        if self.kind == "RetractionReported" and self.start in (Stage.COMPLETED, Stage.UNBACKED):
            fact = gone(DONE)
        elif self.kind == "RetractionReported" and self.start is Stage.RETRACTED:
            fact = gone(ELSEWHERE)
        elif self.kind == "RequestReceived" and self.start in (None, Stage.UNBACKED):
            fact = asked(ORIGIN)
        elif self.kind == "ApprovalNonceGranted" and self.state is not None:
            fact = granted(self.state.attempt + 1)
        elif self.kind in TICKETED and self.state is not None:
            fact = TICKETED[self.kind](self.state.ticket)
        elif self.kind == "OrphaningReported":
            fact = orphaned(1)
        elif self.kind == "RefusalReported" and self.start is Stage.EXPIRED:
            fact = refused(RelayRefusal.REVERTED, assignment=2)
        return self._tell(topic, fact)

    def _release(self) -> None:
        if self.kind == "RequestRejected":
            self._forget_the_chain()
        self._holds = lambda state: False
        self.world.kms.down = False

    def _forget_the_chain(self) -> None:
        """The chain is no longer configured."""
        self.world.terms.chains.pop(FIRST_CHAIN, None)  # type: ignore[attr-defined]

    def _tell(self, topic: Topic, fact: Fact) -> None:
        """The guard's clock has come as far as the blocks that the play tells of."""
        self._told_seconds = max(self._told_seconds, getattr(fact, "block_timestamp", 0))
        value = encode_value(Record(fact, instant(self.world.loop.unix_seconds)))
        self.world.broker.append([(topic, fact.key.encode(), value)])


def outcome(state: RequestState | None) -> object:
    """What must be the same, killed or not: not when, and not which of several equal choices."""
    if state is None:
        return None
    ending = state.ending
    return (
        state.stage,
        state.attempt,
        state.received.origin_event if state.received else None,
        state.evidence,
        sorted(state.retracted_seats),
        (ending.kind, getattr(ending, "reason", None)) if ending else None,
        [getattr(state, name) is not None for name in ("signed", "assigned", "submission")],
        state.inclusion,
        state.refusal.reason if state.refusal else None,
    )


assert REQUESTS.kinds.keys() == {arrow[1] for arrow in ARROWS}
