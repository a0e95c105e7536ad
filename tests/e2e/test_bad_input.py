"""Bad input: each kind gets its clear error and its place, and nothing else stops."""

from __future__ import annotations

import asyncio
import base64
import json
import subprocess
import sys
import urllib.request
from typing import Any

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from orchestrator.dev.contracts import encode_call, send_transaction
from orchestrator.dev.kuro_simulator import GARBAGE
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.dev.wallets import account_of
from schemas.dead_letters import DeadLetter
from schemas.topics import DEAD_LETTERS
from tests.e2e.harness import World, free_port, until


async def letters(world: World) -> list[DeadLetter]:
    return [r.fact for r in await world.facts(DEAD_LETTERS) if isinstance(r.fact, DeadLetter)]


async def test_garbage_from_kuro_goes_to_the_dead_letters_and_the_rest_goes_on(
    world: World,
) -> None:
    await world.stack.kuro.behave(garbage_every=1)
    try:
        keys = await world.mint(count=3 * len(GARBAGE))
        await world.ended(keys)
    finally:
        await world.stack.kuro.behave(garbage_every=0)
    await world.stack.kuro.send_text('{"requestId": "half", "amount": 5}')

    async def found() -> bool:
        return any("half" in _raw(letter) for letter in await letters(world))

    await until(found, "a dead letter for the last message")
    for letter in await letters(world):
        assert letter.origin.startswith(("kuro/", "kuro.events/", "requests/"))
        assert letter.detail


def _raw(letter: DeadLetter) -> str:
    return base64.b64decode(letter.raw_base64).decode(errors="replace")


@pytest.mark.parametrize(
    ("fields", "reason", "hint"),
    [
        ({"user": "0x1234"}, "INVALID_ADDRESS", "40 hex digits"),
        (
            {"user": "0xd8da6BF26964aF9D7eEd9e03E53415D37aA96046"},
            "INVALID_ADDRESS",
            "checksum",
        ),
        ({"user": "0x" + "0" * 40}, "INVALID_ADDRESS", "zero address"),
        ({"amount": "0"}, "INVALID_AMOUNT", "zero"),
        ({"amount": "-5"}, "INVALID_AMOUNT", "whole number"),
        ({"amount": "1.5"}, "INVALID_AMOUNT", "whole number"),
        ({"amount": str(2**256)}, "INVALID_AMOUNT", "2**256"),
        ({"chain_id": 999}, "UNKNOWN_CHAIN", "5920"),
    ],
)
async def test_a_bad_mint_fails_with_a_reason(
    world: World, fields: dict[str, Any], reason: str, hint: str
) -> None:
    [key] = await world.mint(**fields)
    [item] = await world.ended([key], "FAILED")
    assert item["stage"] == "REJECTED"
    assert item["reason"] == reason
    assert hint in item["errorMessage"]


async def test_a_contract_that_reverts_fails_the_request_with_its_reason(world: World) -> None:
    chain = world.stack.chains[5921]
    owner = account_of(world.stack.wallets.deployers[5921])

    async def owner_calls(function: str) -> None:
        await asyncio.to_thread(
            send_transaction,
            chain.rpc_url,
            5921,
            owner,
            to=chain.contract_address,
            data=encode_call(function),
        )

    await owner_calls("pause()")
    try:
        [refused] = await world.mint(chain_id=5921)
        [elsewhere] = await world.mint(chain_id=5922)
        [item] = await world.ended([refused], "FAILED")
        await world.ended([elsewhere])
    finally:
        await owner_calls("unpause()")
    assert item["reason"] == "CONTRACT_REVERTED"
    assert "EnforcedPause" in item["errorMessage"]
    [after] = await world.mint(chain_id=5921)
    await world.ended([after])


