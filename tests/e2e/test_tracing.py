"""From Kuro's message to the final event: one trace, in Kafka's headers and at a collector."""

from __future__ import annotations

import pytest

from orchestrator.adapters.kafka_log import KafkaLog
from orchestrator.core.belonging import request_key_of, trace_id
from schemas.topics import TOPICS
from tests.collector import Collector
from tests.e2e.harness import World, until


@pytest.fixture
def collector():
    found = Collector()
    yield found
    found.close()


async def headers_of(world: World, key: str) -> list[str]:
    """`traceparent` of every record that tells of this request."""
    found = []
    for topic in TOPICS.values():
        starts = dict.fromkeys(range(topic.partitions), 0)
        log = KafkaLog(world.stack.kafka.access, "test-traces")
        async for _, messages in log.replay(topic, starts):
            for message in messages:
                fact = topic.decode(message.value).fact
                if request_key_of(fact) == key:
                    found.append(dict(message.headers)["traceparent"].decode())
    return found


async def test_a_mint_is_one_trace_across_all_processes(world, collector):
    await world.service.stop()
    traced = World(world.stack, OTEL_EXPORTER_OTLP_ENDPOINT=collector.url)
    await traced.service.start()
    try:
        [key] = await traced.mint()
        await traced.ended([key])
        wanted = {"MintOk", "ApprovalSigned", "TransactionPrepared", "ContractEvent", "MINT"}

        async def arrived() -> bool:
            return wanted <= {
                span.name for span in collector.spans if span.trace_id.hex() == trace_id(key)
            }

        await until(arrived, "the whole trace at the collector")
    finally:
        await traced.service.stop()
    parents = await headers_of(world, key)
    assert len(parents) > 10
    assert {parent.split("-")[1] for parent in parents} == {trace_id(key)}
