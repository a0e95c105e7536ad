"""Faust's Kafka transport, reading committed records only, a batch at a time.

Lanes and chain followers append in transactions; what an aborted one left must never be acted on.
Faust reads committed records only under its own `exactly_once`, which this service does not use
(docs/decisions/0002-faust-without-exactly-once.md), so the isolation level is set here.

Faust hands over message by message: two tasks, an event and an acknowledgement each, about 0.2 ms
of CPU, and a mint is some thirty messages long. Here one event carries all messages of a topic that
one poll brought, and `Batches.done` moves the offsets of all its partitions. Assignment, flow
control, generations and commits stay Faust's.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Any

import aiokafka
import faust
import structlog
from aiokafka.errors import IllegalStateError
from faust.transport.drivers import aiokafka as driver
from faust.types.tuples import TP, ConsumerMessage

from orchestrator.kafka_access import KafkaAccess

log = structlog.get_logger(__name__)


def broker_of(kafka: KafkaAccess) -> dict[str, Any]:
    """Faust's own settings for the brokers and for how they are spoken to."""
    options = kafka.security_options()
    context: ssl.SSLContext | None = options.get("ssl_context")
    servers = [f"aiokafka://{server.strip()}" for server in kafka.servers.split(",")]
    if kafka.protocol.has_password:
        credentials = faust.SASLCredentials(
            mechanism=options["sasl_mechanism"],
            username=options["sasl_plain_username"],
            password=options["sasl_plain_password"],
            ssl_context=context,
        )
        return {"broker": servers, "broker_credentials": credentials}
    if context is not None:
        return {"broker": servers, "broker_credentials": faust.SSLCredentials(context)}
    return {"broker": servers}


class Batch(ConsumerMessage):
    """All messages of one topic that one poll brought, in order per partition. For Faust it is one
    message at the place of the last of them."""

    __slots__ = ("messages",)
    messages: list[Any]

    @classmethod
    def of(cls, messages: list[Any], generation_id: int) -> Batch:
        last = messages[-1]
        batch = cls(
            topic=last.topic,
            partition=last.partition,
            offset=last.offset,
            timestamp=last.timestamp / 1000,
            timestamp_type=last.timestamp_type,
            headers=None,
            key=None,
            value=None,
            checksum=None,
            tp=TP(last.topic, last.partition),
            generation_id=generation_id,
        )
        batch.messages = messages
        batch.tracked = batch.acked = True  # `Batches.done` says when it was read
        return batch


class _CommittedConsumerThread(driver.AIOKafkaConsumerThread):
    def _create_worker_consumer(self, transport: Any) -> aiokafka.AIOKafkaConsumer:
        consumer = super()._create_worker_consumer(transport)
        consumer._isolation_level = "read_committed"
        return consumer


class Batches(driver.Consumer):
    """Yields a `Batch` a topic; commits what `done` was told."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._read_up_to: dict[TP, tuple[int, int]] = {}
        """By partition: the generation that read it, and the offset to commit."""

    def _new_consumer_thread(self) -> _CommittedConsumerThread:
        return _CommittedConsumerThread(self, loop=self.loop, beacon=self.beacon)

    def done(self, batch: Batch) -> None:
        """The batch was read: its offsets may be committed, if the partitions are still ours."""
        if batch.generation_id != self.app.consumer_generation_id:
            return
        for message in batch.messages:
            tp = TP(message.topic, message.partition)
            self._read_up_to[tp] = (batch.generation_id, message.offset + 1)
            self._acked[tp]  # a partition without an entry is not asked for its offset

    def _new_offset(self, tp: TP) -> int | None:
        generation, offset = self._read_up_to.get(tp, (None, None))
        return offset if generation == self.app.consumer_generation_id else None

    async def perform_seek(self) -> None:
        """Nothing when the assignment moves meanwhile: a seek comes with the new one. aiokafka's
        refusal would end the role (seen as soon as a second worker came)."""
        try:
            await super().perform_seek()
        except (IllegalStateError, AssertionError) as error:
            log.info("the assignment moved during a seek", reason=repr(error))

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Nothing: what is missing between two offsets does not hold back a commit."""

    async def getmany(self, timeout: float) -> AsyncIterator[tuple[TP, Batch]]:
        """One poll, as batches."""
        records, active = await self._wait_next_records(timeout)
        if records is None or self.should_stop:
            return
        if not self.flow_active:
            await self.perform_seek()
            return
        generation = self.app.consumer_generation_id
        for batch in self._by_topic(records, active, generation):
            if not self.flow_active or generation != self.app.consumer_generation_id:
                return
            yield batch.tp, batch

    def _by_topic(
        self, records: Mapping[TP, Sequence[Any]], active: set[TP] | None, generation: int
    ) -> list[Batch]:
        """Without what was read before, and what stands on partitions that are paused."""
        topics: dict[str, list[Any]] = {}
        for tp, messages in records.items():
            if active is not None and tp not in active and tp not in self._buffered_partitions:
                continue
            read = self._read_offset[tp]
            fresh = [message for message in messages if read is None or message.offset >= read]
            if fresh:
                topics.setdefault(tp.topic, []).extend(fresh)
                self._read_offset[tp] = fresh[-1].offset
        return [Batch.of(messages, generation) for messages in topics.values()]


class CommittedTransport(driver.Transport):
    """Use as `app.transport`."""

    Consumer = Batches