def run_cli(environment: dict[str, str], *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "orchestrator", *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


async def test_a_key_of_the_wrong_kind_refuses_to_start(world: World) -> None:
    answer = await asyncio.to_thread(
        _kms, world, "CreateKey", {"KeySpec": "RSA_2048", "KeyUsage": "SIGN_VERIFY"}
    )
    key_id = answer["KeyMetadata"]["KeyId"]
    environment = {**world.environment, "KMS_KEY_ID": key_id, "KAFKA_PREFIX": "wrong-key"}
    ended = await asyncio.to_thread(run_cli, environment, "worker", "--roles", "sign")
    assert ended.returncode == 2
    assert "ECC_SECG_P256K1" in ended.stderr
    assert "Traceback" not in ended.stderr


def _kms(world: World, operation: str, body: dict[str, Any]) -> Any:
    request = urllib.request.Request(
        world.stack.kms.base_url,
        data=json.dumps(body).encode(),
        headers={
            "X-Amz-Target": f"TrentService.{operation}",
            "Content-Type": "application/x-amz-json-1.1",
        },
    )
    with urllib.request.urlopen(request, timeout=10) as answer:
        return json.loads(answer.read())


@pytest.mark.parametrize("command", ["run", "ingest", "worker", "project", "api", "init"])
def test_missing_configuration_is_told_at_once(command: str) -> None:
    ended = run_cli({"PATH": "/usr/bin:/bin", "PYTHONPATH": "."}, command)
    assert ended.returncode == 2
    assert "missing" in ended.stderr
    assert "Traceback" not in ended.stderr


def test_malformed_configuration_names_every_problem_and_no_secret() -> None:
    ended = run_cli(
        {
            "PATH": "/usr/bin:/bin",
            "PYTHONPATH": ".",
            "CHAIN_IDS": "1",
            "PORT": "many",
            "RELAYER_PRIVATE_KEY_1": "0xdeadbeef",
            "STABLECOIN_CONTRACT_ADDRESS_1": "0x1",
            "DATABASE_URL": "postgresql://u:hunter2@h/d",
        },
        "run",
    )
    assert ended.returncode == 2
    for name in ("PORT", "RELAYER_PRIVATE_KEY_1", "STABLECOIN_CONTRACT_ADDRESS_1", "KMS_KEY_ID"):
        assert name in ended.stderr
    assert "deadbeef" not in ended.stderr + ended.stdout
    assert "hunter2" not in ended.stderr + ended.stdout


async def test_a_node_of_another_chain_stops_only_its_own_chain(world: World) -> None:
    """Two chains configured, one of them with the other's node."""
    stack = world.stack
    wrong = {
        **world.environment,
        "KAFKA_PREFIX": "wrong-node",
        "KADENA_EVM_CHAIN_5924_RPC": stack.chains[5923].rpc_url,
        "PORT": str(free_port()),
    }
    await world.service.stop()
    other = world.part("wrong-node", "run", api=True)
    other._environment.update(wrong)
    try:
        await other.start()
        [good] = await world.mint(chain_id=5923)
        await world.ended([good], service=other)
        [waiting] = await world.mint(chain_id=5924)

        async def relaying() -> bool:
            item = await world.status(waiting, other)
            return item is not None and item["stage"] == "RELAYING"

        await until(relaying, "the other chain's mint waits for its lane")
        assert "5923" in other.log.read_text()
    finally:
        await other.stop()
    await world.service.start()
    await world.ended([waiting])


async def test_topics_with_other_partitions_refuse_to_start(tmp_path: Any) -> None:
    async with EmbeddedStack(tmp_path, chain_ids=[], parts={"kafka", "postgres"}) as small:
        admin = AIOKafkaAdminClient(bootstrap_servers=small.kafka.bootstrap_servers)
        await admin.start()
        await admin.create_topics([NewTopic("requests", 3, 1)])
        await admin.close()
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": ".", **small.environment}
        ended = await asyncio.to_thread(run_cli, {**environment, "CHAIN_IDS": "1"}, "init")
    assert ended.returncode == 2
    assert "requests has 3 partitions and must have 12" in ended.stderr
