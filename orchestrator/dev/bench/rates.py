"""Part e: how fast facts are folded in memory, replayed from Kafka and projected to PostgreSQL, and
part i's second half: how long a full restart takes with such a past."""

from __future__ import annotations

import asyncio
import gc
import tempfile
import time
from functools import partial
from itertools import chain

import psycopg

from orchestrator.adapters.kafka_log import KafkaLog
from orchestrator.core.lifecycle import RequestState, evolve
from orchestrator.dev.bench import past
from orchestrator.dev.bench.figures import Figure, Findings
from orchestrator.dev.bench.log_tail import LogTail
from orchestrator.dev.bench.machine import cpu_seconds, resident_bytes
from orchestrator.dev.bench.world import ROLES, Run, World, world
from orchestrator.dev.service import Service
from orchestrator.kafka_access import KafkaAccess
from schemas.base import Position
from schemas.requests import RequestFact
from schemas.topics import LANES, REQUESTS

CHAIN = 5920
PAST_CHAIN = 5921
GROUPS = ["orchestrator-decide", "orchestrator-sign", "orchestrator-relay", "orchestrator-ingest"]


def in_memory(requests: int) -> tuple[float, float]:
    """Facts a second of CPU: folded, and decoded and folded."""
    raws = list(chain.from_iterable(facts for _, facts in past.values(requests)))
    gc.collect()
    gc.set_threshold(50_000, 20, 100)  # as the service's processes have it
    started = time.process_time()
    records = [REQUESTS.decode(raw, Position("requests", 0, n)) for n, raw in enumerate(raws)]
    decoded = time.process_time()
    states: dict[str, RequestState] = {}
    for record in records:
        assert isinstance(record.fact, RequestFact)
        key = record.fact.request_key
        state, _ = evolve(states.get(key), record)
        if state is not None:
            states[key] = state
    folded = time.process_time()
    return len(raws) / (folded - decoded), len(raws) / (folded - started)


async def rates(run: Run) -> Findings:
    """Fold, replay and rebuild."""
    findings = Findings()
    folds = [in_memory(run.size(10_000, 5_000)) for _ in range(run.rounds)]
    findings.figures += [
        Figure("e", "fold in memory", "facts/s of CPU", tuple(f for f, _ in folds), 100_000),
        Figure("e", "decode and fold", "facts/s of CPU", tuple(f for _, f in folds)),
    ]
    run.say(f"fold {folds[0][0]:,.0f}/s, with decoding {folds[0][1]:,.0f}/s")
    async with world(chain_ids=[CHAIN], parts={"kafka", "postgres", "chains"}) as place:
        kafka = place.stack.kafka.access
        facts = await past.write(kafka, run.size(25_000, 10_000))
        replays = [await _replay(kafka) for _ in range(run.rounds)]
        projected, cpu = await _project(place, facts)
        await place.stop()
        rebuilds = [await _rebuild(place, facts) for _ in range(run.rounds)]
    run.say(f"replay {max(replays):,.0f}/s, rebuild {max(rebuilds):,.0f}/s")
    findings.figures += [
        Figure("e", "replay from Kafka", "facts/s of CPU", tuple(replays), 30_000),
        Figure("e", "rebuild of PostgreSQL, the whole command", "facts/s", tuple(rebuilds), 10_000),
        Figure("e", "the projector from zero", "facts/s", (projected,)),
        Figure("e", "the projector from zero", "facts/s of CPU of the projector", (cpu,)),
    ]
    return findings


async def _replay(kafka: KafkaAccess) -> float:
    """As a role does it when partitions are assigned: read, decode, fold."""
    log = KafkaLog(kafka, "bench-replay")
    states: dict[str, RequestState] = {}
    count, started = 0, time.process_time()
    async for _, messages in log.replay(REQUESTS, dict.fromkeys(range(REQUESTS.partitions), 0)):
        for message in messages:
            position = Position(message.topic, message.partition, message.offset)
            record = REQUESTS.decode(message.value, position)
            assert isinstance(record.fact, RequestFact)
            key = record.fact.request_key
            state, _verdict = evolve(states.get(key), record)
            if state is not None:
                states[key] = state
        count += len(messages)
    return count / (time.process_time() - started)


