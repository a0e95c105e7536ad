"""`orchestrator doctor` and `keys show`: all is well, and each thing that is not is named."""

from __future__ import annotations

import asyncio
import json
import os
import sys

import pytest

from tests.e2e.harness import free_port

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
    assert {"settings", "Kafka", "PostgreSQL", "tables", "KMS", "Kuro's socket"} <= subjects
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


async def test_missing_settings_are_all_named_in_words():
    code, out, _ = await run({"PATH": os.environ["PATH"]}, "doctor")
    assert code == 1
    for name in ("KAFKA_BOOTSTRAP_SERVERS", "KMS_KEY_ID", "RELAYER_PRIVATE_KEY_5924"):
        assert name in out
