"""Sealing by a process that stays, where nothing else keeps a schedule."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable

import structlog

from orchestrator.errors import ConfigurationError, OrchestratorError, SealRefused
from orchestrator.sealing.running import Done

log = structlog.get_logger(__name__)

RETRY_SECONDS = 300.0
"""After a run that could not be done; one that was refused waits as long as one that was done."""


async def seal_repeatedly(
    seal: Callable[[], Awaitable[Done]], every_seconds: float, stop: asyncio.Event
) -> None:
    """Seal what is due now, and again after each pause, until `stop`. A run that fails is told and
    made up for by the next: it ends nothing, and the age of the newest seal tells how long so."""
    while not stop.is_set():
        pause = every_seconds
        try:
            done = await seal()
            day = None if done.newest is None else done.newest.day
            log.info("seals are up to date", newest=day, made=len(done.sealed))
        except ConfigurationError:
            raise
        except SealRefused as error:
            log.error("sealing refused", reason=str(error))
        except OrchestratorError as error:
            log.error("not sealed", reason=str(error))
            pause = min(every_seconds, RETRY_SECONDS)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(pause):
                await stop.wait()
