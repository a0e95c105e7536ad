"""Every role in a process of its own: they share the work by the log alone, and may all die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest_asyncio

from orchestrator.dev.service import Service
from orchestrator.dev.stack import EmbeddedStack
from tests.e2e.harness import World, members_of
from tests.e2e.invariants import invariants_hold

COMMANDS = {
    "ingest": ["ingest"],
    "decide": ["worker", "--roles", "decide"],
    "sign": ["worker", "--roles", "sign"],
    "relay": ["worker", "--roles", "relay"],
    "project": ["project"],
    "api": ["api"],
}

IN_GROUPS = ("decide", "sign", "relay", "ingest")
"""Partitions are handed to these by the broker; one projector writes by a lock of the database."""


class Fleet:
    """One process a role. `world.service` is not running meanwhile; `api` answers instead."""

    def __init__(self, world: World) -> None:
        self.parts: dict[str, Service] = {
            name: world.part(f"fleet-{name}", *arguments, api=name == "api")
            for name, arguments in COMMANDS.items()
        }

    @property
    def api(self) -> Service:
        return self.parts["api"]

    async def start(self) -> None:
        await asyncio.gather(*(part.start() for part in self.parts.values()))

    async def kill(self) -> None:
        """SIGKILL to all at once."""
        await asyncio.gather(*(part.kill() for part in self.parts.values()))

    async def stop(self) -> None:
        await asyncio.gather(*(part.stop() for part in self.parts.values()))


@pytest_asyncio.fixture
async def fleet(stack: EmbeddedStack, world: World) -> AsyncIterator[Fleet]:
    await world.service.stop()
    fleet = Fleet(world)
    await fleet.start()
    yield fleet
    await fleet.stop()


async def test_all_processes_killed_in_the_middle_of_a_burst(world: World, fleet: Fleet) -> None:
    chain_id = 5923
    [first] = await world.mint(chain_id=chain_id)
    await world.ended([first], service=fleet.api)
    keys = await world.mint(chain_id=chain_id, count=200)
    await asyncio.sleep(1.0)
    await fleet.kill()
    await fleet.start()
    await world.ended(keys, service=fleet.api)
    await world.minted_once(chain_id, keys)
    await invariants_hold(world, keys)


async def test_a_role_stopped_with_sigterm_leaves_its_group_and_ends_well(
    world: World, fleet: Fleet
) -> None:
    [key] = await world.mint(chain_id=5923)
    await world.ended([key], service=fleet.api)
    for name in ("decide", "sign", "relay", "ingest", "project"):
        part = fleet.parts[name]
        await part.stop()
        assert part._child is not None
        assert part._child.code == 0, part.log.read_text()[-2000:]
        if name in IN_GROUPS:
            assert await members_of(world, name) == [], "it leaves before it ends"
