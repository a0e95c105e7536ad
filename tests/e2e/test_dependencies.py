"""A dependency that dies, or is slow, delays requests and loses or doubles none. Outages of Kafka,
PostgreSQL and a chain's node, and KMS away for a minute: `test_kills`."""

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


async def test_kuro_away_and_half_open(world: World) -> None:
    await world.stack.kuro.behave(half_open=True)
    keys = await world.mint(count=5)
    await world.stack.kuro.behave(half_open=False)
    await world.stack.kuro.kill()
    await asyncio.sleep(1)
    await world.stack.kuro.start()
    await world.ended(keys)
    await world.minted_once(5920, keys)
