"""Driving the service from outside, as integrators and operators do: Kuro, chains, API, topics."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection
from pathlib import Path
from typing import Any

from aiokafka.admin import AIOKafkaAdminClient

from orchestrator.adapters.kafka_log import KafkaLog
from orchestrator.core.launchpad_profile import contract_id
from orchestrator.dev.http_client import HttpError, request_json, rpc
from orchestrator.dev.ports import chosen_port
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack
from schemas.base import Position, Record
from schemas.topics import Topic

TOKEN = 10**18
LAUNCHPAD_CHAIN = 5925
"""Has the contract of that profile; the others have that of `orchestrator`."""
PATIENCE_SECONDS = 90


def free_port() -> int:
    """Not one of the system's own choice: until it is listened on, any client of the machine may
    be given that."""
    return chosen_port()


class World:
    """The embedded stack and one or several processes of the service beside it."""

    def __init__(self, stack: EmbeddedStack, **settings: str) -> None:
        self.stack = stack
        self.environment = service_environment(stack, **settings)
        self.service = self.part("service", "run", api=True, keeping=True)

    def part(self, name: str, *arguments: str, api: bool = False, keeping: bool = False) -> Service:
        """With `keeping`, its requests at rest are found again by the next process of that name."""
        port = free_port() if api else None
        environment = dict(self.environment)
        if keeping:
            environment["STATE_DIR"] = str(self.states(name))
        return Service(self.stack, name, arguments, environment, api_port=port)

    def states(self, name: str) -> Path:
        return self.stack.data_dir / "states" / name

    async def get(self, path: str, service: Service | None = None) -> Any:
        url = f"{(service or self.service).base_url}{path}"
        return await asyncio.to_thread(request_json, "GET", url)

    async def status(self, key: str, service: Service | None = None) -> Any:
        """The status object, or None while nothing is known."""
        try:
            return await self.get(f"/status/{key}", service)
        except HttpError as error:
            if error.status == 404:
                return None
            raise

    async def mint(self, *, chain_id: int = 5920, count: int = 1, **fields: Any) -> list[str]:
        """Kuro allows mints of one token each for the holder, unless `fields` say otherwise."""
        template = {
            "user": self.stack.holders.address,
            "amount": str(TOKEN),
            "chainId": chain_id,
            **fields,
        }
        return await self.stack.kuro.mint(*[dict(template) for _ in range(count)])

    async def ended(
        self, keys: Collection[str], status: str = "COMPLETED", service: Service | None = None
    ) -> list[Any]:
        """Wait until all of these requests have this status; their status objects."""
        waiting = set(keys)
        done: dict[str, Any] = {}

        async def look() -> bool:
            for key in list(waiting):
                item = await self.status(key, service)
                if item is not None and item["status"] == status:
                    done[key] = item
                    waiting.discard(key)
                elif len(waiting) > 20:
                    break
            return not waiting

        await until(look, f"{len(keys)} requests {status}", lambda: self.stories(waiting))
        return [done[key] for key in keys]

    async def stories(self, keys: Collection[str]) -> str:
        """Where the first few of these requests are, for a failed wait."""
        items = [await self.status(key) for key in list(keys)[:3]]
        return "\n".join(str(item) for item in items)

    async def facts(self, topic: Topic) -> list[Record]:
        """Everything committed on a topic now, in order per partition."""
        return [
            topic.decode(message.value, Position(topic.name, message.partition, message.offset))
            for message in await self.messages(topic)
        ]

    async def messages(self, topic: Topic) -> list[Any]:
        reader = KafkaLog(self.stack.kafka.access, "tests")
        starts = dict.fromkeys(range(topic.partitions), 0)
        return [m async for _, batch in reader.replay(topic, starts) for m in batch]

    async def block_number(self, chain_id: int) -> int:
        url = self.stack.chains[chain_id].rpc_url
        return int(await asyncio.to_thread(rpc, url, "eth_blockNumber"), 16)

    async def minted_once(self, chain_id: int, keys: Collection[str]) -> None:
        """Each of these requests has exactly one `Minted` on its chain."""
        events = await self.stack.holders.minted_events(chain_id)
        counts = dict.fromkeys(keys, 0)
        padded = self.stack.chains[chain_id].launchpad
        names = {contract_id(key) if padded else key: key for key in keys}
        for event in events:
            if event.request_id in names:
                counts[names[event.request_id]] += 1
        wrong = {key: count for key, count in counts.items() if count != 1}
        assert not wrong, f"minted other than once: {wrong}"


async def until(
    condition: Callable[[], Awaitable[bool]],
    what: str,
    story: Callable[[], Awaitable[str]] | None = None,
    patience_seconds: float = PATIENCE_SECONDS,
) -> None:
    """Poll a condition; AssertionError with the story when it does not come true in time."""
    deadline = time.monotonic() + patience_seconds
    while not await condition():
        if time.monotonic() > deadline:
            told = await story() if story else ""
            raise AssertionError(f"not within {patience_seconds} s: {what}\n{told}")
        await asyncio.sleep(0.2)


async def members_of(world: World, role: str) -> list[str]:
    """Who is in a role's consumer group now, as the broker says: member ids."""
    admin = AIOKafkaAdminClient(bootstrap_servers=world.environment["KAFKA_BOOTSTRAP_SERVERS"])
    await admin.start()
    try:
        [answer] = await admin.describe_consumer_groups([f"orchestrator-{role}"])
    finally:
        await admin.close()
    [(_, _, _, _, _, members, *_)] = answer.groups
    return [member[0] for member in members]
