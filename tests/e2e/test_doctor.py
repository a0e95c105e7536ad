"""`orchestrator doctor` and `keys show`: all is well, and each thing that is not is named."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from urllib.parse import urlsplit

import psycopg
import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from orchestrator.commands.checks import clocks_compared
from orchestrator.dev.http_client import request_json
from orchestrator.dev.stack import EmbeddedStack
from projections.database import held_offsets
from streams.topics import missing_topics
from tests.e2e.harness import free_port, until

SECRET = "0x" + "5e" * 32


async def run(environment, *arguments):
    """Exit code, standard output, and all that it wrote."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator", *arguments),
        env=environment,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    out, err = await process.communicate()
    return process.returncode, out.decode(), (out + err).decode()


@pytest.fixture
def environment(world):
    return dict(world.environment)


async def test_a_running_stack_is_well(world, environment):
    code, out, _ = await run(environment, "doctor", "--json")
    checks = json.loads(out)
    assert code == 0, [check for check in checks if check["state"] != "well"]
    subjects = {check["subject"] for check in checks}
    assert {
        "settings",
        "Kafka",
        "PostgreSQL",
        "tables",
        "KMS",
        "Kuro's socket",
        "KMS, signing",
        "clock",
    } <= subjects
    wallets = {f"chain {chain_id}, wallet" for chain_id in world.stack.chain_ids}
    assert wallets <= subjects and len(wallets) >= 5
    keys = json.loads((await run(environment, "keys", "show", "--json"))[1])
    assert keys["approver"].startswith("0x")
    assert len(keys["wallets"]) >= 5
    assert all(int(wallet["balanceWei"]) > 0 for wallet in keys["wallets"])


async def test_each_thing_that_is_not_well_is_named_with_its_remedy(environment):
    nobody = free_port()
    broken = environment | {
        "KAFKA_BOOTSTRAP_SERVERS": f"127.0.0.1:{nobody}",
        "DATABASE_URL": f"postgresql://someone:hunter2@127.0.0.1:{nobody}/nowhere",
        "KMS_KEY_ID": "alias/nobody",
        "KURO_REST_URL": f"http://127.0.0.1:{nobody}/api",
        "KADENA_EVM_CHAIN_5920_RPC": environment["KADENA_EVM_CHAIN_5921_RPC"],
        "STABLECOIN_CONTRACT_ADDRESS_5921": "0x00000000000000000000000000000000000A11CE",
        "RELAYER_PRIVATE_KEY_5922": SECRET,
    }
    broken.pop("RELAYER_ADDRESS_5922", None)
    code, out, everything = await run(broken, "doctor", "--json")
    assert code == 1
    assert "hunter2" not in everything and SECRET not in everything
    found = {c["subject"]: c for c in json.loads(out) if c["state"] == "broken"}
    assert {"Kafka", "PostgreSQL", "KMS", "Kuro's list", "chain 5921, contract"} <= set(found)
    assert "serves chain 5921" in found["chain 5920, node 1 of 1"]["detail"]
    assert "send it funds" in found["chain 5922, wallet"]["remedy"]
    assert "Kuro's socket" not in found


async def test_a_broker_a_database_and_a_key_that_are_there_and_not_as_they_must_be(
    world, environment, tmp_path
):
    """Topics missing and of other partitions, tables of an earlier version, a key that cannot sign
    approvals, Kuro's socket away."""
    stack = world.stack
    created = await asyncio.to_thread(
        request_json,
        *("POST", f"{stack.kms.base_url}/", {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}),
        headers={"X-Amz-Target": "TrentService.CreateKey"},
    )
    url = environment["DATABASE_URL"].replace("postgresql+psycopg://", "postgresql://")
    name = f"doctor_{os.getpid()}"
    with psycopg.connect(url, autocommit=True) as link:
        link.execute(f"CREATE DATABASE {name}")
    old = f"{urlsplit(url)._replace(path='/' + name).geturl()}"
    with psycopg.connect(old, autocommit=True) as link:
        link.execute("CREATE TABLE alembic_version (version_num text)")
        link.execute("INSERT INTO alembic_version VALUES ('0001')")
    async with EmbeddedStack(tmp_path, chain_ids=[], parts={"kafka"}) as other:
        servers = other.environment["KAFKA_BOOTSTRAP_SERVERS"]
        admin = AIOKafkaAdminClient(bootstrap_servers=servers)
        await admin.start()
        try:
            await admin.create_topics([NewTopic("requests", 3, 1)])
        finally:
            await admin.close()
        broken = environment | {
            "KAFKA_BOOTSTRAP_SERVERS": servers,
            "DATABASE_URL": old,
            "KMS_KEY_ID": created["KeyMetadata"]["KeyId"],
            "KURO_WEBSOCKET_URL": f"ws://127.0.0.1:{free_port()}/events",
        }
        code, out, _ = await run(broken, "doctor", "--json")
        lost = environment | {"KAFKA_BOOTSTRAP_SERVERS": servers}
        await a_lost_log_is_not_begun_anew(lost, other)
    checks = [check for check in json.loads(out) if check["state"] == "broken"]
    told = {(check["subject"], check["detail"]): check["remedy"] for check in checks}
    assert code == 1
    assert {check["subject"] for check in checks} == {"Kafka", "tables", "KMS", "Kuro's socket"}

    def of(subject: str, *words: str) -> str:
        [remedy] = [
            remedy
            for (about, detail), remedy in told.items()
            if about == subject and all(word in detail for word in words)
        ]
        return remedy

    assert "orchestrator init" in of("Kafka", "topics are missing", "lanes", "kuro.events")
    of("Kafka", "requests has 3 partitions and must have 12", "use another cluster")
    assert "orchestrator init" in of("tables", "at 0001, this version needs")
    of("KMS", "ECC_SECG_P256K1")
    assert "KURO_WEBSOCKET_URL" in of("Kuro's socket")


async def a_lost_log_is_not_begun_anew(lost, kafka):
    """The tables hold facts of topics that this broker does not have."""

    async def held() -> bool:
        return any((await held_offsets(lost["DATABASE_URL"])).values())

    await until(held, "the tables hold records")
    told = json.loads((await run(lost, "doctor", "--json"))[1])
    checks = {check["subject"]: check for check in told}
    assert "stop every role and restore an archive" in checks["log"]["remedy"]
    assert not [check for check in told if "orchestrator init" in check["remedy"]]
    for command in ("init", "run"):
        code, _, words = await run(lost, command)
        assert code == 2 and "the log is gone" in words, words
    assert await missing_topics(kafka.kafka.access), "none was made"


def test_clocks_that_differ_are_told():
    assert clocks_compared(3.0, 0.1).state == "well"
    assert clocks_compared(9.0, 8.0).state == "well", "the answer itself took so long"
    ahead, behind = clocks_compared(40.0, 0.1), clocks_compared(-400.0, 0.1)
    assert "40 s ahead of the database" in ahead.detail and "chronyc" in ahead.remedy
    assert "400 s behind the database" in behind.detail


async def test_missing_settings_are_all_named_in_words():
    code, out, _ = await run({"PATH": os.environ["PATH"]}, "doctor")
    assert code == 1
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "KMS_KEY_ID", "RELAYER_PRIVATE_KEY_5924"):
        assert name in out
