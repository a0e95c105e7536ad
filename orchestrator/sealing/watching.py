"""How long the newest seal has stood, for a process that always runs.

It reads the anchors themselves: what it says is true after a restart, needs nothing of the log, and
shows that newest seals were taken away. Only the newest seal of each is looked at; whether all of
them go with the log is for `orchestrator verify --chain`.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import structlog

from orchestrator.core.sealing.growing import day_end_ms
from orchestrator.core.sealing.seals import UnreadableSeal, read_seal, seal_problem
from orchestrator.errors import AnchorUnavailable, SealRefused
from orchestrator.ports import SealAnchor
from orchestrator.sealing.running import newest_due
from orchestrator.sealing.verifying import DUE_SECONDS

log = structlog.get_logger(__name__)

OVERDUE_SECONDS = 86_400 + DUE_SECONDS
"""The newest sealed day has been over for so long: the day after it should have been sealed."""
LOOK_SECONDS = 60.0
ANSWER_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Standing:
    """What one anchor held when it was last looked at.

    `day` is the newest sealed day that can be believed, by the last look that could tell. At most
    one of `unread` (why nothing could be told) and `refused` (why the newest seal there is not
    believed) is given. `trusted`: the signature is of a key that this process was given; otherwise
    it was checked against the key that the seal itself carries, which anybody can make.
    """

    anchor: str
    looked: bool = False
    day: str | None = None
    unread: str | None = None
    refused: str | None = None
    trusted: bool = False

    @property
    def stands(self) -> bool:
        """It was read, and holds a seal that can be believed."""
        return self.day is not None and self.unread is None and self.refused is None

    def age_seconds(self, now: float) -> float | None:
        """Since the newest sealed day was over."""
        return None if self.day is None else now - day_end_ms(self.day) / 1000

    def trouble(self, now: float) -> str | None:
        """What is not well, in words; None when all is, or nothing is known yet."""
        if not self.looked:
            return None
        if self.unread is not None:
            return f"cannot be read: {self.unread}"
        if self.refused is not None:
            return f"its newest seal is not to be believed: {self.refused}"
        age = self.age_seconds(now)
        if age is None:
            return "holds no seal yet"
        if age > OVERDUE_SECONDS:
            over = f"{self.day} has been over for {age / 3600:.0f} h"
            return f"a seal is overdue: the newest sealed day, {over}"
        return None


class SealWatch:
    """Looks at every anchor once a minute between `start` and `close`. `keys` are public keys by
    their hash; without any, a seal is checked against its own."""

    def __init__(
        self,
        name: str,
        anchors: Sequence[SealAnchor],
        keys: Mapping[str, bytes],
        *,
        clock: Callable[[], float] = time.time,
        every_seconds: float = LOOK_SECONDS,
    ) -> None:
        self._name = name
        self._anchors = anchors
        self._keys = keys
        self._clock = clock
        self._every_seconds = every_seconds
        self._standings = {anchor.name: Standing(anchor.name) for anchor in anchors}
        self._watching: asyncio.Task[None] | None = None

    @property
    def now(self) -> float:
        return self._clock()

    def standings(self) -> list[Standing]:
        return list(self._standings.values())

    def start(self) -> None:
        self._watching = asyncio.create_task(self._watch())

    async def close(self) -> None:
        if self._watching is not None:
            self._watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watching
        for anchor in self._anchors:
            await anchor.close()

    async def look(self) -> list[Standing]:
        """Every anchor, side by side. Raises nothing: what cannot be read is a standing too."""
        for found in await asyncio.gather(*(self._looked(anchor) for anchor in self._anchors)):
            before = self._standings[found.anchor]
            self._standings[found.anchor] = found
            trouble = found.trouble(self.now)
            if trouble != before.trouble(self.now) and trouble is not None:
                log.warning("seals are not well", anchor=found.anchor, reason=trouble)
        return self.standings()

    async def _watch(self) -> None:
        while True:
            await self.look()
            await asyncio.sleep(self._every_seconds)

    async def _looked(self, anchor: SealAnchor) -> Standing:
        empty = Standing(anchor.name, looked=True)
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                newest = await anchor.newest()
        except AnchorUnavailable as error:
            return replace(empty, day=self._standings[anchor.name].day, unread=str(error))
        except TimeoutError:
            text = f"no answer within {ANSWER_SECONDS:.0f} s"
            return replace(empty, day=self._standings[anchor.name].day, unread=text)
        except SealRefused as error:
            return replace(empty, refused=str(error))
        except Exception as error:  # noqa: BLE001 - one that nobody thought of must not end the watch
            text = f"unexpected: {type(error).__name__}"
            return replace(empty, day=self._standings[anchor.name].day, unread=text)
        if newest is None:
            return empty
        day, document = newest
        problem = self._problem(day, document)
        if problem is not None:
            return replace(empty, refused=f"{day}: {problem}")
        return replace(empty, day=day, trusted=bool(self._keys))

    def _problem(self, day: str, document: bytes) -> str | None:
        try:
            seal = read_seal(document)
        except UnreadableSeal as error:
            return str(error)
        if seal.day != day or seal.statement.log != self._name:
            return f"it is that of {seal.day} of the log {seal.statement.log!r}"
        if day > newest_due(self.now, 0):
            return "that day is not over by this machine's clock"
        return seal_problem(seal, self._keys or {seal.statement.key: seal.public_key})
