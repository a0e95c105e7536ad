"""`KuroListener` between the Kuro simulator and a real Kafka: nothing that was sent is lost."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter
from orchestrator.adapters.kuro import KuroSource
from orchestrator.adapters.kuro_messages import items_of
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.errors import LogUnavailable
from orchestrator.ports import LogWriter
from schemas.base import Fact, Position
from schemas.kuro import MintOk
from schemas.topics import DEAD_LETTERS, KURO_EVENTS, Topic
from streams.listening import KuroListener

from .models import until

GOOD = b'{"requestId":"a","user":"0x1","amount":"5","fiatRef":"f","timestamp":1}'


@asynccontextmanager
async def listening(
    stack: EmbeddedStack, writer: LogWriter, heartbeat_seconds: float = 60.0
) -> AsyncIterator[KuroListener]:
    """A short heartbeat takes a busy machine for a dead socket and connects anew."""
    source = KuroSource(
        stack.kuro.websocket_url,
        stack.kuro.rest_url,
        rest_interval_seconds=5.0,
        heartbeat_seconds=heartbeat_seconds,
        shortest_delay_seconds=0.05,
        longest_delay_seconds=0.5,
    )
    listener = KuroListener(source, writer, 5920)
    task = asyncio.create_task(listener.run())
    try:
        await until(lambda: source.health.lists > 0 and source.health.connected_since, 10)
        yield listener
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task


@asynccontextmanager
async def writing(stack: EmbeddedStack) -> AsyncIterator[KafkaWriter]:
    writer = KafkaWriter(stack.kafka.access, "tests")
    await writer.start()
    yield writer
    await writer.close()


async def told(stack: EmbeddedStack, topic: Topic) -> list[Fact]:
    log = KafkaLog(stack.kafka.access, "tests")
    starts = dict.fromkeys(range(topic.partitions), 0)
    return [
        topic.decode(m.value).fact
        async for _, messages in log.replay(topic, starts)
        for m in messages
    ]


async def minted(stack: EmbeddedStack) -> list[str]:
    return [fact.request_id for fact in await told(stack, KURO_EVENTS) if isinstance(fact, MintOk)]


async def test_a_burst_of_10_000(stack: EmbeddedStack) -> None:
    async with writing(stack) as writer, listening(stack, writer) as listener:
        started = time.monotonic()
        sent = asyncio.create_task(stack.kuro.mint_many(10_000))
        await until(lambda: listener.appended >= 10_000, 40)
        seconds = time.monotonic() - started
        ids = await sent
        print(f"\n10000 messages in {seconds:.2f} s, {10_000 / seconds:.0f} messages/s")
        assert listener.source.health.connects == 1
        found = await minted(stack)
        assert set(found) >= set(ids)
        assert len(found) == len(set(found)), "each once"
    await stack.kuro.settle()


async def test_garbage_drops_half_open_sockets_and_restarts_lose_nothing(
    stack: EmbeddedStack,
) -> None:
    sent: list[str] = []
    async with writing(stack) as writer, listening(stack, writer, 1.0) as listener:
        await stack.kuro.behave(garbage_every=3, repeat=1, shuffle_window=7, drop_every=40)
        sent += await stack.kuro.mint_many(200)
        await stack.kuro.behave(drop_every=0, half_open=True)
        sent += await stack.kuro.mint_many(50)
        await asyncio.sleep(2.0)
        await stack.kuro.behave(half_open=False, shuffle_window=0)
        await stack.kuro.kill()
        await until(lambda: listener.reason is not None, 10)
        await stack.kuro.start()
        sent += await stack.kuro.mint_many(100)
        await until(lambda: listener.source.health.connected_since is not None, 10)
        sent += await stack.kuro.mint_many(100)
        seen: set[str] = set()

        async def all_there() -> bool:
            seen.update(await minted(stack))
            return seen >= set(sent)

        for _ in range(240):
            if await all_there():
                break
            await asyncio.sleep(0.25)
        assert seen >= set(sent)
        assert listener.malformed > 0
    assert any("not JSON" in letter.detail for letter in await told(stack, DEAD_LETTERS))
    before = await minted(stack)
    assert len(before) == len(set(before)), "one process appends each once"
    async with writing(stack) as writer, listening(stack, writer) as listener:
        await until(lambda: listener.appended >= len(sent), 10)
    again = await minted(stack)
    assert len(again) == len(before) + len(sent), "a new process: the pending list once more"
    await stack.kuro.settle()


class AwayLog:
    """A log that is away until it is told to be back, then keeps what comes."""

    def __init__(self) -> None:
        self.is_away = True
        self.kept: list[Fact] = []

    async def append(self, topic: Topic, facts: list[Fact]) -> list[Position]:
        if self.is_away:
            raise LogUnavailable("away")
        self.kept += facts
        return []


async def test_the_log_away_for_a_while(stack: EmbeddedStack) -> None:
    log = AwayLog()
    async with listening(stack, log) as listener:
        ids = await stack.kuro.mint_many(300)
        await until(lambda: listener.reason == "away", 5)
        log.is_away = False
        await until(lambda: {fact.key for fact in log.kept} >= set(ids), 15)
        await until(lambda: listener.reason is None, 5)
    await stack.kuro.settle()


class TestListsThatAreBroken:
    def test_a_bad_item_spoils_no_other(self) -> None:
        for bad in (b"NaN", b'{"requestId":"\\ud800"}', b'"\xff"', b"1e999", b"7"):
            items = items_of(b"[" + GOOD + b", " + bad + b" ," + GOOD + b"]")
            assert len(items) == 3
            assert [json.loads(item)["requestId"] for item in (items[0], items[2])] == ["a", "a"]

    def test_a_list_without_its_end(self) -> None:
        whole = b" [" + GOOD + b"," + GOOD + b"," + GOOD[:20]
        assert len(items_of(whole, may_be_cut=True)) == 2
        assert len(items_of(whole)) == 3, "the broken end becomes a dead letter"

    def test_what_is_no_list(self) -> None:
        for text in (b"", b"NaN", b"{", b"<html>", b'{"a":1}', b"[" * 100_000):
            try:
                found = items_of(text, may_be_cut=True)
            except ValueError as error:
                assert "the answer is not" in str(error)
            else:
                raise AssertionError(found)
