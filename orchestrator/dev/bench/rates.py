"""Part e: how fast facts are folded in memory, replayed from Kafka and projected to PostgreSQL, and
part i's second half: how long a full restart takes with such a past."""

from __future__ import annotations

import asyncio
import gc
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
from orchestrator.kafka_access import KafkaAccess
from schemas.base import Position
from schemas.requests import RequestFact
from schemas.topics import LANES, REQUESTS

CHAIN = 5920
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
        rebuilt, cpu = await _rebuild(place, facts)
    run.say(f"replay {max(replays):,.0f}/s, rebuild {rebuilt:,.0f}/s")
    findings.figures += [
        Figure("e", "replay from Kafka", "facts/s of CPU", tuple(replays), 30_000),
        Figure("e", "rebuild of PostgreSQL", "facts/s", (rebuilt,), 10_000),
        Figure("e", "rebuild of PostgreSQL", "facts/s of CPU of the projector", (cpu,)),
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


async def _rebuild(place: World, facts: int) -> tuple[float, float]:
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
    """Part i: a full restart with a past, until a mint that came meanwhile is broadcast."""
    findings = Findings()
    for facts in (100_000, 1_000_000)[: 1 if run.quick else None]:
        async with world(chain_ids=[CHAIN]) as place:
            kafka = place.stack.kafka.access
            written = await past.write(kafka, facts // past.FACTS_PER_REQUEST)
            await past.commit_all(kafka, GROUPS)
            async with LogTail(kafka, [LANES], ["TransactionBroadcast"]) as tail:
                started = time.monotonic()
                await place.stack.kuro.mint_many(1, chainId=CHAIN, amount="1")
                starting = asyncio.create_task(place.start(*(r for r in ROLES if r != "api")))
                await tail.until(partial(_any, tail), "a broadcast", 300)
                taken = time.monotonic() - started
                await starting
            size = resident_bytes(place.services["decide"].pid) / 2**20
            run.say(f"restart with {written:,} facts: {taken:.1f} s, {size:,.0f} MiB")
        name = f"full restart with {facts:,} facts"
        target = 30.0 if facts == 1_000_000 else None
        findings.figures += [
            Figure("i", name, "s", (taken,), at_most=target, less_is_better=True),
            Figure(
                "h",
                f"resident memory of the deciding role, {facts:,} facts",
                "MiB, all of it",
                (size,),
                less_is_better=True,
            ),
        ]
    return findings
