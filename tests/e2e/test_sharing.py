"""Two workers share the load; one comes and one goes under load, and nothing is lost or done twice.
What the processes logged meanwhile names what each line is about."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import AsyncExitStack
from typing import Any

import pytest_asyncio

from orchestrator.core.belonging import trace_id
from orchestrator.dev.service import Service
from schemas.topics import REQUESTS
from tests.e2e.harness import World, members_of, until
from tests.e2e.invariants import invariants_hold
from tests.e2e.test_kills import told

CHAINS = (5920, 5921, 5922, 5923, 5924)
GROUPS = ("decide", "sign", "relay")
OF_A_ROLE = {"decide": "ApprovalDrafted", "sign": "ApprovalSigned", "relay": "TransactionPrepared"}
"""What only a process with that role's partitions appends."""
MINTS_AT_ONCE = 10

ALWAYS = {"event", "level", "logger", "timestamp"}
ABOUT = {
    "fact appended": {"fact", "kind", "request", "trace_id", "chain_id"},
    "lane is open": {"chain_id", "wallet", "next_nonce"},
    "following": {"chain_id", "from_block"},
    "duty taken": {"duty"},
    "book is up to date": {"partitions", "facts"},
    "lanes owned here": {"lanes"},
}
"""The lines that every such run has, and what each must name."""


def debugging(world: World, name: str, *arguments: str) -> Service:
    return Service(world.stack, name, arguments, {**world.environment, "LOG_LEVEL": "DEBUG"})


class Sharing:
    """One process of each other role, and two workers of which one is not yet started."""

    def __init__(self, world: World) -> None:
        self.first = debugging(world, "sharing-first", "worker")
        self.second = debugging(world, "sharing-second", "worker")
        self.ingest = debugging(world, "sharing-ingest", "ingest")
        self.project = world.part("sharing-project", "project")
        self.api = world.part("sharing-api", "api", api=True)

    def at_first(self) -> list[Service]:
        return [self.first, self.ingest, self.project, self.api]


@pytest_asyncio.fixture
async def sharing(world: World) -> AsyncIterator[Sharing]:
    await world.service.stop()
    found = Sharing(world)
    async with AsyncExitStack() as closing:
        for part in (*found.at_first(), found.second):
            closing.push_async_callback(part.stop)
        await asyncio.gather(*(part.start() for part in found.at_first()))
        yield found


def share(part: Service) -> tuple[set[int], set[str]]:
    """The partitions of `requests` and the lanes that it said last that it owns."""
    partitions: set[int] = set()
    lanes: set[str] = set()
    for line in told(part):
        if line.get("event") == "book is up to date":
            partitions = set(line["partitions"])  # type: ignore[call-overload]
        if line.get("event") == "lanes owned here":
            lanes = set(line["lanes"])  # type: ignore[call-overload]
    return partitions, lanes


def written(part: Service, since: int = 0) -> Counter[str]:
    """How many facts of each kind it appended, from that line of its log on."""
    lines = [line for line in told(part)[since:] if line.get("event") == "fact appended"]
    return Counter(str(line["kind"]) for line in lines)


