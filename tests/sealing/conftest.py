"""A log of three days long ago, sealed; and a broker to restore tampered archives into."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import logging
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aioboto3
import pytest
import pytest_asyncio
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import UnknownTopicOrPartitionError
from typer.testing import CliRunner, Result

from orchestrator.cli import app
from orchestrator.core.sealing.growing import day_end_ms
from orchestrator.dev.stack import REGION, EmbeddedStack
from orchestrator.kafka_access import KafkaAccess
from schemas.topics import TOPICS
from streams.topics import prepare_topics

DAYS = ("2026-01-01", "2026-01-02", "2026-01-03")
UNTIL = ("--until", DAYS[-1])
"""Days after that are long over, and were not sealed: no test speaks of them unless it says so."""
BUSY = ("requests", 3)
"""The partition that tests tamper with: plain records, a committed and an aborted transaction."""


@dataclass
class World:
    source: str
    target: str
    environment: dict[str, str]
    seals: Path
    archive: Path
    keys: dict[str, str] = field(default_factory=dict)

    async def run(
        self, *arguments: str, servers: str | None = None, **environment: str | None
    ) -> Result:
        """What `orchestrator` answers, in this process, beside this loop."""
        values = {
            "KAFKA_BOOTSTRAP_SERVERS": servers or self.source,
            "COLUMNS": "200",
            "SEAL_ANCHORS": f"file:{self.seals}",
            **self.environment,
            **environment,
        }
        result = await asyncio.to_thread(CliRunner().invoke, app, list(arguments), env=values)
        logging.getLogger().handlers.clear()  # they write to what the runner has closed
        return result

    async def verify(self, *arguments: str, **options: Any) -> tuple[int, dict[str, Any]]:
        result = await self.run("verify", "--chain", "--json", *UNTIL, *arguments, **options)
        return result.exit_code, json.loads(result.stdout)

    async def restore(self, archive: Path) -> None:
        """Makes the target's topics anew and imports the archive."""
        await emptied(self.target)
        result = await self.run("topics", "import", str(archive), servers=self.target)
        assert result.exit_code == 0, result.output + repr(result.exception)

    def tampered(self, to: Path, change: Callable[[list[dict]], None], ends: Any = None) -> Path:
        """The archive with its records changed, in every other respect a proper one."""
        lines = gzip.decompress(self.archive.read_bytes()).splitlines()
        header, records = json.loads(lines[0]), [json.loads(line) for line in lines[1:-1]]
        change(records)
        for (topic, partition), end in (ends or {}).items():
            header["topics"][topic][partition] = end
        records.sort(key=lambda body: (body["topic"], body["partition"], body["offset"]))
        body = b"".join(json.dumps(record).encode() + b"\n" for record in records)
        footer = {"records": len(records), "sha256": hashlib.sha256(body).hexdigest()}
        parts = [json.dumps(header).encode(), b"\n", body, json.dumps(footer).encode(), b"\n"]
        to.write_bytes(gzip.compress(b"".join(parts)))
        return to


async def emptied(servers: str) -> None:
    """Every topic deleted and created again, once the broker has forgotten the old ones."""
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    try:
        with contextlib.suppress(UnknownTopicOrPartitionError):
            await admin.delete_topics(list(TOPICS))
        async with asyncio.timeout(120):
            while set(TOPICS) & set(await admin.list_topics()):  # noqa: ASYNC110 - a broker's
                await asyncio.sleep(0.1)
    finally:
        await admin.close()
    await prepare_topics(KafkaAccess(servers), 1)


async def ended(servers: str, seat: tuple[str, int], end: int) -> None:
    """Wait for what is committed up to there: a broker answers before a transaction's marker."""
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, isolation_level="read_committed")
    place = TopicPartition(*seat)
    await consumer.start()
    try:
        async with asyncio.timeout(120):
            while (await consumer.end_offsets([place]))[place] < end:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
    finally:
        await consumer.stop()


def at(day: str, second: int = 0) -> int:
    return day_end_ms(day) - 86_400_000 + second * 1000


async def fill(servers: str) -> None:
    """Three days: plain records, transactions that end and that are given up, bytes of any kind."""
    plain = AIOKafkaProducer(bootstrap_servers=servers)
    owned = AIOKafkaProducer(bootstrap_servers=servers, transactional_id="fill")
    await plain.start()
    await owned.start()

    async def send(producer: Any, day: str, number: int, seat=BUSY, **record: Any) -> None:
        record = {"key": b"k", "value": b'{"n":%d}' % number, "headers": [("kind", b"N")], **record}
        await producer.send_and_wait(
            seat[0], partition=seat[1], timestamp_ms=at(day, number), **record
        )

    for day in DAYS:
        for number in range(4):
            await send(plain, day, number)
            await send(plain, day, number, ("kuro.events", number))
        async with owned.transaction():
            for number in range(4, 6):
                await send(owned, day, number)
        await owned.begin_transaction()
        await send(owned, day, 7, value=b"never seen")
        await owned.abort_transaction()
        await send(plain, day, 8, key=None, value=b"\xff\xfe", headers=[])
    await send(plain, DAYS[1], 9, ("dead-letters", 0), value=None)
    await plain.stop()
    await owned.stop()
    await ended(servers, BUSY, 10 * len(DAYS))


async def make_key(stack: EmbeddedStack, spec: str) -> str:
    client = aioboto3.Session().client(
        "kms",
        region_name=REGION,
        endpoint_url=stack.kms.base_url,
        aws_access_key_id="embedded",
        aws_secret_access_key="embedded",
    )
    async with client as kms:
        answer = await kms.create_key(KeySpec=spec, KeyUsage="SIGN_VERIFY")
    return str(answer["KeyMetadata"]["KeyId"])


@pytest_asyncio.fixture(scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    folder = tmp_path_factory.mktemp("sealing")
    async with EmbeddedStack(folder, chain_ids=[], parts={"kafka", "kms"}) as running:
        yield running


@pytest_asyncio.fixture(scope="session")
async def world(
    stack: EmbeddedStack, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[World]:
    folder = tmp_path_factory.mktemp("restored")
    environment = {name: stack.environment[name] for name in stack.environment if "AWS" in name}
    environment |= {"AWS_REGION": REGION, "KMS_KEY_ID": stack.kms.key_id}
    async with EmbeddedStack(folder, chain_ids=[], parts={"kafka"}) as target:
        servers = stack.kafka.bootstrap_servers
        await prepare_topics(stack.kafka.access, 1)
        await fill(servers)
        made = World(
            servers,
            target.kafka.bootstrap_servers,
            environment,
            folder / "seals.jsonl",
            folder / "log.gz",
        )
        made.environment["SEAL_KMS_KEY_ID"] = await make_key(stack, "ECC_NIST_P256")
        for day in DAYS:
            result = await made.run("seal", "--day", day, "--json")
            assert result.exit_code == 0, result.output + repr(result.exception)
        result = await made.run("topics", "export", str(made.archive))
        assert result.exit_code == 0, result.output
        yield made
