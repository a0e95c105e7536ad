"""Real kills under load: two processes of each role, each killed with SIGKILL at a moment that a
seed decides; then KMS away for a minute, and meanwhile broker, PostgreSQL and a node go down.

Afterwards everything is completed, nothing twice, and the simulation's invariants hold on the real
topics. How soon partitions moved is measured and told; that they moved is required.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from random import Random

import pytest_asyncio

from orchestrator.dev.service import Service
from schemas.topics import REQUESTS
from tests.e2e.harness import World, until
from tests.e2e.invariants import invariants_hold
from tests.e2e.test_main_job import redeem
from tests.e2e.test_processes import COMMANDS

CHAINS = (5920, 5921, 5922)
KMS_AWAY_SECONDS = float(os.environ.get("KMS_AWAY_SECONDS", "60"))
EVERY_PARTITION = list(range(REQUESTS.partitions))


class Pairs:
    """Two processes of each role, each with states of its own, and one that answers questions."""

    def __init__(self, world: World) -> None:
        self.pairs: dict[str, list[Service]] = {
            role: [
                world.part(f"pair-{role}-{number}", *arguments, keeping=True) for number in (1, 2)
            ]
            for role, arguments in COMMANDS.items()
            if role != "api"
        }
        self.api = world.part("pair-api", *COMMANDS["api"], api=True)

    def all(self) -> list[Service]:
        return [*(part for pair in self.pairs.values() for part in pair), self.api]


@pytest_asyncio.fixture
async def pairs(world: World) -> AsyncIterator[Pairs]:
    await world.service.stop()
    found = Pairs(world)
    async with AsyncExitStack() as closing:
        for part in found.all():
            closing.push_async_callback(part.stop)
        await asyncio.gather(*(part.start() for part in found.all()))
        yield found


def told(part: Service) -> list[dict[str, object]]:
    """The lines of a process's log so far."""
    found = []
    for line in part.log.read_text(errors="replace").splitlines():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [line for line in found if isinstance(line, dict)]


def has_taken_over(role: str, lines: list[dict[str, object]], lanes: int, duties: int) -> bool:
    """Whether the last that a process said of its share is all there is."""
    last: dict[str, object] = {}
    taken = set()
    for line in lines:
        last[str(line.get("event"))] = line
        if line.get("event") == "duty taken":
            taken.add(line.get("duty"))
        elif line.get("event") == "duty left":
            taken.discard(line.get("duty"))
    match role:
        case "decide" | "sign":
            line = last.get("book is up to date")
            return isinstance(line, dict) and line.get("partitions") == EVERY_PARTITION
        case "relay":
            line = last.get("lanes owned here")
            owned = line.get("lanes") if isinstance(line, dict) else None
            return isinstance(owned, list) and len(owned) >= lanes
        case "ingest":
            return len(taken) >= duties
    return "projection_writing" in last


def has_nothing(lines: list[dict[str, object]]) -> bool:
    """Whether a relaying process was given no lane at all: few lanes may all lie in one half of the
    partitions, and then nothing would ever move to it."""
    owned = [line.get("lanes") for line in lines if line.get("event") == "lanes owned here"]
    return bool(owned) and owned[-1] == []


async def kill_one(pairs: Pairs, role: str, rng: Random, lanes: int, duties: int) -> str:
    """SIGKILL to one of the two; how long until the other had everything; then it starts anew."""
    victim, other = rng.sample(pairs.pairs[role], 2)

    async def shared() -> bool:
        """There is something to move: the writer's part, or a share of the partitions."""
        nonlocal victim, other
        has_all = await asyncio.to_thread(has_taken_over, role, told(other), lanes, duties)
        idle = role == "relay" and has_all and has_nothing(told(victim))
        if (role == "project" and has_all) or idle:
            victim, other = other, victim
            return True
        return not has_all

    await until(shared, f"both processes of {role} have a share")
    begun = time.monotonic()
    await victim.kill()
    where = f"{other.name} has all that {victim.name} had"

    async def moved() -> bool:
        return await asyncio.to_thread(has_taken_over, role, told(other), lanes, duties)

    await until(moved, where)
    seconds = time.monotonic() - begun
    await victim.start()
    return f"{role}: {victim.name} killed, everything at {other.name} after {seconds:.1f} s"


async def load(world: World, keys: list[str], rng: Random, stop: asyncio.Event) -> None:
    while not stop.is_set():
        keys += await world.mint(chain_id=rng.choice(CHAINS), count=rng.randint(2, 6))
        await asyncio.sleep(rng.uniform(0.3, 1.0))


async def outages(world: World, rng: Random) -> None:
    """KMS is away all the time; the others go down meanwhile, one after the other."""
    await world.stack.kms.set_faults(down=True)
    away = asyncio.create_task(asyncio.sleep(KMS_AWAY_SECONDS))
    try:
        await asyncio.sleep(rng.uniform(1, 4))
        await world.stack.kafka.restart()
        await asyncio.sleep(rng.uniform(1, 4))
        await world.stack.postgres.kill()
        await asyncio.sleep(rng.uniform(1, 4))
        await world.stack.postgres.start()
        await world.stack.chains[rng.choice(CHAINS)].restart()
        await away
    finally:
        await world.stack.kms.clear_faults()


async def test_every_role_killed_under_load_and_every_dependency_down(
    world: World, pairs: Pairs
) -> None:
    seed = int(os.environ.get("KILL_SEED", time.time_ns() % 1_000_000))
    print(f"\nKILL_SEED={seed} replays these kills")
    rng = Random(seed)
    keys = await world.mint(chain_id=CHAINS[0])
    await world.ended(keys, service=pairs.api)
    lanes = len(world.stack.chain_ids) + 1  # the policies have an owner of their own
    duties = len(world.stack.chain_ids) + 1
    stop = asyncio.Event()
    loading = asyncio.create_task(load(world, keys, rng, stop))
    try:
        for role in rng.sample(list(pairs.pairs), len(pairs.pairs)):
            await asyncio.sleep(rng.uniform(0.2, 1.5))
            print(await kill_one(pairs, role, rng, lanes, duties))
        await outages(world, rng)
    finally:
        stop.set()
        await loading
    print(f"{len(keys)} mints were asked for meanwhile")
    await world.ended(keys, service=pairs.api)
    redeemed = await redeem(world, CHAINS[0], [1, 2, 3])
    await world.ended(redeemed, service=pairs.api)
    await invariants_hold(world, [*keys, *redeemed])
