"""A dependency that dies, or is slow, delays requests and loses or doubles none."""

from __future__ import annotations

import asyncio

from tests.e2e.harness import World


async def test_kms_down_and_throttling_delays_only(world: World) -> None:
    [warm] = await world.mint(chain_id=5921)
    await world.ended([warm])
    await world.stack.kms.set_faults(down=True)
    keys = await world.mint(chain_id=5921, count=20)
    await asyncio.sleep(3)
    stages = {(await world.status(key) or {}).get("stage") for key in keys}
    assert stages <= {"RECEIVED", "DRAFTED", None}
    await world.stack.kms.set_faults(down=False, throttle_every=3, lose_every=5)
    try:
        await world.ended(keys)
    finally:
        await world.stack.kms.clear_faults()
    await world.minted_once(5921, keys)


async def test_a_broker_restart_in_the_middle_of_a_burst(world: World) -> None:
    [warm] = await world.mint(chain_id=5922)
    await world.ended([warm])
    keys = await world.mint(chain_id=5922, count=100)
    await asyncio.sleep(0.5)
    await world.stack.kafka.restart()
    await world.ended(keys)
    await world.minted_once(5922, keys)


async def test_postgresql_killed_and_started(world: World) -> None:
    keys = await world.mint(chain_id=5923, count=20)
    await world.stack.postgres.kill()
    await asyncio.sleep(3)
    await world.stack.postgres.start()
    await world.ended(keys)
    await world.minted_once(5923, keys)


async def test_a_node_restarted_in_the_middle_of_a_burst(world: World) -> None:
    """Its pool is lost with it: what was broadcast and not mined is sent again."""
    chain = world.stack.chains[5924]
    [warm] = await world.mint(chain_id=5924)
    await world.ended([warm])
    keys = await world.mint(chain_id=5924, count=100)
    await asyncio.sleep(1.2)
    await chain.restart()
    await world.ended(keys)
    await world.minted_once(5924, keys)


async def test_kuro_away_and_half_open(world: World) -> None:
    await world.stack.kuro.behave(half_open=True)
    keys = await world.mint(count=5)
    await world.stack.kuro.behave(half_open=False)
    await world.stack.kuro.kill()
    await asyncio.sleep(1)
    await world.stack.kuro.start()
    await world.ended(keys)
    await world.minted_once(5920, keys)
