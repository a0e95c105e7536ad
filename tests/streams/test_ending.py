"""A task that is asked to end does end, whatever its clients make of a cancellation."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager

import pytest
from aiokafka.errors import KafkaConnectionError, ProducerFenced

from orchestrator import closing
from orchestrator.adapters.kafka_log import KafkaOwnedLog
from orchestrator.closing import ended
from orchestrator.errors import Fenced, LogUnavailable
from schemas.topics import LANES
from tests.projections.facts import lane_story


class Tidying:
    """A producer whose transaction, cancelled, fails while it is aborted."""

    def __init__(self, error: Exception) -> None:
        self.error = error
        self.begun = asyncio.Event()

    @asynccontextmanager
    async def transaction(self):
        try:
            yield
        except asyncio.CancelledError:
            raise self.error from None

    async def send(self, *_: object, **__: object):
        self.begun.set()
        await asyncio.Event().wait()


def owned_over(producer: Tidying) -> KafkaOwnedLog:
    owned = KafkaOwnedLog.__new__(KafkaOwnedLog)
    owned.transactional_id, owned._fenced, owned._producer = "lane.x", False, producer
    return owned


@pytest.mark.parametrize("error", [ProducerFenced(), KafkaConnectionError()])
async def test_an_append_that_is_cancelled_stays_cancelled_though_it_is_fenced(error) -> None:
    producer = Tidying(error)
    owned, rounds = owned_over(producer), 0

    async def owner() -> None:
        nonlocal rounds
        while rounds < 3:
            rounds += 1
            try:
                await owned.append(LANES, lane_story()[:1])
            except (Fenced, LogUnavailable):
                owned._fenced = False

    task = asyncio.create_task(owner())
    await producer.begun.wait()
    task.cancel()
    await asyncio.wait({task}, timeout=30)
    assert task.cancelled() and rounds == 1


async def test_what_loses_a_cancellation_is_cancelled_again(monkeypatch) -> None:
    monkeypatch.setattr(closing, "CANCEL_AGAIN_SECONDS", 0.01)
    lost = 0

    async def losing() -> None:
        nonlocal lost
        while True:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                lost += 1
                if lost == 3:
                    raise

    task = asyncio.create_task(losing())
    await asyncio.sleep(0)
    await ended([task])
    assert task.cancelled() and lost == 3
