"""Writing records at given offsets of an empty log, holes included: see `kafka_archive`."""

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable, OrchestratorError
from orchestrator.kafka_access import KafkaAccess

QUEUED = 2000
"""Records that wait for a partition; then reading waits."""
AT_ONCE = 500
MARKED_SECONDS = 60.0
"""A broker that has not ended a transaction after so long is given up."""

Item = tuple[int, dict[str, Any] | None]
"""An offset and what stands there; None for the partition's end."""


class OffsetMissed(OrchestratorError):
    """A record came to stand elsewhere than it should: somebody else writes to this log."""


class Restoring:
    """Restores all partitions side by side; leaving it waits until everything stands.

    Raises LogUnavailable, OffsetMissed; the log is then not whole, and must be made anew.
    """

    def __init__(self, kafka: KafkaAccess, ends: dict[TopicPartition, int]) -> None:
        self._kafka = kafka
        self._ends = ends
        self._plain = kafka.producer(
            client_id="orchestrator-restoring",
            acks="all",
            enable_idempotence=True,
            linger_ms=5,
            max_batch_size=262_144,
        )
        self._looking = kafka.consumer(
            client_id="orchestrator-restoring",
            isolation_level="read_committed",
            enable_auto_commit=False,
        )
        self._queues: dict[TopicPartition, asyncio.Queue[Item]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def __aenter__(self) -> Restoring:
        try:
            await self._plain.start()
            await self._looking.start()
        except KafkaError as error:
            await closed(self._plain.stop())
            await closed(self._looking.stop())
            raise LogUnavailable(f"cannot reach Kafka: {error!r}") from error
        for seat, end in self._ends.items():
            if end:
                queue = self._queues[seat] = asyncio.Queue(QUEUED)
                partition = _Partition(self._kafka, self._plain, self._looking, seat)
                self._tasks.append(asyncio.create_task(partition.run(queue)))
        return self

    async def put(self, seat: TopicPartition, offset: int, record: dict[str, Any]) -> None:
        queue = self._queues[seat]
        while queue.full():
            self._raise_what_failed()
            await asyncio.sleep(0.01)
        queue.put_nowait((offset, record))

    def _raise_what_failed(self) -> None:
        for task in self._tasks:
            if task.done():
                task.result()

    async def __aexit__(self, kind: object, *_: object) -> None:
        try:
            if kind is None:
                for seat, queue in self._queues.items():
                    await queue.put((self._ends[seat], None))
                await asyncio.gather(*self._tasks)
        finally:
            for task in self._tasks:
                task.cancel()
            await asyncio.gather(*self._tasks, return_exceptions=True)
            await closed(self._plain.stop())
            await closed(self._looking.stop())


class _Partition:
    """Restores one partition. `_planned` is the offset that the next record will get, `_confirmed`
    the one that the next answer of the broker must name."""

    def __init__(
        self,
        kafka: KafkaAccess,
        plain: AIOKafkaProducer,
        looking: AIOKafkaConsumer,
        seat: TopicPartition,
    ) -> None:
        self._kafka = kafka
        self._plain = plain
        self._looking = looking
        self._seat = seat
        self._planned = 0
        self._confirmed = 0
        self._last: dict[str, Any] | None = None
        self._sent: list[asyncio.Future[Any]] = []
        self._fencing: AIOKafkaProducer | None = None

    async def run(self, queue: asyncio.Queue[Item]) -> None:
        try:
            while True:
                offset, record = await queue.get()
                await self._fill_up_to(offset)
                if record is None:
                    await self._settle()
                    return
                self._last = record
        except KafkaError as error:
            raise LogUnavailable(f"restoring {self._seat.topic}: {error!r}") from error
        finally:
            if self._fencing is not None:
                await closed(self._fencing.stop())

    async def _fill_up_to(self, offset: int) -> None:
        """Write the record that is held back, and whatever makes the next one stand at `offset`."""
        last, self._last = self._last, None
        hole = offset - self._planned - (1 if last is not None else 0)
        if hole == 1 and last is not None:
            await self._settle()
            transactional = await self._transactional()
            async with transactional.transaction():
                await self._check(await transactional.send(**self._addressed(last)))
            self._planned += 2
            await self._marked()
            return
        if last is not None:
            self._sent.append(await self._plain.send(**self._addressed(last)))
            self._planned += 1
            if len(self._sent) >= AT_ONCE:
                await self._settle()
        if hole == 1 or hole < 0:
            raise OffsetMissed(f"{self._seat.topic}/{self._seat.partition}: no log ends a hole so")
        if hole > 1:
            await self._settle()
            await self._give_up(hole - 1)

    async def _give_up(self, fillers: int) -> None:
        """A transaction of so many records that is aborted; its marker takes one offset more."""
        transactional = await self._transactional()
        await transactional.begin_transaction()
        for _ in range(fillers):
            await self._check(await transactional.send(**self._addressed({"value": b""})))
        await transactional.abort_transaction()
        self._planned += fillers + 1
        await self._marked()

    async def _marked(self) -> None:
        """Wait until the transaction's marker stands. The broker answers before it writes it, and
        a record of the plain producer would take its place."""
        self._confirmed += 1
        try:
            async with asyncio.timeout(MARKED_SECONDS):
                while await self._stable_end() < self._confirmed:  # noqa: ASYNC110 - the broker's
                    await asyncio.sleep(0.005)
        except TimeoutError:
            where = f"{self._seat.topic}/{self._seat.partition}"
            raise LogUnavailable(f"{where}: a transaction has not ended in time") from None

    async def _stable_end(self) -> int:
        return int((await self._looking.end_offsets([self._seat]))[self._seat])

    def _addressed(self, record: dict[str, Any]) -> dict[str, Any]:
        return {"topic": self._seat.topic, "partition": self._seat.partition, **record}

    async def _settle(self) -> None:
        sent, self._sent = self._sent, []
        for future in sent:
            await self._check(future)

    async def _check(self, sent: asyncio.Future[Any]) -> None:
        offset = (await sent).offset
        if offset != self._confirmed:
            where = f"{self._seat.topic}/{self._seat.partition}"
            raise OffsetMissed(f"{where}: a record went to {offset} instead of {self._confirmed}")
        self._confirmed += 1

    async def _transactional(self) -> AIOKafkaProducer:
        if self._fencing is None:
            self._fencing = self._kafka.producer(
                client_id="orchestrator-restoring",
                transactional_id=f"restoring.{self._seat.topic}.{self._seat.partition}",
                acks="all",
            )
            await self._fencing.start()
        return self._fencing
