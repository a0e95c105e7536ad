"""Small working models: a chain with honest blooms, nodes that misbehave, a log."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from eth_abi.abi import encode
from eth_utils.crypto import keccak

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.bloom import bloom_of
from orchestrator.core.chain import Head
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.errors import Fenced, LogUnavailable, RpcError, RpcProblem
from orchestrator.ports import Log
from schemas.base import Fact, Record, encode_value, instant
from schemas.dead_letters import DeadLetter
from schemas.evm import BlocksFollowed, ChainHalted, ChainResumed, ContractEvent, EventRetracted
from schemas.topics import DEAD_LETTERS, EVM_EVENTS, Topic

from .virtual import VirtualLoop

CHAIN = 5920
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
TOPICS = list(ORCHESTRATOR.event_topics)
STRANGER = "0x" + "77" * 20
SETTINGS = Settings(head_poll_seconds=0.05)


def config(confirmations: int = 2, start_block: int = 0) -> ChainConfig:
    return ChainConfig(CHAIN, ("http://node",), CONTRACT, (), confirmations, start_block)


def digest(*parts: object) -> str:
    return "0x" + keccak(text=repr(parts)).hex()


@dataclass(frozen=True)
class Block:
    head: Head
    logs: tuple[Log, ...]


class FakeChain:
    """`blocks[0]` is genesis. `grow` adds a block with that many events of ours."""

    def __init__(self, salt: int = 0) -> None:
        self._salt = salt
        self.blocks: list[Block] = []
        self.grow(0)

    @property
    def height(self) -> int:
        return len(self.blocks) - 1

    def grow(self, events: int, others: int = 0) -> None:
        self._salt += 1
        number = len(self.blocks)
        parent = self.blocks[-1].head.hash if self.blocks else digest("nothing")
        block_hash = digest(parent, self._salt)
        logs = [
            self._log(number, block_hash, index, index < events) for index in range(events + others)
        ]
        bloom = bloom_of((log.address, log.topics) for log in logs)
        head = Head(number, block_hash, parent, 1_700_000_000 + number, 7, bloom)
        self.blocks.append(Block(head, tuple(logs)))

    def _log(self, number: int, block_hash: str, index: int, ours: bool) -> Log:
        topic = TOPICS[(number + index) % len(TOPICS)]
        data = encode(["string", "uint256"], [f"r-{self._salt}-{index}", 5])
        return Log(
            CONTRACT if ours else STRANGER,
            (topic, "0x" + "0" * 24 + "11" * 20),
            "0x" + data.hex(),
            number,
            block_hash,
            digest(block_hash, index),
            index,
        )

    def fork(self, depth: int, events: Sequence[int]) -> None:
        """Replace the newest `depth` blocks by `len(events)` others."""
        del self.blocks[len(self.blocks) - depth :]
        for count in events:
            self.grow(count)

    def events(self, last: int) -> list[str]:
        """Seats of our events up to a block."""
        return [
            f"{CHAIN}:{log.block_hash}:{log.log_index}"
            for block in self.blocks[: last + 1]
            for log in block.logs
            if log.address == CONTRACT
        ]


class FaultyNode:
    """`ports.ChainNode` over a chain. Before each answer `fault()` gives a kind of misbehaviour, or
    "": down, limited, heavy, behind, empty, partial, truncated."""

    chain_id = CHAIN

    def __init__(
        self,
        chain: FakeChain,
        fault: Callable[[], str] = lambda: "",
        *,
        largest_range: int = 10**9,
        most_logs: int = 10**9,
        receipts: bool = True,
    ) -> None:
        self.chain = chain
        self.fault = fault
        self.largest_range = largest_range
        self.most_logs = most_logs
        self.receipts = receipts
        self.calls: list[str] = []
        self.spans: list[int] = []

    async def _begin(self, name: str) -> tuple[str, int]:
        """The kind of fault, and how high the node that answers stands."""
        self.calls.append(name)
        await asyncio.sleep(0.001)
        kind = self.fault()
        if kind == "down":
            raise RpcError(RpcProblem.UNAVAILABLE, "connection refused")
        if kind == "limited":
            raise RpcError(RpcProblem.RATE_LIMITED, "too many requests")
        height = self.chain.height
        return kind, max(0, height - 3) if kind == "behind" else height

    def pinned(self) -> FaultyNode:
        return self

    async def check_chain(self) -> None:
        await self._begin("check_chain")

    async def head(self) -> Head:
        _, height = await self._begin("head")
        return self.chain.blocks[height].head

    async def block(self, number: int) -> Head | None:
        _, height = await self._begin("block")
        return self.chain.blocks[number].head if number <= height else None

    async def headers(self, first: int, last: int) -> list[Head]:
        _, height = await self._begin("headers")
        self._need(last, height)
        return [block.head for block in self.chain.blocks[first : last + 1]]

    async def has_block(self, number: int, block_hash: str) -> bool:
        _, height = await self._begin("has_block")
        self._need(number, height)
        return self.chain.blocks[number].head.hash == block_hash

    async def logs(
        self, contract: str, topics: Sequence[str], first: int, last: int, *, again: int = 0
    ) -> list[Log]:
        kind, height = await self._begin("logs")
        self._need(last, height)
        self.spans.append(last - first + 1)
        blocks = self.chain.blocks[first : last + 1]
        found = [log for block in blocks for log in block.logs if log.address == contract]
        too_many = len(found) > self.most_logs
        if last - first + 1 > self.largest_range or too_many or (kind == "heavy" and first < last):
            raise RpcError(RpcProblem.RANGE_TOO_LARGE, "query returned more than 10000 results")
        if kind == "empty":
            return []
        if kind == "partial":
            return [log for log in found if log.block_number % 2]
        if kind == "truncated" and found:
            return [log for log in found if log.block_number < found[-1].block_number]
        return found

    async def logs_by_receipts(
        self, contract: str, topics: Sequence[str], block: Head
    ) -> list[Log]:
        await self._begin("logs_by_receipts")
        here = self.chain.blocks[block.number] if block.number <= self.chain.height else None
        if not self.receipts or here is None or here.head.hash != block.hash:
            raise RpcError(RpcProblem.UNAVAILABLE, "no receipts")
        return [log for log in here.logs if log.address == contract]

    def _need(self, number: int, height: int) -> None:
        if number > height:
            raise RpcError(RpcProblem.UNAVAILABLE, f"no block {number} yet")


@dataclass
class Entry:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass
class MemoryLog:
    """`ports.FactLog` with one partition. `fault()` may say "lost" (nothing appended) or "unknown"
    (appended, the answer is lost)."""

    fault: Callable[[], str] = lambda: ""
    entries: list[Entry] = field(default_factory=list)
    letters: list[DeadLetter] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)
    epochs: dict[str, int] = field(default_factory=dict)
    replays: int = 0

    def put(self, *facts: Fact) -> None:
        for fact in facts:
            value = encode_value(Record(fact, instant(0)))
            offset = len(self.entries)
            self.entries.append(Entry("evm.events", 0, offset, fact.key.encode(), value))

    def owned(self, name: str) -> MemoryOwned:
        return MemoryOwned(self, name)

    async def replay(
        self, topic: Topic, starts: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, list[Entry]]]:
        self.replays += 1
        wanted = self.entries[starts[0] :]
        for at in range(0, len(wanted), 500):
            await asyncio.sleep(0)
            yield 0, wanted[at : at + 500]

    def facts(self) -> list[Fact]:
        return [EVM_EVENTS.decode(entry.value).fact for entry in self.entries]

    def of(self, kind: type[Any]) -> list[Any]:
        return [fact for fact in self.facts() if isinstance(fact, kind)]

    def live(self) -> list[str]:
        """Seats of the events on the log that were not retracted, in order. Fails for an event
        that is told twice, a retraction of what is not there, and marks with a gap between."""
        seats: dict[str, None] = {}
        marked = -1
        for fact in self.facts():
            match fact:
                case ContractEvent():
                    assert fact.seat not in seats, "an event twice"
                    seats[fact.seat] = None
                case EventRetracted():
                    assert fact.seat in seats, "a retraction of nothing"
                    del seats[fact.seat]
                case BlocksFollowed():
                    assert fact.from_block == marked + 1, "a gap"
                    marked = fact.to_block
                case ChainHalted():
                    marked = -1 if fact.fork_block is None else fact.fork_block
                case ChainResumed():
                    pass
        return list(seats)


@dataclass
class MemoryOwned:
    log: MemoryLog
    name: str
    epoch: int = -1

    async def start(self) -> None:
        await asyncio.sleep(0.001)
        self.epoch = self.log.epochs[self.name] = self.log.epochs.get(self.name, 0) + 1

    async def append(
        self, topic: Topic, facts: Sequence[Fact], letters: Sequence[DeadLetter] = ()
    ) -> None:
        await asyncio.sleep(0.001)
        if self.log.epochs[self.name] != self.epoch:
            raise Fenced("a later owner")
        kind = self.log.fault()
        if kind == "lost":
            raise LogUnavailable("lost")
        assert topic in (EVM_EVENTS, DEAD_LETTERS)
        self.log.put(*facts)
        self.log.letters.extend(letters)
        self.log.sizes.append(len(facts))
        if kind == "unknown":
            raise LogUnavailable("no answer")

    async def close(self) -> None:
        pass


async def until(condition: Callable[[], bool], seconds: float = 120.0) -> None:
    """Virtual seconds by a virtual loop's clock; real ones are a minute at least."""
    loop = asyncio.get_running_loop()
    is_virtual = isinstance(loop, VirtualLoop)
    deadline = loop.time() + (seconds if is_virtual else max(seconds, 60))
    while not condition():
        assert loop.time() < deadline, "waited in vain"
        await asyncio.sleep(0.05)


def chooser(rng: random.Random, kinds: Sequence[str], chance: float) -> Callable[[], str]:
    return lambda: rng.choice(kinds) if kinds and rng.random() < chance else ""
