"""Letting go of clients whose other side may be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

CLOSING_SECONDS = 3.0
CANCEL_AGAIN_SECONDS = 5.0
"""Longer than a task may take to close what it holds."""


def heed_cancellation() -> None:
    """Raise CancelledError when this task was asked to end: for a handler of other errors.

    A client that is cancelled tidies up, and when that fails its own error comes out in place of
    the CancelledError (aiokafka aborts a transaction, and hears that it is fenced). Taken for the
    error alone, the task would go on for ever (seen: two owners of one lane fenced each other).
    """
    task = asyncio.current_task()
    if task is not None and task.cancelling():
        raise asyncio.CancelledError


async def ended(tasks: Collection[asyncio.Task[None]]) -> None:
    """Cancel until they have ended, whatever one of them does with a first cancellation."""
    running = set(tasks)
    while running:
        for task in running:
            task.cancel()
        _, running = await asyncio.wait(running, timeout=CANCEL_AGAIN_SECONDS)
        for task in running:
            log.error("a task does not end; it is cancelled again", task=task.get_name())


async def closed(closing: Coroutine[Any, Any, None]) -> None:
    """Await a client's `stop()` or `close()` whatever comes of it.

    aiokafka 0.14 lets the CancelledError of its own inner tasks out of `AIOKafkaConsumer.stop()`
    while the broker is away; in the caller's task it would look like a cancellation of the caller
    and end a loop that must never end. A task of its own keeps it apart.
    """
    task = asyncio.ensure_future(closing)
    await asyncio.wait({task}, timeout=CLOSING_SECONDS)
    if not task.done():
        task.cancel()
        log.debug("client abandoned")
    elif not task.cancelled() and task.exception() is not None:
        log.debug("client closed badly", problem=type(task.exception()).__name__)