async def load(world: World, keys: list[str], stop: asyncio.Event) -> None:
    while not stop.is_set():
        for chain_id in CHAINS:
            keys += await world.mint(chain_id=chain_id, count=MINTS_AT_ONCE // len(CHAINS))
        await asyncio.sleep(0.5)


async def both_work(parts: Sequence[Service], since: Sequence[int], every: set[str]) -> bool:
    """Disjoint shares that are everything, and facts of every role written by each. Lanes follow
    their partitions, which may all be one worker's: then only that one relays."""
    (first, lanes), (second, more) = share(parts[0]), share(parts[1])
    if first & second or first | second != set(range(REQUESTS.partitions)):
        return False
    if not (first and second) or lanes & more or lanes | more != every:
        return False
    return all(
        kinds_of(owned) <= written(part, begun).keys()
        for part, owned, begun in zip(parts, (lanes, more), since, strict=True)
    )


def kinds_of(lanes: set[str]) -> set[str]:
    """What a worker appends that owns these, with its share of `requests`."""
    kinds = set(OF_A_ROLE.values())
    return kinds if any(":0x" in lane for lane in lanes) else kinds - {OF_A_ROLE["relay"]}


async def test_a_worker_comes_and_goes_under_load(world: World, sharing: Sharing) -> None:
    keys = await world.mint(chain_id=CHAINS[0])
    await world.ended(keys, service=sharing.api)
    assert all([len(await members_of(world, role)) == 1 for role in GROUPS])
    stop = asyncio.Event()
    loading = asyncio.create_task(load(world, keys, stop))
    workers = [sharing.first, sharing.second]
    try:
        await asyncio.sleep(1)
        since, every = [len(told(sharing.first)), 0], share(sharing.first)[1]
        assert {lane.partition(":")[0] for lane in every} >= {str(chain) for chain in CHAINS}
        begun = time.monotonic()
        await sharing.second.start()
        await until(
            lambda: both_work(workers, since, every), "both workers work", lambda: story(workers)
        )
        print(f"\nboth had worked after {time.monotonic() - begun:.1f} s: {await story(workers)}")

        count, begun = len(told(sharing.first)), time.monotonic()
        await sharing.second.stop()
        ended = time.monotonic() - begun
        left = [len(await members_of(world, role)) for role in GROUPS]
        assert sharing.second._child is not None
        assert sharing.second._child.code == 0, sharing.second.log.read_text()[-2000:]
        assert left == [1, 1, 1], "it leaves its groups before it ends"
        await until(lambda: owns_all(sharing.first, count), "the other has everything again")
        print(f"ended {ended:.1f} s after SIGTERM; moved after {time.monotonic() - begun:.1f} s")
    finally:
        stop.set()
        await loading
    print(f"{len(keys)} mints meanwhile; written {await story(workers)}")
    await world.ended(keys, service=sharing.api)
    for chain_id in CHAINS:
        mine = {item["requestKey"] for item in await listed(world, sharing, chain_id)}
        await world.minted_once(chain_id, mine & set(keys))
    await invariants_hold(world, keys)
    for part in (*workers, sharing.ingest):
        lines_name_what_they_are_about(part)
    events = {line.get("event") for part in (*workers, sharing.ingest) for line in told(part)}
    assert ABOUT.keys() <= events


async def owns_all(part: Service, since: int) -> bool:
    """It has replayed all partitions anew, as the decider and as the signer."""
    everything = set(range(REQUESTS.partitions))
    books = [
        set(line["partitions"])  # type: ignore[call-overload]
        for line in told(part)[since:]
        if line.get("event") == "book is up to date"
    ]
    return sum(everything == book for book in books) >= 2


async def story(parts: Sequence[Service]) -> str:
    return "; ".join(
        f"{part.name}: {share(part)}, "
        f"{ {kind: written(part)[kind] for kind in OF_A_ROLE.values()} }"
        for part in parts
    )


async def listed(world: World, sharing: Sharing, chain_id: int) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = []
    cursor = ""
    while True:
        path = f"/status?chainId={chain_id}&type=MINT&limit=100{cursor}"
        page = await world.get(path, sharing.api)
        items += page["items"]
        if page["next"] is None:
            return items
        cursor = f"&cursor={page['next']}"


def lines_name_what_they_are_about(part: Service) -> None:
    for line in told(part):
        event = str(line.get("event"))
        missing = ALWAYS - line.keys()
        if str(line.get("logger", "")).partition(".")[0] not in ("streams", "orchestrator"):
            continue
        wanted = ABOUT.get(event, set())
        if event == "fact appended":
            wanted = wanted - {"request", "trace_id"} if "request" not in line else wanted
        missing |= wanted - line.keys()
        missing |= {"trace_id"} - line.keys() if "request" in line else set()
        missing |= (
            {"chain_id"} - line.keys() if {"tx_hash", "wallet", "nonce"} & set(line) else set()
        )
        missing |= {"kind"} - line.keys() if "fact" in line else set()
        assert not missing, f"{part.name}: {missing} missing in {line}"
        if "request" in line:
            assert line["trace_id"] == trace_id(str(line["request"]))
