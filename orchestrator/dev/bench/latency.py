"""Part d: from Kuro's message to the broadcast of its mint, at several loads and speeds of KMS."""

from __future__ import annotations

import asyncio
import time
import uuid

from orchestrator.dev.bench.figures import Chart, Figure, Findings, percentile
from orchestrator.dev.bench.log_tail import LogTail
from orchestrator.dev.bench.world import ROLES, Run, World, world
from schemas.topics import KURO_EVENTS, LANES, REQUESTS

CHAIN = 5920
HOPS = {
    "MintOk": "Kuro's message is on `kuro.events`",
    "RequestReceived": "deciding carried it into `requests`",
    "ApprovalDrafted": "deciding fixed its approval",
    "ApprovalSigned": "signing has it from KMS, the guard asked before",
    "RelayAssigned": "deciding chose a wallet",
    "RelayRequested": "deciding gave it to the lane",
    "TransactionPrepared": "the lane has its exact bytes",
    "TransactionBroadcast": "they are on the log, and a node has them",
}
"""Each fact on the way, in order; its time is when its writer appended it."""
AT_MOST_MS = {0.5: 60.0, 0.99: 250.0}
"""At 10 requests a second with a KMS that answers at once."""


async def latency(run: Run) -> Findings:
    findings = Findings()
    chart = Chart(
        "latency", "Kuro's message to broadcast, KMS at 0 ms", "share of requests (%)", "ms"
    )
    delays = (0, 50) if run.quick else (0, 50, 150)
    rates = (10, 50) if run.quick else (10, 50, 100)
    async with world(chain_ids=[CHAIN]) as place:
        await place.start(*ROLES)
        await _measure(place, 10, 6)
        base: dict[tuple[int, float], float] = {}
        for delay_ms in delays:
            await place.stack.kms.set_faults(latency_ms=delay_ms)
            for rate in rates:
                found, hops = await _measure(place, rate, run.size(20, 8))
                name = f"KMS {delay_ms} ms, {rate}/s"
                if rate == rates[0]:
                    findings.remarks.append(_where(name, hops))
                values = {share: percentile(found, share) for share in (0.5, 0.95, 0.99)}
                text = ", ".join(f"p{share * 100:.0f} {values[share]:.0f}" for share in values)
                run.say(f"{name}: {text} ms")
                for share, value in values.items():
                    findings.figures.append(_figure(name, share, value, base, delay_ms, rate))
                if delay_ms == 0:
                    line = [(point, percentile(found, point / 100)) for point in range(1, 100)]
                    chart.lines[f"{rate}/s"] = [(float(x), y) for x, y in line]
    findings.charts.append(chart)
    return findings


def _figure(
    name: str,
    share: float,
    value: float,
    base: dict[tuple[int, float], float],
    delay_ms: int,
    rate: int,
) -> Figure:
    target = AT_MOST_MS.get(share) if (delay_ms, rate) == (0, 10) else None
    note = ""
    if delay_ms == 0:
        base[rate, share] = value
    else:
        note = f"{value - base[rate, share]:+.0f} ms against a KMS at 0 ms"
    label = f"p{share * 100:.0f}, {name}"
    return Figure("d", label, "ms", (value,), at_most=target, less_is_better=True, note=note)


def _where(name: str, hops: dict[str, list[float]]) -> str:
    """A table of what each step took."""
    lines = [f"Where the milliseconds go, {name}:", ""]
    lines += ["| from the fact before until | p50 | p95 |", "|---|---:|---:|"]
    for kind, meaning in HOPS.items():
        taken = hops.get(kind, [])
        shares = " | ".join(f"{percentile(taken, share):.0f}" for share in (0.5, 0.95))
        lines.append(f"| {kind}: {meaning} | {shares} |")
    return "\n".join(lines)


async def _measure(
    place: World, per_second: int, seconds: int
) -> tuple[list[float], dict[str, list[float]]]:
    """Milliseconds of each request, and by kind of fact since the one before it. Requests come
    evenly; Kuro's own clock is not used."""
    sent: dict[str, float] = {}
    kafka = place.stack.kafka.access
    async with LogTail(kafka, [KURO_EVENTS, REQUESTS, LANES], list(HOPS)) as tail:
        started = time.monotonic()
        for number in range(per_second * seconds):
            await asyncio.sleep(max(0.0, started + number / per_second - time.monotonic()))
            name = f"latency-{uuid.uuid4()}"
            sent[name] = time.time()
            holder = place.stack.holders.address
            mint = {"requestId": name, "user": holder, "amount": "1", "chainId": CHAIN}
            await place.stack.kuro.mint(mint)
        last = list(HOPS)[-1]
        await tail.until(lambda: len(tail.of(last)) >= len(sent), f"{len(sent)} broadcasts")
        times: dict[str, dict[str, float]] = {name: {} for name in sent}
        for seen in tail.seen:
            if seen.request_key in sent:
                times[seen.request_key].setdefault(seen.kind, seen.at_seconds)
    whole: list[float] = []
    hops: dict[str, list[float]] = {kind: [] for kind in HOPS}
    for name, at in sent.items():
        whole.append((times[name][last] - at) * 1000)
        before = at
        for kind in HOPS:
            hops[kind].append((times[name].get(kind, before) - before) * 1000)
            before = times[name].get(kind, before)
    return whole, hops
