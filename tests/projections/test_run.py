"""The two processes as the command line starts them, by configuration alone."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from orchestrator.config import Need, load
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.errors import ConfigurationError
from projections.run import run_api, run_projection


async def test_both_start_by_configuration_and_stop_when_told(
    stack: EmbeddedStack, empty_database: str
) -> None:
    environment = {
        "DATABASE_URL": empty_database,
        "KAFKA_BOOTSTRAP_SERVERS": stack.kafka.bootstrap_servers,
        "HOST": "127.0.0.1",
        "PORT": "0",
        "CHAIN_IDS": "5920",
    }
    config = load({Need.DATABASE, Need.KAFKA}, environment)
    stop, listening = asyncio.Event(), asyncio.get_running_loop().create_future()
    tasks = [
        asyncio.create_task(run_api(config, stop, listening.set_result)),
        asyncio.create_task(run_projection(config, stop)),
    ]
    try:
        async with asyncio.timeout(90), aiohttp.ClientSession() as session:
            url = await listening
            migrated = False
            while not migrated:
                async with session.get(f"{url}/health/ready") as answer:
                    checks = (await answer.json())["checks"]
                migrated = checks["migrations"]["ok"]
                await asyncio.sleep(0.05)
            async with session.get(f"{url}/metrics/queues") as answer:
                assert answer.status == 200
    finally:
        stop.set()
        async with asyncio.timeout(60):
            await asyncio.gather(*tasks)


async def test_a_bad_database_url_is_refused_at_once() -> None:
    environment = {
        "DATABASE_URL": "mysql://x:hunter2@h/d",
        "KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1",
    }
    config = load({Need.DATABASE, Need.KAFKA}, environment)
    for start in (run_api, run_projection):
        with pytest.raises(ConfigurationError) as caught:
            await start(config, asyncio.Event())
        assert "hunter2" not in str(caught.value)
