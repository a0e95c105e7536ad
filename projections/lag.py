"""How far the log is ahead of the tables, asked of Kafka itself.

The projection's own word would be worth nothing while it is down, which is when the lag matters.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from typing import Any

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from projections.database import describe
from projections.kafka import FOLLOWED, missing_topics

TIMEOUT_SECONDS = 4.0
KEPT_SECONDS = 2.0
"""An answer or a failure is told again for so long: probes and scrapes may come in bursts."""

Ends = dict[tuple[str, int], int]


class LogProbe:
    """The ends of the followed partitions; only committed records count. Reconnects by itself."""

    def __init__(self, kafka: KafkaAccess, groups: Sequence[str] = ()) -> None:
        """`groups`: consumer groups whose positions are asked for too."""
        self._kafka = kafka
        self._group_names = tuple(groups)
        self._groups: dict[str, Ends] = {}
        self._groups_at = float("-inf")
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
                    missing = await missing_topics(self._kafka)
                    if missing:
                        return LogUnavailable(f"topics do not exist yet: {', '.join(missing)}")
                    consumer = self._kafka.consumer(
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

    async def groups(self) -> dict[str, Ends]:
        """What each group has committed; without a group that never has. Raises LogUnavailable."""
        async with self._turn:
            if time.monotonic() - self._groups_at > KEPT_SECONDS and self._group_names:
                self._groups = await self._committed()
                self._groups_at = time.monotonic()
        return self._groups

    async def _committed(self) -> dict[str, Ends]:
        admin = self._kafka.admin(client_id="projections-api")
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                await admin.start()
                found = {
                    group: await admin.list_consumer_group_offsets(group)
                    for group in self._group_names
                }
        except (KafkaError, OSError, TimeoutError) as error:
            detail = "no answer in time" if isinstance(error, TimeoutError) else describe(error)
            raise LogUnavailable(f"Kafka does not answer ({detail})") from None
        finally:
            await closed(admin.close())
        return {
            group: {(seat.topic, seat.partition): held.offset for seat, held in offsets.items()}
            for group, offsets in found.items()
            if offsets
        }

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await closed(consumer.stop())


def lag_by_group(
    ends: Mapping[tuple[str, int], int], groups: Mapping[str, Ends]
) -> dict[str, dict[str, int]]:
    """By group and topic, for the topics of which the group has committed anything."""
    return {
        group: lag_by_topic(
            {seat: end for seat, end in ends.items() if seat[0] in {topic for topic, _ in held}},
            {seat: max(0, offset) for seat, offset in held.items()},
        )
        for group, held in groups.items()
    }


def lag_by_topic(ends: Mapping[tuple[str, int], int], held: Ends) -> dict[str, int]:
    """Records (transaction markers among them) that are on the log and not in the tables."""
    lag = dict.fromkeys((topic for topic, _ in ends), 0)
    for (topic, partition), end in ends.items():
        lag[topic] += max(0, end - held.get((topic, partition), 0))
    return lag
