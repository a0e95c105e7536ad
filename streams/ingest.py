"""The composition root of ingestion: one follower per chain and one Kuro listener, spread over the
processes of the role by partition assignment."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from functools import partial

import structlog
from aiokafka import AIOKafkaConsumer, ConsumerRebalanceListener, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter, partition_of
from orchestrator.adapters.kuro import KuroSource
from orchestrator.closing import ended
from orchestrator.config import Config, Need
from orchestrator.errors import LogUnavailable
from orchestrator.metrics import watch
from schemas.topics import EVM_EVENTS, KURO_EVENTS
from streams.following import ChainFollower
from streams.listening import KuroListener
from streams.measuring import Job, measured, of_follower, of_listener, of_node
from streams.retrying import Backoff
from streams.supply import SupplyWatch

log = structlog.get_logger(__name__)

NEEDS = frozenset({Need.KAFKA, Need.CONTRACTS, Need.NODES, Need.KURO})
LISTENER_PARTITION = 0
"""Whoever is assigned this partition of `kuro.events` holds the socket to Kuro."""


class Duties(ConsumerRebalanceListener):  # type: ignore[misc]
    """Runs one task per partition that is assigned here and has a job; a job that stays ours is
    not disturbed by a rebalance."""

    def __init__(self, jobs: dict[TopicPartition, list[tuple[str, Job]]]) -> None:
        self._jobs = jobs
        self._running: dict[TopicPartition, list[asyncio.Task[None]]] = {}
        self.failed: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def on_partitions_revoked(self, revoked: set[TopicPartition]) -> None:
        """Nothing yet: most of them come back, and a fence guards the others."""

    async def on_partitions_assigned(self, assigned: set[TopicPartition]) -> None:
        for partition in sorted(set(self._running) - set(assigned)):
            await self._stop(partition)
        for partition in sorted(set(assigned) & set(self._jobs) - set(self._running)):
            tasks = []
            for name, job in self._jobs[partition]:
                log.info("duty taken", **_named(name))
                task = asyncio.create_task(job(), name=name)
                task.add_done_callback(self._ended)
                tasks.append(task)
            self._running[partition] = tasks

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and not self.failed.done():
            error = task.exception() or RuntimeError(f"{task.get_name()} ended")
            self.failed.set_exception(error)

    async def _stop(self, partition: TopicPartition) -> None:
        tasks = self._running.pop(partition)
        for task in tasks:
            log.info("duty left", **_named(task.get_name()))
        await ended(tasks)

    async def close(self) -> None:
        for partition in list(self._running):
            await self._stop(partition)
        self.failed.cancel()


async def run_ingest(config: Config, stop: asyncio.Event) -> None:
    """Follow the chains and listen to Kuro until `stop` is set."""
    async with AsyncExitStack() as stack:
        duties = Duties(await _jobs(config, stack))
        stack.push_async_callback(duties.close)
        consumer = await _consumer(config)
        stack.push_async_callback(consumer.stop)
        consumer.subscribe([KURO_EVENTS.name, EVM_EVENTS.name], listener=duties)
        stopping = asyncio.create_task(stop.wait())
        while not stopping.done() and not duties.failed.done():
            consumer.pause(*consumer.assignment())
            polling = asyncio.create_task(consumer.getmany(timeout_ms=1000))
            await asyncio.wait(
                {polling, stopping, duties.failed}, return_when=asyncio.FIRST_COMPLETED
            )
            polling.cancel()
            await asyncio.gather(polling, return_exceptions=True)
        stopping.cancel()
        if duties.failed.done():
            duties.failed.result()


def _named(duty: str) -> dict[str, str | int]:
    """A duty for a log line; of a follower, its chain too."""
    _, _, last = duty.rpartition(" ")
    return {"duty": duty, "chain_id": int(last)} if last.isdigit() else {"duty": duty}


async def _consumer(config: Config) -> AIOKafkaConsumer:
    """A group member that reads nothing: it is here for the assignment."""
    backoff = Backoff()
    while True:
        consumer = config.kafka.consumer(
            group_id=f"{config.settings.kafka_prefix}-ingest",
            client_id=f"{config.settings.kafka_prefix}-ingest",
            enable_auto_commit=False,
            auto_offset_reset="latest",
            session_timeout_ms=10_000,
            heartbeat_interval_ms=3_000,
        )
        try:
            await consumer.start()
            return consumer
        except KafkaError as error:
            await consumer.stop()
            log.warning("waiting for Kafka", reason=repr(error))
            await backoff.sleep()


async def _jobs(
    config: Config, stack: AsyncExitStack
) -> dict[TopicPartition, list[tuple[str, Job]]]:
    settings = config.settings
    assert settings.kuro_websocket_url is not None and settings.kuro_rest_url is not None
    prefix = f"{settings.kafka_prefix}-ingest"
    facts = KafkaLog(config.kafka, f"{prefix}-replay", settings.kafka_prefix)
    writer = KafkaWriter(config.kafka, prefix)
    backoff = Backoff()
    while True:
        try:
            await writer.start()
            break
        except LogUnavailable as error:
            log.warning("waiting for Kafka", reason=str(error))
            await backoff.sleep()
    stack.push_async_callback(writer.close)
    jobs: dict[TopicPartition, list[tuple[str, Job]]] = {}
    for chain in config.chains.values():
        node = EvmNode(chain.chain_id, chain.rpc_urls)
        stack.push_async_callback(node.close)
        stack.enter_context(watch(partial(of_node, "ingest", node)))
        seat = TopicPartition(EVM_EVENTS.name, partition_of(EVM_EVENTS, str(chain.chain_id)))
        supply = SupplyWatch(chain, node, settings.supply_compare_seconds)
        follower = ChainFollower(chain, node, facts, seat.partition, settings, supply)
        job = measured(follower.run, partial(of_follower, follower))
        jobs.setdefault(seat, []).append((f"follow {chain.chain_id}", job))
    source = KuroSource(
        settings.kuro_websocket_url,
        settings.kuro_rest_url,
        rest_interval_seconds=settings.kuro_rest_interval_seconds,
    )
    listener = KuroListener(source, writer, settings.kuro_mint_chain_id)
    job = measured(listener.run, partial(of_listener, listener))
    jobs[TopicPartition(KURO_EVENTS.name, LISTENER_PARTITION)] = [("listen to Kuro", job)]
    return jobs