async def _rebuild(place: World, facts: int) -> float:
    """`orchestrator rebuild` from its start to its end: the interpreter, replay, indexes, swap."""
    service = Service(place.stack, "rebuild", ["rebuild"], place.environment)
    started = time.monotonic()
    await service.start()
    if await asyncio.to_thread(service.wait_blocking) != 0:
        raise RuntimeError(f"orchestrator rebuild failed: {service.log.read_text()[-300:]}")
    return facts / (time.monotonic() - started)


async def _project(place: World, facts: int) -> tuple[float, float]:
    """The projecting role on empty tables, as it follows the log at other times."""
    started = time.monotonic()
    await place.start("project")
    url = place.stack.postgres.url
    while await asyncio.to_thread(_projected, url) < facts:
        await asyncio.sleep(0.25)
        if time.monotonic() - started > 300:
            raise TimeoutError("the projection does not get there")
    taken = time.monotonic() - started
    return facts / taken, facts / cpu_seconds(place.pids)


def _any(tail: LogTail) -> bool:
    return bool(tail.seen)


def _projected(url: str) -> int:
    try:
        with psycopg.connect(url) as connection:
            row = connection.execute(
                "SELECT coalesce(sum(next_offset), 0) FROM projection_offsets "
                "WHERE topic = 'requests'"
            ).fetchone()
    except psycopg.Error:
        return 0
    return int(row[0]) if row else 0


async def restart(run: Run) -> Findings:
    """Part i: a full restart with a past, until a mint that came meanwhile is broadcast: with
    nothing put away (as after an upgrade), then once more, from what was put away."""
    findings = Findings()
    for facts in (100_000, 1_000_000)[: 1 if run.quick else None]:
        with tempfile.TemporaryDirectory(prefix="orchestrator-states-") as folder:
            states = {"STATE_DIR": f"{folder}/states"}
            async with world(chain_ids=[CHAIN], settings=states) as place:
                access = place.stack.kafka.access
                requests = facts // past.FACTS_PER_REQUEST
                await past.write(access, requests, PAST_CHAIN)
                await past.write_grounds(access, requests, PAST_CHAIN)
                await past.commit_all(access, GROUPS)
                for name in ("replaying all", "from what was put away"):
                    findings.figures += await _restarted(run, place, facts, name)
                    await place.stop()
    return findings


async def _restarted(run: Run, place: World, facts: int, name: str) -> list[Figure]:
    roles = [role for role in ROLES if role != "api"]
    async with LogTail(place.stack.kafka.access, [LANES], ["TransactionBroadcast"]) as tail:
        started = time.monotonic()
        await place.stack.kuro.mint_many(1, chainId=CHAIN, amount="1")
        starting = asyncio.create_task(place.start(*roles))
        await tail.until(partial(_any, tail), "a broadcast", 300)
        taken = time.monotonic() - started
        await starting
    about = f"{facts:,} facts, {name}"
    target = 30.0 if facts == 1_000_000 else None
    run.say(f"{about}: {taken:.1f} s")
    figures = [
        Figure("i", f"full restart, {about}", "s", (taken,), at_most=target, less_is_better=True)
    ]
    for role, doing in (("decide", "deciding"), ("sign", "signing")):
        size = resident_bytes(place.services[role].pid) / 2**20
        cpu = place.cpu_by_role()[role]
        run.say(f"the {doing} role: {cpu:.1f} s of CPU, {size:,.0f} MiB")
        figures += [
            Figure("i", f"the {doing} role until then, {about}", "s of CPU", (cpu,)),
            Figure("h", f"resident memory of the {doing} role, {about}", "MiB, all of it", (size,)),
        ]
    return figures
