"""Waiting that a bell may cut short."""

from __future__ import annotations

import asyncio

import pytest

from streams.retrying import Backoff, awoken


@pytest.mark.parametrize("wait", [awoken, lambda bell, _: Backoff(60, 60).sleep(bell)])
async def test_a_cancellation_in_the_moment_of_the_bell_is_not_lost(wait):
    bell = asyncio.Event()

    async def serve() -> None:
        while True:
            await wait(bell, 60)

    task = asyncio.create_task(serve())
    await asyncio.sleep(0.01)
    bell.set()
    task.cancel()
    done, _ = await asyncio.wait({task}, timeout=5)
    assert done and task.cancelled()


async def test_a_bell_and_the_time_both_end_the_wait():
    bell = asyncio.Event()
    waiting = asyncio.create_task(awoken(bell, 60))
    await asyncio.sleep(0.01)
    bell.set()
    await asyncio.wait_for(waiting, 60)
    assert not bell.is_set()
    await asyncio.wait_for(awoken(bell, 0.01), 60)
