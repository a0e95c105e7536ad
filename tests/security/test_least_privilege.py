"""With exactly the access-control lists of the committed file the service works, and no role does
what is not its own."""

from __future__ import annotations

import asyncio
import json
from urllib.request import urlopen

import pytest
from aiokafka.errors import GroupAuthorizationFailedError

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter
from orchestrator.dev.http_client import request_json
from orchestrator.errors import LogUnavailable
from schemas.controls import WorkPaused
from schemas.kuro import MintOk, Via
from schemas.topics import CONTROLS, KURO_EVENTS, LANES, REQUESTS
from tests.core.facts import USER, received
from tests.e2e.harness import World, until
from tests.security.conftest import CHAIN, Secured
from tests.tidy.project import ROOT


async def test_a_mint_completes_with_a_principal_a_role(service: World, secured: Secured):
    [key] = await service.mint(chain_id=CHAIN)
    [done] = await service.ended([key])
    assert done["txHash"]
    health = await service.get("/health")
    assert health["status"] == "ok", health

    async def told() -> bool:
        url = f"{service.service.base_url}/metrics"
        text = (await asyncio.to_thread(urlopen, url)).read().decode()
        return all(f'group="orchestrator-{role}"' in text for role in ("decide", "sign", "relay"))

    await until(told, "the API may ask how far each role is")


async def test_the_broker_holds_exactly_what_the_file_lists(secured: Secured):
    listed = json.loads((ROOT / "deploy/security/kafka-acls.json").read_text())
    held = await secured.tool.rules()
    assert sorted(map(json.dumps, held)) == sorted(map(json.dumps, listed))


async def test_an_operator_pauses_and_looks(service: World, secured: Secured):
    words = ("--chain", str(CHAIN), "--who", "ann", "--why", "a test", "--wait", "60")
    for name in ("pause", "resume"):
        code, told = await secured.ends(f"order-{name}", "operator", name, *words)
        assert code == 0 and "taken in" in told, told
    code, told = await secured.ends("look", "auditor", "replay", "--json")
    assert code == 0, told
    code, told = await secured.ends("tables", "project", "verify")
    assert code == 0, told


async def test_a_day_is_sealed_by_a_principal_that_may_only_read(service, secured: Secured):
    created = await asyncio.to_thread(
        request_json,
        *("POST", f"{secured.stack.kms.base_url}/"),
        {"KeySpec": "ECC_NIST_P256", "KeyUsage": "SIGN_VERIFY"},
        headers={"X-Amz-Target": "TrentService.CreateKey"},
    )
    file = secured.folder / "seals.jsonl"
    given = {
        "SEAL_KMS_KEY_ID": created["KeyMetadata"]["KeyId"],
        "SEAL_ANCHORS": f"file:{file}",
        "DATABASE_URL": "",
        "KMS_KEY_ID": "",
    }
    code, told = await secured.ends("sealing", "seal", "seal", "--json", **given)
    assert code == 0, told
    assert len(file.read_bytes().splitlines()) == 1


MINT = MintOk(
    request_id="nobody-said-so",
    user=USER,
    amount="5",
    fiat_ref="none",
    chain_id=CHAIN,
    timestamp_ms=1,
    via=Via.SOCKET,
)
PAUSE = WorkPaused(scope="all", order="o-1", who="nobody", why="to be refused")
FORBIDDEN = [
    ("sign", KURO_EVENTS, MINT),
    ("decide", KURO_EVENTS, MINT),
    ("operator", KURO_EVENTS, MINT),
    ("api", KURO_EVENTS, MINT),
    ("decide", CONTROLS, PAUSE),
    ("webhooks", CONTROLS, PAUSE),
    ("ingest", REQUESTS, received("m-forged")),
    ("relay", REQUESTS, received("m-forged")),
    ("project", REQUESTS, received("m-forged")),
    ("auditor", REQUESTS, received("m-forged")),
    ("seal", REQUESTS, received("m-forged")),
]


@pytest.mark.parametrize(("role", "topic", "fact"), FORBIDDEN)
async def test_what_is_not_its_own_is_refused_in_words(service, secured, role, topic, fact):
    access = secured.access(f"orchestrator-{role}")
    writer = KafkaWriter(access, "forbidden")
    with pytest.raises(LogUnavailable) as refused:
        await writer.start()
        await writer.append(topic, [fact])
    await writer.close()
    told = str(refused.value)
    assert f"do not let orchestrator-{role} do this" in told and "topics acls" in told, told
    assert secured.passwords[f"orchestrator-{role}"] not in told


async def test_nobody_takes_the_place_of_an_owner_or_reads_beyond_its_own(service, secured):
    for role, name in (("decide", "lane.x"), ("ingest", "lane.x"), ("relay", "follower.5920")):
        owned = KafkaLog(secured.access(f"orchestrator-{role}"), "forbidden").owned(name)
        with pytest.raises(LogUnavailable, match=f"do not let orchestrator-{role} do this"):
            await owned.start()
        await owned.close()
    log = KafkaLog(secured.access("orchestrator-sign"), "forbidden")
    with pytest.raises(LogUnavailable, match="do not let orchestrator-sign do this with lanes"):
        async for _ in log.replay(LANES, dict.fromkeys(range(LANES.partitions), 0)):
            pass
    consumer = secured.access("orchestrator-auditor").consumer(group_id="orchestrator-decide")
    with pytest.raises(GroupAuthorizationFailedError):
        await consumer.start()
        consumer.subscribe([REQUESTS.name])
        await consumer.getmany(timeout_ms=20_000)
    await consumer.stop()
