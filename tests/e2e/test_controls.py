"""Operators' orders on real parts: two worker processes obey, also after kill -9."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest_asyncio

from orchestrator.dev.contracts import encode_call, send_transaction
from orchestrator.dev.service import Service
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.dev.wallets import account_of
from schemas.base import instant
from schemas.lanes import TransactionPrepared
from schemas.requests import ApprovalDrafted, ApprovalSigned
from schemas.topics import DEAD_LETTERS, LANES, REQUESTS
from tests.e2e.harness import World, until
from tests.e2e.test_bad_input import run_cli

PAUSED, OTHER = 5921, 5922
OBEYED_WITHIN_SECONDS = 2.0
COMMANDS = {
    "ingest": ["ingest"],
    "worker-1": ["worker"],
    "worker-2": ["worker"],
    "project": ["project"],
    "api": ["api"],
}


class Crew:
    """Two processes with all roles of the write side, and the rest around them."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.parts: dict[str, Service] = {
            name: world.part(f"crew-{name}", *arguments, api=name == "api")
            for name, arguments in COMMANDS.items()
        }

    @property
    def api(self) -> Service:
        return self.parts["api"]

    async def start(self) -> None:
        await asyncio.gather(*(part.start() for part in self.parts.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(part.stop() for part in self.parts.values()))

    async def restart_workers(self) -> None:
        workers = [self.parts["worker-1"], self.parts["worker-2"]]
        await asyncio.gather(*(worker.kill() for worker in workers))
        await asyncio.gather(*(worker.start() for worker in workers))

    async def order(self, *arguments: str, code: int = 0) -> Any:
        """What the command says with --json; who and why are given."""
        ended = await asyncio.to_thread(
            run_cli,
            self.world.environment,
            *arguments,
            "--who",
            "ann",
            "--why",
            "a test",
            "--wait",
            "40",
            "--json",
        )
        assert ended.returncode == code, ended.stdout + ended.stderr
        return json.loads(ended.stdout) if code == 0 else ended.stderr


@pytest_asyncio.fixture
async def crew(stack: EmbeddedStack, world: World) -> AsyncIterator[Crew]:
    await world.service.stop()
    crew = Crew(world)
    await crew.start()
    yield crew
    await crew.stop()


async def begun(world: World, chain_id: int, since: float) -> list[str]:
    """What was drafted, signed or prepared with a call for this chain later than `since`."""
    found, mine = [], set()
    for record in await world.facts(REQUESTS):
        fact = record.fact
        if getattr(fact, "chain_id", None) == chain_id:
            mine.add(fact.key)
        if isinstance(fact, ApprovalDrafted | ApprovalSigned) and fact.key in mine:
            found.append((record.at, fact.id))
    for record in await world.facts(LANES):
        fact = record.fact
        if isinstance(fact, TransactionPrepared) and fact.chain_id == chain_id and fact.relay:
            found.append((record.at, fact.id))
    return [f"{at} {name}" for at, name in found if at > instant(since)]


async def test_a_pause_is_obeyed_by_all_workers_survives_kills_and_ends(
    world: World, crew: Crew
) -> None:
    firsts = [*await world.mint(chain_id=PAUSED), *await world.mint(chain_id=OTHER)]
    await world.ended(firsts, service=crew.api)
    loaded = await world.mint(chain_id=PAUSED, count=60)
    told = await crew.order("pause", "--chain", str(PAUSED))
    paused_at = time.time()
    assert told["takenIn"] is True
    assert told["position"]["topic"] == "controls"
    keys = await world.mint(chain_id=PAUSED, count=20)
    elsewhere = await world.mint(chain_id=OTHER, count=20)
    await world.ended(elsewhere, service=crew.api)
    await crew.restart_workers()
    more = await world.mint(chain_id=PAUSED, count=5)
    others = await world.mint(chain_id=OTHER, count=5)
    await world.ended(others, service=crew.api)
    for key in (*keys, *more):
        item = await world.status(key, crew.api)
        assert item is not None and item["stage"] == "RECEIVED", item
    assert await begun(world, PAUSED, paused_at + OBEYED_WITHIN_SECONDS) == []

    cancelled, *rest = keys
    told = await crew.order("cancel", "--request", cancelled)
    assert told["takenIn"] is True
    [item] = await world.ended([cancelled], "FAILED", crew.api)
    assert item["reason"] == "CANCELLED" and "ann" in item["errorMessage"]
    assert "is not paused" in await crew.order("resume", "--all", code=2)

    await crew.order("resume", "--chain", str(PAUSED))
    await world.ended([*loaded, *rest, *more], service=crew.api)
    await world.minted_once(PAUSED, [*loaded, *rest, *more])
    item = await world.status(cancelled, crew.api)
    assert item["status"] == "FAILED"


async def test_a_retry_after_a_contract_that_reverted_completes(world: World, crew: Crew) -> None:
    chain = world.stack.chains[PAUSED]
    owner = account_of(world.stack.wallets.deployers[PAUSED])

    async def owner_calls(function: str) -> None:
        await asyncio.to_thread(
            send_transaction,
            chain.rpc_url,
            PAUSED,
            owner,
            to=chain.contract_address,
            data=encode_call(function),
        )

    await owner_calls("pause()")
    try:
        [key] = await world.mint(chain_id=PAUSED)
        [item] = await world.ended([key], "FAILED", crew.api)
        assert item["reason"] == "CONTRACT_REVERTED"
    finally:
        await owner_calls("unpause()")
    told = await crew.order("retry", "--request", key, "--order", f"retry-{key}"[:64])
    assert told["takenIn"] is True
    [item] = await world.ended([key], service=crew.api)
    assert item["attempt"] == 2
    await world.minted_once(PAUSED, [key])
    drafts = [
        record.fact
        for record in await world.facts(REQUESTS)
        if isinstance(record.fact, ApprovalDrafted) and record.fact.request_key == key
    ]
    assert len({draft.digest for draft in drafts}) == 1, "the old approval may still execute"

    assert "executed it already" in await crew.order("retry", "--request", key, code=2)
    assert "no such request" in await crew.order("cancel", "--request", "nobody", code=2)
    assert "not served here" in await crew.order("pause", "--chain", "999", code=2)


async def test_what_is_out_is_cancelled_by_a_no_op_on_its_nonce(world: World, crew: Crew) -> None:
    """The chain mines nothing meanwhile."""
    chain = world.stack.chains[PAUSED]
    [first] = await world.mint(chain_id=PAUSED)
    await world.ended([first], service=crew.api)
    await chain.pause_mining()
    try:
        [key] = await world.mint(chain_id=PAUSED)

        async def out() -> bool:
            item = await world.status(key, crew.api)
            return item is not None and item["stage"] == "SUBMITTED"

        await until(out, "the transaction is out")
        ordered = asyncio.create_task(crew.order("cancel", "--request", key))

        async def replaced() -> bool:
            facts = [record.fact for record in await world.facts(LANES)]
            prepared = [fact for fact in facts if isinstance(fact, TransactionPrepared)]
            mine = {fact.tx_hash for fact in prepared if (fact.relay or "").startswith(f"{key}:")}
            return any(fact.relay is None and fact.replaces in mine for fact in prepared)

        await until(replaced, "a no-op on its nonce")
    finally:
        await chain.resume_mining()
    await ordered
    [item] = await world.ended([key], "FAILED", crew.api)
    assert item["reason"] == "CANCELLED"
    assert "may still execute it until" in item["errorMessage"]
    events = await world.stack.holders.minted_events(PAUSED)
    assert key not in {event.request_id for event in events}
    [after] = await world.mint(chain_id=PAUSED)
    await world.ended([after], service=crew.api)
    reasons = {record.fact.reason for record in await world.facts(DEAD_LETTERS)}
    assert "OUT_OF_ORDER" not in reasons
