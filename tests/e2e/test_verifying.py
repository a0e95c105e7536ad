"""`orchestrator audit` on the real parts: clean is clean, and what was planted is named.

The last file of the folder: it leaves a log that is not clean any more."""

from __future__ import annotations

import asyncio
import json
import re
from pathlib import Path
from typing import Any

from schemas.evm import ContractEvent, EventName
from schemas.requests import RequestReceived
from schemas.topics import EVM_EVENTS, REQUESTS
from tests.e2e.harness import TOKEN, World, until
from tests.e2e.outsiders import by_hand, outsider_mints
from tests.e2e.test_main_job import redeem

CHAIN = 5923


async def ended(world: World, name: str, *words: str) -> tuple[int | None, str]:
    """Exit code and output of a command."""
    service = world.part(name, *words)
    await service.start()
    child = service._child
    assert child is not None
    await asyncio.to_thread(child.exited.wait, 240)
    return child.code, child.log.read_text()


def document(text: str) -> dict[str, Any]:
    """The JSON document behind the lines of progress."""
    found = re.search(r"^\{\n.*^\}", text, re.MULTILINE | re.DOTALL)
    assert found, text[-2000:]
    body: dict[str, Any] = json.loads(found[0])
    return body


async def test_an_audit_is_clean_and_then_names_what_was_planted(
    world: World, tmp_path: Path
) -> None:
    keys = await world.mint(chain_id=CHAIN, count=3)
    await world.ended(keys)
    await world.ended(await redeem(world, CHAIN, [TOKEN // 4]))
    out = tmp_path / "clean"
    # What other tests planted on other chains of this stack is not ours to judge.
    only = ("--chain", str(CHAIN))
    code, text = await ended(world, "audit-clean", "audit", "--json", *only, "--out", str(out))
    body = document(text)
    assert code == 0, json.dumps(body["findings"], indent=1)
    [chain] = body["chains"]
    assert chain["mints"] >= 3 and chain["burns"] >= 1
    assert chain["supply"]["totalSupply"] == chain["supply"]["byFacts"]
    assert chain["eventsOnChain"] == chain["eventsOnLog"]
    assert body["signatures"]["comparedWith"] == [world.stack.kms.address]
    assert {path.name for path in out.iterdir()} == {"audit.html", "audit.json", "audit.txt"}
    assert chain["blockHash"] in (out / "audit.html").read_text()

    await outsider_mints(world, CHAIN, "outsider-1")

    async def followed() -> bool:
        events = [r.fact for r in await world.facts(EVM_EVENTS)]
        return any(isinstance(f, ContractEvent) and f.request_id == "outsider-1" for f in events)

    await until(followed, "the outsider's mint on the log")
    requests = [r.fact for r in await world.facts(REQUESTS)]
    first = next(f for f in requests if isinstance(f, RequestReceived) and f.request_key == keys[0])
    # To an account that is no address: the service rejects it, and nothing is minted for it.
    forged = {"request_key": "by-hand", "request_id": "by-hand", "user": "nobody"}
    await by_hand(world, REQUESTS.name, first.model_copy(update=forged))
    events = [r.fact for r in await world.facts(EVM_EVENTS)]
    seen = next(f for f in events if isinstance(f, ContractEvent) and f.chain_id == CHAIN)
    moved = {
        "block_hash": "0x" + "ab" * 32,
        "event": EventName.REDEEM_REQUESTED,
        "request_id": "forged",
    }
    await by_hand(world, EVM_EVENTS.name, seen.model_copy(update=moved))
    code, text = await ended(world, "audit-planted", "audit", "--json", *only)
    assert code == 1
    body = document(text)
    found = {item["kind"]: item["subject"] for item in body["findings"] if item["discrepancy"]}
    assert set(found) >= {
        "MINT_WITHOUT_KURO",
        "SUPPLY_DIFFERS",
        "REQUEST_WITHOUT_ORIGIN",
        "EVENT_NOT_ON_CHAIN",
    }
    assert found["REQUEST_WITHOUT_ORIGIN"] == "by-hand"
    code, text = await ended(world, "audit-offline", "audit", "--offline", *only)
    assert code == 1
    assert "MINT_WITHOUT_KURO" in text
    assert "EVENT_NOT_ON_CHAIN" not in text.replace("FAIL", "")
