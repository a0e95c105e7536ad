"""Letting go of clients whose other side may be gone."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import structlog

log = structlog.get_logger(__name__)

CLOSING_SECONDS = 3.0


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
