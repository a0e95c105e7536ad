"""Where a partition ends, asked often: one connection that fetches nothing, so that no question
waits behind a fetch that waits for news."""

from __future__ import annotations

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from orchestrator.kafka_clients import reason_of
from schemas.topics import Topic

REQUEST_TIMEOUT_MS = 5_000


class KafkaEnds:
    """`ports.LogEnds`. Connects with the first question, and anew after one that failed."""

    def __init__(self, kafka: KafkaAccess, client_id: str) -> None:
        self._kafka = kafka
        self._client_id = client_id
        self._consumer: AIOKafkaConsumer | None = None

    async def end(self, topic: Topic, partition: int) -> int:
        """Of what is committed: readers see all before it. One question at a time."""
        seat = TopicPartition(topic.name, partition)
        try:
            consumer = await self._connected()
            return int((await consumer.end_offsets([seat]))[seat])
        except (KafkaError, TimeoutError) as error:
            await self.close()
            text = f"asking for the end of {topic.name}: {reason_of(error, self._kafka)}"
            raise LogUnavailable(text) from error

    async def _connected(self) -> AIOKafkaConsumer:
        if self._consumer is None:
            consumer = self._kafka.consumer(
                client_id=self._client_id,
                isolation_level="read_committed",
                enable_auto_commit=False,
                request_timeout_ms=REQUEST_TIMEOUT_MS,
            )
            try:
                await consumer.start()
            except BaseException:
                await closed(consumer.stop())
                raise
            self._consumer = consumer
        return self._consumer

    async def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            await closed(consumer.stop())
