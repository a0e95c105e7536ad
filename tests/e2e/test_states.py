"""STATE_DIR on real parts: what a process put away is found again after SIGKILL, and what was put
away and then damaged decides nothing: nothing is lost, and nothing comes twice."""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest_asyncio

from orchestrator.dev.service import Service
from schemas.topics import REQUESTS
from tests.e2e.harness import World, until
from tests.e2e.invariants import invariants_hold

ROLES = ("decide", "sign")
UP_TO_DATE = "book is up to date"
THROWN_AWAY = "an archive of states is thrown away; the log is replayed instead"
UNBORNE = "an archive does not count; replaying"
CHAIN = 5921


@pytest_asyncio.fixture
async def kept(world: World) -> AsyncIterator[Service]:
    """One process of all roles with a STATE_DIR; `world.service` is not running meanwhile."""
    await world.service.stop()
    part = world.part("kept", "run", api=True, keeping=True)
    await part.start()
    yield part
    await part.stop()


def files(world: World) -> dict[str, list[Path]]:
    """By role, in the order of their partitions."""
    folder = world.states("kept")
    return {
        role: [
            folder / f"orchestrator-{role}" / f"requests-{number}.sqlite"
            for number in range(REQUESTS.partitions)
        ]
        for role in ROLES
    }


def reached(file: Path) -> int:
    """The offset up to which a partition's states were put away."""
    if not file.exists():
        return 0
    link = sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)
    try:
        row = link.execute("SELECT next_offset FROM position").fetchone()
    except sqlite3.OperationalError:  # not laid out yet
        return 0
    finally:
        link.close()
    return 0 if row is None else int(row[0])


def told(part: Service, event: str) -> list[dict[str, Any]]:
    """What a process said under this event so far."""
    found = []
    for line in part.log.read_text(errors="replace").splitlines():
        if event in line:
            try:
                found.append(json.loads(line))
            except ValueError:
                continue
    return [line for line in found if line.get("event") == event]


async def put_away(world: World, kept: Service) -> list[str]:
    """Each role has put away as many facts as there were when this began; what was minted, for a
    book is saved beside what it reads."""
    keys = await world.mint(chain_id=CHAIN, count=20)
    await world.ended(keys, service=kept)
    facts = len(await world.messages(REQUESTS))

    async def done() -> bool:
        keys.extend(await world.mint(chain_id=CHAIN))
        return all(sum(map(reached, found)) >= facts for found in files(world).values())

    await until(done, f"{facts} facts are put away by each role")
    return keys


async def replayed_anew(part: Service, before: int) -> int:
    """How many facts each of both books replayed since `before` of them were told, the more."""

    async def both() -> bool:
        return len(told(part, UP_TO_DATE)) >= before + len(ROLES)

    await until(both, "both books are up to date")
    return max(int(line["facts"]) for line in told(part, UP_TO_DATE)[before:])


async def burst_and_kill(world: World, kept: Service) -> list[str]:
    """Mints are under way, some of them broadcast, when SIGKILL comes."""
    keys = await world.mint(chain_id=CHAIN, count=30)

    async def some() -> bool:
        items = [await world.status(key, kept) for key in keys]
        return any(item is not None and item["status"] == "COMPLETED" for item in items)

    await until(some, "one of the burst is completed")
    await kept.kill()
    return keys


async def test_a_killed_process_goes_on_from_what_it_had_put_away(
    world: World, kept: Service
) -> None:
    first = await put_away(world, kept)
    keys = await burst_and_kill(world, kept)
    was_reached = {role: sum(map(reached, found)) for role, found in files(world).items()}
    before = len(told(kept, UP_TO_DATE))
    refused = len(told(kept, THROWN_AWAY)) + len(told(kept, UNBORNE))
    await kept.start()
    replayed = await replayed_anew(kept, before)
    everything = len(await world.messages(REQUESTS))
    print(f"\n{everything} facts; put away {was_reached}, replayed {replayed}")
    assert replayed <= everything - min(was_reached.values())
    assert min(was_reached.values()) > 0
    assert len(told(kept, THROWN_AWAY)) + len(told(kept, UNBORNE)) == refused
    await world.ended(keys, service=kept)
    await world.minted_once(CHAIN, [*first, *keys])
    await invariants_hold(world, [*first, *keys])


def harmed(found: list[Path]) -> None:
    """One in each way: cut, overwritten, of another partition, and without what came last."""
    usable = [file for file in found if reached(file) > 0]
    assert len(usable) >= 4
    for file in usable:
        with sqlite3.connect(file) as link:
            link.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    cut, overwritten, swapped, emptied, *_ = usable
    cut.write_bytes(cut.read_bytes()[: cut.stat().st_size // 2])
    raw = bytearray(overwritten.read_bytes())
    raw[len(raw) // 2 :] = bytes(len(raw) - len(raw) // 2)
    overwritten.write_bytes(raw)
    shutil.copy(usable[-1], swapped)
    with sqlite3.connect(emptied) as link:
        link.execute("DELETE FROM states")


async def test_damaged_files_decide_nothing(world: World, kept: Service) -> None:
    first = await put_away(world, kept)
    keys = await burst_and_kill(world, kept)
    for found in files(world).values():
        harmed(found)
    before, refused = len(told(kept, UP_TO_DATE)), len(told(kept, THROWN_AWAY))
    await kept.start()
    await replayed_anew(kept, before)
    thrown = told(kept, THROWN_AWAY)[refused:]
    assert len(thrown) == 4 * len(ROLES), thrown
    await world.ended(keys, service=kept)
    late = await world.mint(chain_id=CHAIN, count=5)
    await world.ended(late, service=kept)
    await world.minted_once(CHAIN, [*first, *keys, *late])
    await invariants_hold(world, [*first, *keys, *late])
