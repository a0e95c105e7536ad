"""A request among its surroundings: two sources that tell in order but may tell again, decisions
that land late, twice and in any order, a chain that executes and reorganises, time that passes,
and an operator who cancels and retries.

Whatever the interleaving: nothing lawful is refused, at most one approval can execute, and once
the surroundings hold still the request is completed, or was cancelled and never executed.
"""

from __future__ import annotations

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from orchestrator.core.lifecycle import Stage, Verdict, evolve
from orchestrator.core.owing import Sign, pending
from schemas.lanes import CancellationRequested, RelayRefusal
from schemas.requests import ApprovalDrafted, FailureReason, OrderReported
from schemas.topics import REQUESTS
from tests.core.facts import (
    START,
    TERMS,
    cancelled,
    evidence,
    included,
    orphaned,
    received,
    record,
    refused,
    retracted,
    retried,
    seat,
    signed,
    submitted,
)


class Surroundings(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.state = None
        self.second = 0
        self.number = 100
        self.origin = seat(100)
        self.evm, self.evm_read = [received(self.origin)], 0
        self.lane, self.lane_read = [], 0
        self.decided = []
        self.relays = {}
        self.digests = {}
        self.refusals = set()
        self.inclusions = []
        self.executed = None
        self.reorganised = False
        self.orders, self.orders_read = [], 0
        self.given_back = set()

    def append(self, fact):
        self.second += 1
        before = self.state
        self.state, verdict = evolve(before, record(fact, self.second))
        lawful = {Verdict.APPLIED, Verdict.REPEATED}
        if isinstance(fact, OrderReported):
            lawful.add(Verdict.OUT_OF_ORDER)  # it makes no sense there: refused, and said so
        assert verdict in lawful, (before and before.stage, fact, verdict)
        if verdict is Verdict.APPLIED and isinstance(fact, ApprovalDrafted):
            self.digests[fact.attempt] = (fact.digest, fact.deadline)

    def fresh(self):
        self.number += 1
        return self.number

    @rule()
    def the_chains_source_tells(self):
        if self.evm_read < len(self.evm):
            self.append(self.evm[self.evm_read])
            self.evm_read += 1

    @rule()
    def the_lanes_source_tells(self):
        if self.lane_read < len(self.lane):
            self.append(self.lane[self.lane_read])
            self.lane_read += 1

    @rule(cancels=st.booleans())
    @precondition(lambda self: len(self.orders) < 5)
    def an_operator_orders(self, cancels):
        name = f"o-{len(self.orders)}"
        self.orders.append(cancelled(name) if cancels else retried(name))

    @rule()
    def the_orders_source_tells(self):
        if self.orders_read < len(self.orders):
            self.append(self.orders[self.orders_read])
            self.orders_read += 1

    @rule(steps=st.integers(1, 4))
    def a_source_starts_anew_from_an_earlier_place(self, steps):
        self.evm_read = max(0, self.evm_read - steps)
        self.lane_read = max(0, self.lane_read - steps)
        self.orders_read = max(0, self.orders_read - steps)

    @rule(times=st.integers(1, 2))
    @precondition(lambda self: self.state is not None)
    def somebody_decides(self, times):
        owed = pending(self.state, TERMS)
        if isinstance(owed, Sign):
            self.decided += [signed(owed.attempt, f"a{n}", owed.digest) for n in range(times)]
        elif owed is not None and owed.topic is REQUESTS:
            self.decided += [owed.fact] * times
        elif owed is not None and isinstance(owed.fact, CancellationRequested):
            self.the_lane_gives_back(owed.fact.attempt)
        elif owed is not None and owed.fact.attempt not in self.given_back:
            self.relays.setdefault(owed.fact.attempt, owed.fact)

    def the_lane_gives_back(self, attempt):
        """Unless a transaction of it was mined; it never takes the work up again."""
        mined = any(attempt == other for other, _ in self.inclusions)
        if not mined and attempt not in self.given_back:
            self.given_back.add(attempt)
            self.relays.pop(attempt, None)
            self.lane.append(refused(attempt, RelayRefusal.CANCELLED))

    @rule(choice=st.integers(0, 50))
    @precondition(lambda self: self.decided)
    def a_decision_lands(self, choice):
        self.append(self.decided.pop(choice % len(self.decided)))

    @rule(choice=st.integers(0, 50))
    @precondition(lambda self: self.relays)
    def the_lane_broadcasts_and_a_block_includes(self, choice):
        attempt = sorted(self.relays)[choice % len(self.relays)]
        tx = self.fresh()
        self.lane += [submitted(attempt, tx), included(attempt, tx, tx)]
        self.inclusions.append((attempt, tx))
        if self.executed is None and self.second_of_chain() <= self.relays[attempt].deadline:
            self.executed = tx
            self.evm.append(evidence(tx))

    @rule()
    @precondition(lambda self: self.inclusions)
    def a_block_is_orphaned(self):
        attempt, tx = self.inclusions.pop()
        if tx != self.executed:
            self.lane.append(orphaned(attempt, tx, tx))

    @rule()
    @precondition(lambda self: self.executed is not None)
    def a_deep_reorganisation_takes_the_evidence(self):
        self.reorganised = True
        self.evm.append(retracted(seat(self.executed)))
        self.executed = None

    @rule()
    @precondition(lambda self: self.number < 130)
    def a_deep_reorganisation_takes_all_and_the_origin_comes_back(self):
        self.reorganised = True
        self.evm.append(retracted(self.origin))
        if self.executed is not None:
            self.evm.append(retracted(seat(self.executed)))
        self.executed, self.origin = None, seat(self.fresh())
        self.evm.append(received(self.origin))

    @rule()
    def a_day_passes(self):
        self.second += 90_000

    @rule()
    def the_lane_proves_that_time_is_over(self):
        for attempt, work in self.relays.items():
            over = self.second_of_chain() > work.deadline and self.executed is None
            if over and attempt not in self.refusals:
                self.refusals.add(attempt)
                self.lane.append(refused(attempt))

    def second_of_chain(self):
        return START + self.second

    @invariant()
    def completed_requests_stand_on_evidence(self):
        if self.state is not None and self.state.stage is Stage.COMPLETED:
            assert self.state.evidence is not None
            assert self.state.evidence.seat not in self.state.retracted_seats

    @invariant()
    def at_most_one_approval_can_execute(self):
        """Two different digests may share the future only after an origin that moved."""
        if not self.reorganised:
            now = self.second_of_chain()
            live = {digest for digest, deadline in self.digests.values() if deadline >= now}
            assert len(live) <= 1

    def teardown(self):
        """The surroundings hold still: everything is told, all decisions land, the lane works."""
        for _ in range(60):
            while self.evm_read < len(self.evm):
                self.the_chains_source_tells()
            while self.lane_read < len(self.lane):
                self.the_lanes_source_tells()
            while self.orders_read < len(self.orders):
                self.the_orders_source_tells()
            self.somebody_decides(times=1)
            while self.decided:
                self.a_decision_lands(choice=0)
            self.the_lane_proves_that_time_is_over()
            attempt = self.state.attempt
            working = self.state.stage in (Stage.RELAYING, Stage.SUBMITTED, Stage.INCLUDED)
            if working and self.executed is None and attempt in self.relays:
                newest = sorted(self.relays).index(attempt)
                self.the_lane_broadcasts_and_a_block_includes(choice=newest)
        if self.state.stage is Stage.FAILED:
            assert self.state.ending.reason is FailureReason.CANCELLED
            assert self.executed is None
        else:
            assert self.state.stage is Stage.COMPLETED, self.state


Surroundings.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestSurroundings = Surroundings.TestCase
