"""Operators: they pause and resume, cancel and retry, at random; some orders are given twice, some
make no sense. They append to `controls` as the command does."""

from __future__ import annotations

from random import Random

from schemas.base import Record, encode_value, instant
from schemas.controls import (
    EVERYTHING,
    CancelOrdered,
    OrderFact,
    RetryOrdered,
    WorkPaused,
    WorkResumed,
    chain_scope,
    request_scope,
    wallet_scope,
)
from schemas.topics import CONTROLS
from tests.simulation.load import Load
from tests.simulation.scenario import Scenario
from tests.simulation.worker import World


class Operators:
    def __init__(self, world: World, scenario: Scenario, rng: Random, load: Load) -> None:
        self._world = world
        self._scenario = scenario
        self._rng = rng
        self._load = load
        self._active = True
        self._given = 0
        self._paused: set[str] = set()

    def start(self) -> None:
        self._every(self._scenario.pause_orders_every, self._pause)
        self._every(self._scenario.cancels_every, self._cancel)
        self._every(self._scenario.retries_every, self._retry)

    def stop(self) -> None:
        """Everything goes on; what was cancelled may stay so."""
        self._active = False
        for scope in sorted(self._paused):
            self._resume(scope)

    def _every(self, seconds: float, act: object) -> None:
        if not seconds:
            return

        def again() -> None:
            if self._active:
                act()  # type: ignore[operator]
                self._world.loop.in_world(self._rng.uniform(0.2, 1.8) * seconds, again)

        self._world.loop.in_world(self._rng.uniform(0.1, 1.8) * seconds, again)

    def _order(self) -> dict[str, str]:
        self._given += 1
        return {"order": f"o-{self._given}", "who": "ann", "why": "by chance"}

    def _give(self, fact: OrderFact) -> None:
        """Now, and perhaps once more later: the first answer was lost."""
        self._world.story.tell(f"ORDERED {fact.kind}", scope=fact.key, order=fact.order)
        self._world.story.count("orders")
        self._append(fact)
        if self._rng.random() < 0.2:
            self._world.loop.in_world(self._rng.random() * 10, self._append, fact)

    def _append(self, fact: OrderFact) -> None:
        record = Record(fact, instant(self._world.loop.unix_seconds))
        self._world.broker.append([(CONTROLS, fact.key.encode(), encode_value(record))])

    def _scope(self) -> str:
        rng = self._rng
        chain_id = rng.choice(list(self._world.chains))
        wallet = rng.choice(self._world.wallets[chain_id]).address
        scopes = [EVERYTHING, chain_scope(chain_id), wallet_scope(chain_id, wallet)]
        return rng.choice([*scopes, wallet_scope(chain_id, wallet.lower()), self._request()[1]])

    def _request(self) -> tuple[str, str]:
        """A request's key, known or not yet, and its scope."""
        known = [*self._world.oracle.requests, f"mint-{self._rng.randrange(14)}"]
        key = self._rng.choice(known)
        return key, request_scope(key)

    def _pause(self) -> None:
        scope = self._scope()
        self._give(WorkPaused(**self._order(), scope=scope))
        self._paused.add(scope)
        self._world.loop.in_world(self._rng.uniform(2, 40), self._resume, scope)

    def _resume(self, scope: str) -> None:
        if scope in self._paused:
            self._paused.remove(scope)
            self._give(WorkResumed(**self._order(), scope=scope))

    def _cancel(self) -> None:
        self._give(CancelOrdered(**self._order(), request_key=self._request()[0]))

    def _retry(self) -> None:
        """Mostly what was cancelled."""
        cancelled = sorted(self._world.oracle.cancelled)
        key = self._request()[0]
        if cancelled and self._rng.random() < 0.7:
            key = self._rng.choice(cancelled)
        self._give(RetryOrdered(**self._order(), request_key=key))
