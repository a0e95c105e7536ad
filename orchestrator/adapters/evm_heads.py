"""Which of a chain's URLs falls behind the others, by their heads: compared now and then.

A node that stands at an old head answers all the same. Nothing that is asked of it fails, so
nothing would fail over from it while the chain goes on elsewhere.

Behind is whose head is below what another URL showed at the comparison before: seconds ago, however
fast the chain makes blocks. Twice so in a row, and the URL is set back: asked after those that keep
pace, until it kept pace three times in a row. It is not left out: while the others cool down it is
better than nothing, and what is pinned to it stays with it to its end. Where there is one URL, or
where all stand still together, nothing is set back: the age of the newest block tells.

A head is believed. Who invents one is asked first, and then has to show the block: followers and
lanes check what they are told, and a pin that breaks goes elsewhere.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass

import structlog

from orchestrator.adapters.evm_endpoint import Answer, Endpoint, Request

log = structlog.get_logger(__name__)

COMPARE_EVERY_SECONDS = 10.0
SET_BACK_AFTER = 2
TRUSTED_AFTER = 3

Ask = Callable[[Endpoint, Sequence[Request]], Awaitable[Sequence[Answer]]]


@dataclass(slots=True)
class Sight:
    """What one URL showed last. `block` and `timestamp` (Unix seconds, by the chain) are None while
    it did not answer; `slow` and `kept` count comparisons in a row."""

    name: str
    block: int | None = None
    timestamp: int | None = None
    set_back: bool = False
    slow: int = 0
    kept: int = 0


class Heads:
    """Of one chain's URLs. Compares beside the question that finds it due, which does not wait."""

    def __init__(self, chain_id: int, endpoints: Sequence[Endpoint], ask: Ask) -> None:
        self._chain_id = chain_id
        self._sights = {endpoint: Sight(endpoint.name) for endpoint in endpoints}
        self._ask = ask
        self._compared_at = time.monotonic()
        self._comparing: asyncio.Task[None] | None = None

    @property
    def sights(self) -> Sequence[Sight]:
        return list(self._sights.values())

    def is_set_back(self, endpoint: Endpoint) -> bool:
        return self._sights[endpoint].set_back

    def look(self) -> None:
        """Start a comparison if one is due."""
        under_way = self._comparing is not None and not self._comparing.done()
        if not under_way and time.monotonic() - self._compared_at >= COMPARE_EVERY_SECONDS:
            self._comparing = asyncio.create_task(self.compare(), name=f"heads {self._chain_id}")

    async def close(self) -> None:
        if self._comparing is not None:
            self._comparing.cancel()
            with suppress(asyncio.CancelledError):
                await self._comparing

    async def compare(self) -> None:
        """Ask each URL that does not cool down; its silence changes nothing but what is shown."""
        before = {endpoint: sight.block for endpoint, sight in self._sights.items()}
        now = time.monotonic()
        asked = [endpoint for endpoint in self._sights if endpoint.cool_until <= now]
        answers = await asyncio.gather(*(self._head(endpoint) for endpoint in asked))
        found = dict(zip(asked, answers, strict=True))
        for endpoint, sight in self._sights.items():
            sight.block, sight.timestamp = found.get(endpoint) or (None, None)
            others = [block or 0 for other, block in before.items() if other is not endpoint]
            if sight.block is not None and others:
                self._judge(sight, sight.block, max(others))
        self._compared_at = time.monotonic()

    def _judge(self, sight: Sight, block: int, best: int) -> None:
        behind = block < best
        sight.slow = sight.slow + 1 if behind else 0
        sight.kept = 0 if behind else sight.kept + 1
        if not sight.set_back and sight.slow >= SET_BACK_AFTER:
            sight.set_back = True
            log.warning(
                "node behind the others; asked after them",
                chain_id=self._chain_id,
                node=sight.name,
                block=block,
                others=best,
            )
        elif sight.set_back and sight.kept >= TRUSTED_AFTER:
            sight.set_back = False
            log.info("node keeps pace again", chain_id=self._chain_id, node=sight.name, block=block)

    async def _head(self, endpoint: Endpoint) -> tuple[int, int] | None:
        [answer] = await self._ask(endpoint, [("eth_getBlockByNumber", ["latest", False])])
        with suppress(TypeError, ValueError, KeyError):
            return int(answer["number"], 16), int(answer["timestamp"], 16)
        return None
