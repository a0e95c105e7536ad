"""The log looked at, archived, restored at the same offsets, and compared."""

from __future__ import annotations

import asyncio
import gzip
import json

import pytest
import pytest_asyncio

from orchestrator.adapters.kafka_archive import ArchiveRefused
from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter
from orchestrator.adapters.kafka_tail import Since, tail
from orchestrator.kafka_access import KafkaAccess
from schemas.kuro import MintOk, Via
from schemas.lanes import LaneOpened, NonceTaken
from schemas.topics import KURO_EVENTS, LANES, REQUESTS, TOPICS
from tests.commands.conftest import command
from tests.core.facts import CHAIN, USER, WALLETS, received

LANE = {"chain_id": CHAIN, "wallet": WALLETS[0]}


def mint_ok(number: int) -> MintOk:
    return MintOk(
        request_id=f"m-{number}",
        user=USER,
        amount="5",
        fiat_ref=f"wire-{number}",
        chain_id=CHAIN,
        timestamp_ms=1,
        via=Via.SOCKET,
    )


async def fill(kafka: KafkaAccess) -> None:
    """Plain records, committed and aborted transactions, bytes that nobody can read."""
    writer = KafkaWriter(kafka, "test")
    await writer.start()
    await writer.append(KURO_EVENTS, [mint_ok(n) for n in range(40)])
    await writer.append(REQUESTS, [received(None, key=f"m-{n}") for n in range(40)])
    await writer.close()
    owned = KafkaLog(kafka, "test", "test").owned("lane.test")
    await owned.start()
    await owned.append(LANES, [LaneOpened(**LANE, first_nonce=0)])
    for nonce in range(3):
        taken = [NonceTaken(**LANE, nonce=nonce, block_number=at) for at in range(nonce + 1)]
        await owned.append(LANES, taken)
    await owned.close()
    key = LaneOpened(**LANE, first_nonce=0).key.encode()
    unseen = kafka.producer(transactional_id="unseen")
    await unseen.start()
    for count in (1, 3):
        await unseen.begin_transaction()
        for _ in range(count):
            await unseen.send_and_wait(LANES.name, b"never seen", key=key)
        await unseen.abort_transaction()
    async with unseen.transaction():
        await unseen.send_and_wait(LANES.name, b"\xff\xfe no text", key=key)
    await unseen.stop()
    plain = kafka.producer()
    await plain.start()
    await plain.send_and_wait(LANES.name, b"not a fact", key=key, headers=[("why", b"test")])
    await plain.stop()


@pytest_asyncio.fixture(scope="module")
async def filled(brokers):
    await fill(KafkaAccess(brokers[0]))
    return brokers


async def run(servers, *arguments):
    return await asyncio.to_thread(command, servers, *arguments)


async def places(servers: str) -> list[tuple]:
    """Every record that can be seen, with its place and time."""
    found = []
    async for batch in tail(
        KafkaAccess(servers), [*TOPICS.values()], Since(beginning=True), follow=False
    ):
        found += [
            (m.topic, m.partition, m.offset, m.timestamp, m.key, m.value, m.headers) for m in batch
        ]
    return sorted(found, key=lambda item: item[:3])


async def test_a_log_comes_back_at_the_very_offsets_that_it_had(filled, tmp_path):
    source, target = filled
    archive = tmp_path / "log.gz"
    exported = await run(source, "topics", "export", str(archive), "--json")
    assert exported.exit_code == 0, exported.output
    held = await places(source)
    assert json.loads(exported.stdout)["records"] == len(held) == 89
    lanes = [item[2] for item in held if item[0] == LANES.name]
    assert lanes != list(range(len(lanes))), "there are holes"

    restored = await run(target, "topics", "import", str(archive), "--json")
    assert restored.exit_code == 0, restored.output
    assert json.loads(restored.stdout) == {"records": 89, "differences": 0, "first": None}
    assert await places(target) == held

    with pytest.raises(ArchiveRefused, match="not empty"):
        result = await run(target, "topics", "import", str(archive))
        raise result.exception

    writer = KafkaWriter(KafkaAccess(target), "test")
    await writer.start()
    await writer.append(KURO_EVENTS, [mint_ok(99)])
    assert (await run(target, "topics", "verify", str(archive))).exit_code == 0
    again = tmp_path / "again.gz"
    await run(target, "topics", "export", str(again))
    await writer.close()
    compared = await run(source, "topics", "verify", str(again))
    assert compared.exit_code == 1
    assert "ends at" in compared.stdout


async def test_a_damaged_archive_is_refused(filled, tmp_path):
    archive = tmp_path / "log.gz"
    await run(filled[0], "topics", "export", str(archive))
    lines = gzip.decompress(archive.read_bytes()).splitlines(keepends=True)
    at = next(n for n, line in enumerate(lines) if b"wire-7" in line)
    lines[at] = lines[at].replace(b"wire-7", b"wire-8")
    for broken, why in ((lines, "damaged"), (lines[:-1], "cut off"), ([b"{}\n"], "not an archive")):
        archive.write_bytes(gzip.compress(b"".join(broken)))
        result = await run(filled[0], "topics", "verify", str(archive))
        assert why in str(result.exception), result.output
    archive.write_bytes(b"nothing")
    result = await run(filled[0], "topics", "verify", str(archive))
    assert "cannot be read" in str(result.exception)


async def test_tail_shows_one_request_one_kind_and_what_is_unreadable(filled):
    every = ["tail", "--since", "beginning", "--no-follow"]
    shown = await run(filled[0], *every)
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.count("\n") == 89
    assert shown.stdout.count("unreadable") == 2
    one = (await run(filled[0], *every, "--request", "m-7", "--json")).stdout.splitlines()
    assert [json.loads(line)["kind"] for line in one] == ["MintOk", "RequestReceived"]
    lanes = await run(filled[0], *every, "lanes", "--kind", "noncetaken", "--chain", str(CHAIN))
    assert lanes.stdout.count("NonceTaken") == 6
    assert "wire-7" in (await run(filled[0], *every, "--contains", "wire-7")).stdout
    late = await run(filled[0], "tail", "--since", "2100-01-01T00:00:00Z", "--no-follow")
    assert late.stdout == ""


async def test_tail_says_what_it_does_not_understand(filled):
    for arguments, why in (
        (["nowhere"], "the topics are"),
        (["--since", "yesterday"], "an age such as"),
        (["--since", "2026-01-01T00:00:00"], "with its zone"),
    ):
        refused = await run(filled[0], "tail", *arguments)
        assert refused.exit_code == 2
        assert why in refused.output
