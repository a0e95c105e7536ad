"""An event loop in which one seed decides the order of all callbacks, and time is virtual.

Every callback belongs to the process in whose context it was scheduled. A process that is killed
runs no further callback, not even a `finally`: as after kill -9. One that is paused runs them all
later. So a kill or a pause may fall at every await.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable
from contextlib import suppress
from contextvars import Context, ContextVar, copy_context
from itertools import count
from random import Random
from typing import Any

START_SECONDS = 1_800_000_000
"""Unix seconds of the simulation's beginning."""


class Process:
    """One worker process, from its start to its end. `steps` counts its callbacks."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.steps = 0
        self.dies_at: int | None = None
        self.dies_at_effect = False
        """One of its next requests to the outside is its last act, sent or not."""
        self.on_death: Callable[[], None] | None = None
        self.waiting: list[Handle] = []

    def __repr__(self) -> str:
        return self.name


CURRENT: ContextVar[Process | None] = ContextVar("process", default=None)


class Handle:
    __slots__ = ("_when", "args", "callback", "context", "done", "process")

    def __init__(
        self, when: float, callback: Callable[..., Any], args: tuple[Any, ...], context: Context
    ) -> None:
        self._when = when
        self.callback = callback
        self.args = args
        self.context = context
        self.process = context.get(CURRENT)
        self.done = False

    def cancel(self) -> None:
        self.done = True

    def cancelled(self) -> bool:
        return self.done

    def when(self) -> float:
        return self._when


class SimulatedLoop(asyncio.AbstractEventLoop):
    """What tasks, futures, events, locks and timeouts of asyncio need, and nothing else: no
    sockets, no threads."""

    def __init__(self, rng: Random) -> None:
        self._rng = rng
        self._now = 0.0
        self._ready: list[Handle] = []
        self._timers: list[tuple[float, int, Handle]] = []
        self._ticks = count()
        self._tasks: list[asyncio.Task[Any]] = []
        self.world = copy_context()
        self.steps = 0
        self.on_error: Callable[[str], None] = print

    def time(self) -> float:
        return self._now

    @property
    def unix_seconds(self) -> float:
        return START_SECONDS + self._now

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self, coro: Any, *, name: str | None = None, context: Context | None = None
    ) -> asyncio.Task[Any]:
        """Tasks are kept until the end: a task of a killed process must not be collected, which
        would run its `finally` blocks."""
        task = asyncio.Task(coro, loop=self, name=name or "task", context=context)
        self._tasks.append(task)
        return task

    def call_soon(
        self, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        if context is None:
            context = copy_context()
        handle = Handle(self._now, callback, args, context)
        self._ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        return self._timer(self._now + delay, callback, args, context)

    def call_at(
        self, when: float, callback: Callable[..., Any], *args: Any, context: Context | None = None
    ) -> Any:
        return self._timer(when, callback, args, context)

    def in_world(self, delay: float, callback: Callable[..., Any], *args: Any) -> Any:
        """Something that happens outside of every process: no kill takes it back."""
        return self._timer(self._now + delay, callback, args, self.world)

    def _timer(
        self,
        when: float,
        callback: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> Handle:
        handle = Handle(when, callback, args, copy_context() if context is None else context)
        heapq.heappush(self._timers, (when, next(self._ticks), handle))
        return handle

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if "never retrieved" in str(context.get("message")):
            return  # the answer to a process that is no more
        error = context.get("exception")
        self.on_error(f"{context.get('message')}: {error!r}")

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        self.call_exception_handler(context)

    def run(self, until: Callable[[], bool]) -> None:
        """Run callbacks until `until` is true, asked between all of them, or nothing is left."""
        asyncio.events._set_running_loop(self)
        ready, timers, draw, step = self._ready, self._timers, self._rng.random, self._step
        try:
            while not until():
                while timers and (not ready or timers[0][0] <= self._now):
                    when, _, handle = heapq.heappop(timers)
                    if not handle.done:
                        if when > self._now:
                            self._now = when
                        ready.append(handle)
                if not ready:
                    return
                place = int(draw() * len(ready))
                handle = ready[place]
                ready[place] = ready[-1]
                ready.pop()
                step(handle)
        finally:
            asyncio.events._set_running_loop(None)

    def _step(self, handle: Handle) -> None:
        if handle.done:
            return
        process = handle.process
        if process is not None:
            if not process.alive:
                return
            if process.paused:
                process.waiting.append(handle)
                return
            process.steps += 1
            if process.dies_at is not None and process.steps >= process.dies_at:
                self.kill(process)
                return
        self.steps += 1
        try:
            handle.context.run(handle.callback, *handle.args)
        except Exception as error:  # noqa: BLE001 - as asyncio's loops do
            self.on_error(f"callback {handle.callback!r} raised {error!r}")

    def kill(self, process: Process) -> None:
        process.alive = False
        process.waiting.clear()
        if process.on_death is not None:
            self.world.run(process.on_death)

    def pause(self, process: Process) -> None:
        process.paused = True

    def resume(self, process: Process) -> None:
        process.paused = False
        self._ready += process.waiting
        process.waiting = []

    def spawn(self, process: Process, coro: Any, name: str) -> asyncio.Task[Any]:
        """A task of a process."""
        context = self.world.copy()
        context.run(CURRENT.set, process)
        return self.create_task(coro, name=name, context=context)

    def close(self) -> None:
        """Forget everything. What is still suspended ends here, where no model listens any more,
        each from the inside out; left to the collector, they would end in any order, loudly."""
        asyncio.events._set_running_loop(self)
        try:
            for task in self._tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
                with suppress(Exception):  # as it would be in a process that is no more
                    self.world.run(task.get_coro().close)  # type: ignore[union-attr]
        finally:
            asyncio.events._set_running_loop(None)
        self._ready.clear()
        self._timers.clear()
        self._tasks.clear()
