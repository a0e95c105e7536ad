"""A reader of server-sent events as the standard describes one, and the log to compare it with."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import aiohttp

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter
from orchestrator.dev.stack import EmbeddedStack
from schemas.base import Fact
from schemas.topics import TOPICS
from tests.projections.facts import topic_of

Place = tuple[str, int, int]


@dataclass
class Reader:
    """Keeps the last event id over connections, as an EventSource does."""

    url: str
    last_id: str = ""
    events: list[dict[str, Any]] = field(default_factory=list)
    comments: int = 0

    @property
    def places(self) -> list[Place]:
        return [(item["topic"], item["partition"], item["offset"]) for item in self.events]

    async def read(
        self, until: Callable[[Reader], bool], seconds: float = 60, **query: str
    ) -> None:
        """Read one connection until the condition holds, or the server ends or breaks it."""
        headers = {"Last-Event-ID": self.last_id} if self.last_id else {}
        async with (
            asyncio.timeout(seconds),
            aiohttp.ClientSession(read_bufsize=2**20) as session,
            session.get(f"{self.url}/feed", params=query, headers=headers) as answer,
        ):
            assert answer.status == 200, await answer.text()
            assert answer.content_type == "text/event-stream"
            with suppress(aiohttp.ClientPayloadError, ConnectionError):
                await self._dispatch(answer, until)

    async def _dispatch(
        self, answer: aiohttp.ClientResponse, until: Callable[[Reader], bool]
    ) -> None:
        """What is not ended by an empty line counts for nothing, its id neither."""
        data, last_id = [], self.last_id
        async for line in answer.content:
            text = line.decode().rstrip("\n")
            name, _, value = text.partition(": ")
            if name == "id":
                last_id = value
            elif name == "data":
                data.append(value)
            elif name == "" and value:
                self.comments += 1
            elif not text:
                self.last_id = last_id
                if data:
                    self.events.append(json.loads("\n".join(data)))
                data = []
                if until(self):
                    return


async def append(writer: KafkaWriter, facts: Iterable[Fact]) -> None:
    """One by one per topic, in order."""
    for fact in facts:
        await writer.append(TOPICS[topic_of(fact)], [fact])


async def places_on_the_log(stack: EmbeddedStack, topics: Iterable[str] = ()) -> list[Place]:
    reader = KafkaLog(stack.kafka.access, "feed-tests")
    found: list[Place] = []
    for name in topics or TOPICS:
        topic = TOPICS[name]
        starts = dict.fromkeys(range(topic.partitions), 0)
        async for _, messages in reader.replay(topic, starts):
            found += [(m.topic, m.partition, m.offset) for m in messages]
    return found


def in_order(places: Iterable[Place]) -> bool:
    """Every partition's offsets ascend: order, and no repetition."""
    newest: dict[tuple[str, int], int] = {}
    for topic, partition, offset in places:
        if newest.get((topic, partition), -1) >= offset:
            return False
        newest[topic, partition] = offset
    return True


@asynccontextmanager
async def background(work: Any) -> AsyncIterator[None]:
    task = asyncio.create_task(work)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
