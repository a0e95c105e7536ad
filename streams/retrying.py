"""Bounded delays with jitter, without a limit in count: effects are retried until they are done."""

from __future__ import annotations

import asyncio
import random
from contextlib import suppress


def loop_seconds() -> float:
    """Seconds of the event loop's clock."""
    return asyncio.get_running_loop().time()


class Backoff:
    """Delays double from `first_seconds` to `longest_seconds`; each is drawn from its upper half,
    so that many waiters do not come back at once."""

    def __init__(self, first_seconds: float = 0.1, longest_seconds: float = 10.0) -> None:
        self._first = first_seconds
        self._longest = longest_seconds
        self._next = first_seconds

    def reset(self) -> None:
        self._next = self._first

    def delay_seconds(self) -> float:
        """The next delay; each call lengthens the one after it."""
        delay = self._next
        self._next = min(self._longest, self._next * 2)
        return delay * random.uniform(0.5, 1.0)  # noqa: S311 - jitter, not a secret

    async def sleep(self, hurry: asyncio.Event | None = None) -> None:
        """Until the delay is over, or `hurry` is set; it is cleared then."""
        if hurry is None:
            await asyncio.sleep(self.delay_seconds())
        else:
            await awoken(hurry, self.delay_seconds())


async def awoken(bell: asyncio.Event, seconds: float) -> None:
    """Wait until the bell rings, for at most so long; it is cleared.

    Not `asyncio.wait_for`: in Python 3.11 that loses a cancellation which comes in the moment in
    which the bell rings, and the task goes on for ever (seen)."""
    with suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await bell.wait()
    bell.clear()
