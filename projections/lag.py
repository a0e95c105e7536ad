"""How far the log is ahead of the tables, asked of Kafka itself.

The projection's own word would be worth nothing while it is down, which is when the lag matters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Any

from aiokafka import AIOKafkaConsumer, TopicPartition

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable
from projections.database import describe
from projections.kafka import FOLLOWED, missing_topics

TIMEOUT_SECONDS = 4.0
KEPT_SECONDS = 2.0
"""An answer or a failure is told again for so long: probes and scrapes may come in bursts."""

Ends = dict[tuple[str, int], int]


class LogProbe:
    """The ends of the followed partitions; only committed records count. Reconnects by itself."""

    def __init__(self, bootstrap_servers: str) -> None:
        self._bootstrap_servers = bootstrap_servers
        self._consumer: Any = None
        self._turn = asyncio.Lock()
        self._answer: Ends | LogUnavailable | None = None
        self._answered_at = float("-inf")

    async def ends(self) -> Ends:
        """Raises LogUnavailable, with the reason, within about 4 s."""
        async with self._turn:
            if self._answer is None or time.monotonic() - self._answered_at > KEPT_SECONDS:
                self._answer = await self._ask()
                self._answered_at = time.monotonic()
        if isinstance(self._answer, LogUnavailable):
            raise self._answer
        return self._answer

    async def _ask(self) -> Ends | LogUnavailable:
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                if self._consumer is None:
                    missing = await missing_topics(self._bootstrap_servers)
                    if missing:
                        return LogUnavailable(f"topics do not exist yet: {', '.join(missing)}")
                    consumer = AIOKafkaConsumer(
                        bootstrap_servers=self._bootstrap_servers,
                        group_id=None,
                        isolation_level="read_committed",
                        client_id="projections-api",
                    )
                    self._consumer = consumer
                    await consumer.start()
                seats = [
                    TopicPartition(topic.name, number)
                    for topic in FOLLOWED
                    for number in range(topic.partitions)
                ]
                ends = await self._consumer.end_offsets(seats)
        except Exception as error:  # noqa: BLE001 - a probe reports, whatever it was
            await self.close()
            detail = "no answer in time" if isinstance(error, TimeoutError) else describe(error)
            return LogUnavailable(f"Kafka does not answer ({detail})")
        return {(seat.topic, seat.partition): end for seat, end in ends.items()}

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await closed(consumer.stop())


def lag_by_topic(ends: Mapping[tuple[str, int], int], held: Ends) -> dict[str, int]:
    """Records (transaction markers among them) that are on the log and not in the tables."""
    lag = dict.fromkeys((topic for topic, _ in ends), 0)
    for (topic, partition), end in ends.items():
        lag[topic] += max(0, end - held.get((topic, partition), 0))
    return lag
