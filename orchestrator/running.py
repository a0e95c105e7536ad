"""Running parts of the service in one process: signals, one end for all, exit codes."""

from __future__ import annotations

import asyncio
import gc
import signal
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any

import structlog
import uvloop

log = structlog.get_logger(__name__)

Part = Callable[[asyncio.Event], Awaitable[None]]
"""Runs until the event is set, and then ends by itself."""

STOPPING_SECONDS = 20.0


YOUNG_OBJECTS = 50_000
"""So many new objects before the collector looks at them. A fold makes few cycles and many objects
that stay; looking every 700, as Python does by itself, costs a third of a replay."""


def run(main: Coroutine[Any, Any, None]) -> None:
    """A process of the service: `asyncio.run` on uvloop, in this thread and in those of libraries
    that open loops of their own."""
    asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
    gc.set_threshold(YOUNG_OBJECTS, 20, 100)
    asyncio.run(main)


async def run_parts(parts: Mapping[str, Part]) -> None:
    """Run all parts until SIGINT or SIGTERM. When one fails, the others stop, and its error is
    raised: whoever supervises the process starts it anew."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    tasks = {
        asyncio.create_task(_part(part, stop), name=name): name for name, part in parts.items()
    }
    await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    _, late = await asyncio.wait(tasks, timeout=STOPPING_SECONDS)
    for task in late:
        log.warning("part did not stop in time", part=tasks[task])
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for result in results:
        if isinstance(result, BaseException) and not isinstance(result, asyncio.CancelledError):
            raise result


async def _part(part: Part, stop: asyncio.Event) -> None:
    try:
        await part(stop)
    finally:
        stop.set()
