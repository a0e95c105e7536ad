"""The stack keeps data, ends with its owner however that dies, and heals what it finds."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import psycopg
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from orchestrator.dev.processes import StackError, Supervisor, heal_leftovers
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.dev.supervisor import process_start_time

ROOT = Path(__file__).parents[2]
PARTS = {"kafka", "postgres", "kuro"}


def _everything(data_dir: Path) -> EmbeddedStack:
    return EmbeddedStack(data_dir, chain_ids=[5920, 5921], block_time=0.2)


@pytest.fixture
def command_line(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    """The stack as a newcomer starts it, in a process of its own, ready."""
    command = [sys.executable, "-m", "orchestrator.dev.stack", "--data-dir", str(tmp_path)]
    command += ["--chains", "5920", "--block-time", "0.2", "--print-env"]
    with subprocess.Popen(
        command, cwd=ROOT, text=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline().startswith("export ")
        yield process
        process.kill()


def _recorded(data_dir: Path) -> list[dict[str, str | int]]:
    rows: list[dict[str, str | int]] = json.loads((data_dir / "processes.json").read_text())
    return rows


def _alive(rows: list[dict[str, str | int]]) -> list[dict[str, str | int]]:
    return [row for row in rows if process_start_time(int(row["pid"])) == row["start_time"]]


def _processes_naming(text: str) -> list[str]:
    command = ["ps", "axww", "-o", "pid=,args="]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line for line in result.stdout.splitlines() if text in line]


def _wait_until_gone(rows: list[dict[str, str | int]], data_dir: Path, seconds: float) -> None:
    deadline = time.monotonic() + max(seconds, 60)
    while _alive(rows) or _processes_naming(str(data_dir)):
        assert time.monotonic() < deadline, _processes_naming(str(data_dir))
        time.sleep(0.05)


async def _produce(servers: str, topic: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=servers)
    await admin.start()
    await admin.create_topics([NewTopic(topic, 1, 1)])
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=servers, acks="all")
    await producer.start()
    await producer.send_and_wait(topic, b"kept")
    await producer.stop()


async def _consume(servers: str, topic: str) -> bytes:
    consumer = AIOKafkaConsumer(bootstrap_servers=servers, auto_offset_reset="earliest")
    await consumer.start()
    try:
        consumer.assign([TopicPartition(topic, 0)])
        record = await asyncio.wait_for(consumer.getone(), 60)
        return bytes(record.value)
    finally:
        await consumer.stop()


@pytest.mark.asyncio
async def test_everything_is_kept_over_restarts_and_kills(tmp_path: Path) -> None:
    async with _everything(tmp_path) as stack:
        first = stack.environment
        assert set(first) >= {"DATABASE_URL", "KMS_KEY_ID", "RELAYER_PRIVATE_KEY_5921"}
        await _produce(stack.kafka.bootstrap_servers, "kept")
        with psycopg.connect(first["DATABASE_URL"]) as link:
            link.execute("CREATE TABLE kept AS SELECT 7 AS n")
        await stack.kuro.mint({"requestId": "kept"})
        for part in (stack.kafka, stack.postgres):
            await part.kill()
            assert not part.running
            await part.start()
        await stack.chains[5921].restart()
        head = await stack.chains[5921].block_number()
        assert head > 0

    async with _everything(tmp_path) as stack:
        assert stack.environment == first
        assert await _consume(stack.kafka.bootstrap_servers, "kept") == b"kept"
        with psycopg.connect(first["DATABASE_URL"]) as link:
            assert link.execute("SELECT n FROM kept").fetchone() == (7,)
        assert (await stack.kuro.state())["pending"] == 1
        assert await stack.chains[5921].block_number() >= head
        assert await stack.holders.total_supply(5921) == 0
        [key] = first["RELAYER_PRIVATE_KEY_5921"].split(",")
        for secret in (key[2:], stack.wallets.holder[2:]):
            assert not _processes_naming(secret)
        rows = _recorded(tmp_path)
    assert not _alive(rows)
    assert not (tmp_path / "processes.json").exists()


def test_kill_9_of_the_owner_leaves_no_child(
    command_line: subprocess.Popen[str], tmp_path: Path
) -> None:
    rows = _recorded(tmp_path)
    assert {row["name"] for row in rows} >= {"supervisor", "kafka", "postgres", "chain-5920"}
    assert len(_alive(rows)) == len(rows)
    command_line.kill()
    _wait_until_gone(rows, tmp_path, 12)


@pytest.mark.skipif(sys.platform != "linux", reason="needs PR_SET_PDEATHSIG")
def test_kill_9_of_the_supervisor_leaves_no_child(
    command_line: subprocess.Popen[str], tmp_path: Path
) -> None:
    rows = _recorded(tmp_path)
    [supervisor] = [row for row in rows if row["name"] == "supervisor"]
    os.kill(int(supervisor["pid"]), signal.SIGKILL)
    deadline = time.monotonic() + 60
    while _alive(rows):
        assert time.monotonic() < deadline, _alive(rows)
        time.sleep(0.05)


def test_ctrl_c_ends_all_in_order(command_line: subprocess.Popen[str], tmp_path: Path) -> None:
    rows = _recorded(tmp_path)
    command_line.send_signal(signal.SIGINT)
    assert command_line.wait(20) == 0
    _wait_until_gone(rows, tmp_path, 1)


def test_a_second_stack_in_the_folder_is_refused(tmp_path: Path) -> None:
    with EmbeddedStack(tmp_path, chain_ids=[], parts={"kuro"}) as stack:
        with pytest.raises(StackError, match=f"process {os.getpid()}"):
            EmbeddedStack(tmp_path, chain_ids=[], parts={"kuro"}).start_blocking()
        port = stack.kuro.port
    with EmbeddedStack(tmp_path, chain_ids=[], parts={"kuro"}) as stack:
        assert stack.kuro.port == port
    with pytest.raises(StackError, match="no such ports"):
        EmbeddedStack(tmp_path, chain_ids=[], ports={"nothing": 1}).start_blocking()


def test_leftovers_are_ended_and_strangers_are_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", "import time; time.sleep(60)"]
    with subprocess.Popen(command) as leftover, subprocess.Popen(command) as stranger:
        record = tmp_path / "processes.json"
        rows = [
            {
                "name": "leftover",
                "pid": leftover.pid,
                "start_time": process_start_time(leftover.pid),
            },
            {"name": "reused pid", "pid": stranger.pid, "start_time": "1"},
        ]
        record.write_text(json.dumps(rows))
        assert heal_leftovers(record, print) == ["leftover"]
        assert leftover.wait(5) == -signal.SIGTERM
        assert stranger.poll() is None
        stranger.kill()
    assert not record.exists()
    record.write_text("half a rec")
    assert heal_leftovers(record, print) == []


def test_a_stack_after_a_kill_starts_in_the_same_folder(
    command_line: subprocess.Popen[str], tmp_path: Path
) -> None:
    command_line.kill()
    command_line.wait()
    with EmbeddedStack(tmp_path, chain_ids=[5920], block_time=0.2) as stack:
        assert all(part.running for part in (stack.kafka, stack.postgres, stack.chains[5920]))


def test_what_cannot_start_says_why(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path / "processes.json")
    try:
        with pytest.raises(StackError, match="No such file"):
            supervisor.start("x", ["/nowhere"], log=tmp_path / "x.log", cwd=tmp_path)
        failing = [sys.executable, "-c", "raise SystemExit('told why')"]
        with pytest.raises(StackError, match="told why"):
            supervisor.run("y", failing, log=tmp_path / "y.log", cwd=tmp_path)
    finally:
        supervisor.close()


@pytest.mark.asyncio
async def test_a_paused_part_keeps_its_connections(tmp_path: Path) -> None:
    async with EmbeddedStack(tmp_path, chain_ids=[], parts={"kuro"}) as stack:
        await stack.kuro.pause()
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=0.3)) as session:
            with pytest.raises(TimeoutError):
                await session.get(f"{stack.kuro.rest_url}/mint-requests/pending")
        await stack.kuro.resume()
        assert (await stack.kuro.state())["pending"] == 0
