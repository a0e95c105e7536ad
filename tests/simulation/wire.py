"""The network between a process and the outside: delays, lost requests, lost answers.

A request that has left its process arrives, whatever becomes of the process. What it does there
happens at one moment; whether the answer comes back is another question.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from random import Random
from typing import Any, TypeVar

from tests.simulation.aiming import Aim, Errand, Moment
from tests.simulation.loop import CURRENT, SimulatedLoop

T = TypeVar("T")


@dataclass
class Weather:
    """How bad it is, as probabilities per request. Nothing goes wrong while it is not `bad`."""

    lost_request: float = 0.0
    lost_answer: float = 0.0
    late_arrival: float = 0.0
    """Of the lost requests, how many arrive after all, when nobody expects them any more."""
    longest_delay_seconds: float = 0.05
    bad: bool = True


class Wire:
    """One kind of connection (to the log, to a chain, to KMS)."""

    aim: Aim | None = None
    """A kill that waits for one errand."""

    def __init__(self, loop: SimulatedLoop, rng: Random, weather: Weather) -> None:
        self._loop = loop
        self.rng = rng
        self.weather = weather

    def later(self, delay: float, act: Callable[..., Any], *args: Any) -> None:
        """In the world, outside of every process."""
        self._loop.in_world(delay, act, *args)

    def now(self) -> float:
        return self._loop.unix_seconds

    def chance(self, probability: float) -> bool:
        return self.weather.bad and self.rng.random() < probability

    def delay(self) -> float:
        weather = self.weather
        drawn = self.rng.random()
        return drawn**2 * (weather.longest_delay_seconds if weather.bad else 0.01)

    async def exchange(
        self,
        act: Callable[[], T],
        failure: Callable[[], Exception],
        partly: Callable[[], Any] | None = None,
        errand: Errand | None = None,
    ) -> T:
        """Do `act` there and bring back what it returns or raises; or raise `failure`, having done
        it or not. `partly` is done in place of nothing."""
        answer: asyncio.Future[T] = asyncio.get_running_loop().create_future()
        process = CURRENT.get()
        fate = self.aim.fate(process, errand) if self.aim is not None else None
        loses_request = self.chance(self.weather.lost_request)
        loses_answer = self.chance(self.weather.lost_answer)

        def arrive() -> None:
            if loses_request:
                if partly is not None:
                    partly()
                if self.chance(self.weather.late_arrival):
                    self.later(self.rng.random() * 6, _quietly, act)
                self.later(self.delay(), _fail, answer, failure())
                return
            try:
                result = act()
            except Exception as error:  # noqa: BLE001 - handed to the asker
                self.later(self.delay(), _fail, answer, error)
                return
            if loses_answer:
                self.later(self.delay(), _fail, answer, failure())
            else:
                self.later(self.delay(), _settle, answer, result)

        dies = process is not None and process.dies_at_effect and self.rng.random() < 0.3
        if fate is not Moment.BEFORE and (not dies or self.rng.random() < 0.5):
            self.later(self.delay(), arrive)
        if dies and process is not None:
            self._loop.kill(process)
        if fate is None or self.aim is None:
            return await answer
        return await self._fated(answer, self.aim, fate)

    async def passing(self, errand: Errand) -> None:
        """A place on the way where a kill may fall; else nothing happens here."""
        process = CURRENT.get()
        fate = self.aim.fate(process, errand) if self.aim is not None else None
        if fate is None or self.aim is None or process is None:
            return
        if fate is Moment.AFTER:
            self.aim.answered = True
            return
        self.aim.falls()
        self._loop.kill(process)
        await asyncio.get_running_loop().create_future()

    async def _fated(self, answer: asyncio.Future[T], aim: Aim, fate: Moment) -> T:
        assert aim.victim is not None
        if fate is not Moment.AFTER:
            aim.falls()
            self._loop.kill(aim.victim)
        try:
            return await answer
        finally:
            aim.answered = aim.fell is None


class QuietWire(Wire):
    """No delay, no fault, any event loop: for the contract suites."""

    def __init__(self) -> None:
        self.rng = Random(1)
        self.weather = Weather(bad=False)

    def later(self, delay: float, act: Callable[..., Any], *args: Any) -> None:
        asyncio.get_running_loop().call_later(delay, act, *args)

    def now(self) -> float:
        import time

        return time.time()

    async def exchange(
        self,
        act: Callable[[], T],
        failure: Callable[[], Exception],
        partly: Callable[[], Any] | None = None,
        errand: Errand | None = None,
    ) -> T:
        await asyncio.sleep(0)
        return act()


def _settle(answer: asyncio.Future[Any], result: Any) -> None:
    if not answer.done():
        answer.set_result(result)


def _fail(answer: asyncio.Future[Any], error: Exception) -> None:
    if not answer.done():
        answer.set_exception(error)


def _quietly(act: Callable[[], Any]) -> None:
    """Nobody waits for the answer any more."""
    with suppress(Exception):
        act()
