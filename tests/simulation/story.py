"""What happened, in the order in which it happened: the time, the process, and what it did.

A line is stored as values and becomes text only when somebody reads it. The digest of the story is
what two runs of one seed are compared by.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, MutableMapping
from contextlib import contextmanager
from functools import partialmethod
from typing import Any

import structlog

from tests.simulation.loop import CURRENT, SimulatedLoop


class Violation(Exception):
    """An invariant does not hold."""


class Story:
    def __init__(self, loop: SimulatedLoop) -> None:
        self._loop = loop
        self._lines: list[tuple[float, str, str, tuple[tuple[str, Any], ...]]] = []
        self.violations: list[str] = []
        self.over = False
        """What is told afterwards is of processes that are being put away."""
        self.on_violation: Callable[[], None] = lambda: None
        self.counts: dict[str, int] = {}

    def tell(self, event: str, **details: Any) -> None:
        if self.over:
            return
        process = CURRENT.get()
        name = process.name if process else "world"
        self._lines.append((self._loop.time(), name, event, tuple(details.items())))

    def count(self, what: str) -> None:
        self.counts[what] = self.counts.get(what, 0) + 1

    def violated(self, what: str, **details: Any) -> None:
        """Noted, and the run ends after this step."""
        if self.over:
            return
        self.tell(f"VIOLATION: {what}", **details)
        self.violations.append(what + "".join(f"; {k}={v}" for k, v in details.items()))
        self.on_violation()

    @property
    def lines(self) -> Iterator[str]:
        for seconds, name, event, details in self._lines:
            told = " ".join(f"{key}={_short(value)}" for key, value in details)
            yield f"{seconds:9.3f}  {name:<14} {event}  {told}".rstrip()

    @property
    def digest(self) -> str:
        return hashlib.sha256("\n".join(self.lines).encode()).hexdigest()


def _short(value: Any) -> str:
    text = str(value)
    if text.startswith("0x") and len(text) > 20:
        return text[:10] + "…"
    return text if len(text) <= 160 else text[:159] + "…"


@contextmanager
def agents_tell(
    story: Story, alarms: Callable[[str, MutableMapping[str, Any]], None]
) -> Iterator[None]:
    """The agents' own log lines become lines of the story; errors are shown to `alarms` first."""
    before = structlog.get_config()

    class Telling(structlog.BoundLoggerBase):
        """The levels that the agents use; nothing is rendered."""

        def _keep(self, level: str, event: str, **details: Any) -> None:
            details.pop("exc_info", None)
            details = {**self._context, **details}
            process = CURRENT.get()
            if not story.over and (process is None or process.alive):
                story.tell(f"[{level}] {event}", **details)
                if level == "error":
                    alarms(event, {**details, "event": event})

        debug = partialmethod(_keep, "debug")
        info = partialmethod(_keep, "info")
        warning = partialmethod(_keep, "warning")
        error = partialmethod(_keep, "error")

    structlog.configure(
        processors=[],
        wrapper_class=Telling,
        logger_factory=structlog.ReturnLoggerFactory(),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)
