"""A process without an API tells of itself: metrics, and that it lives."""

from __future__ import annotations

import asyncio

import aiohttp

from orchestrator.config import Settings
from orchestrator.metrics_endpoint import run_metrics
from tests.e2e.harness import free_port


async def test_metrics_and_life_are_served_until_told_to_stop():
    stop, port = asyncio.Event(), free_port()
    serving = asyncio.create_task(run_metrics(Settings(host="127.0.0.1", metrics_port=port), stop))
    async with aiohttp.ClientSession(f"http://127.0.0.1:{port}") as client:
        while True:
            try:
                async with client.get("/health/live") as response:
                    assert await response.json() == {"status": "ok"}
                    break
            except aiohttp.ClientConnectionError:
                assert not serving.done(), serving.exception()
                await asyncio.sleep(0.05)
        async with client.get("/metrics") as response:
            assert "process_cpu_seconds_total" in await response.text()
        stop.set()
        await serving
