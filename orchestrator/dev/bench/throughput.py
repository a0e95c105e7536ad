"""Parts a, b and c: the ceiling, the relaying alone and the whole pipeline, in turns on one stack.

The ceiling and the relaying share a chain. The pipeline has chains of its own, for it must not see
mints that no fact of its log allows; the ceiling is then measured on a chain that nobody follows.
"""

from __future__ import annotations

import asyncio
import time

from orchestrator.adapters.kafka_log import KafkaWriter
from orchestrator.adapters.wallets import LocalWallet
from orchestrator.dev.bench import ceiling
from orchestrator.dev.bench.approvals import Approver
from orchestrator.dev.bench.chain_watch import ChainWatch
from orchestrator.dev.bench.figures import Figure, Findings
from orchestrator.dev.bench.log_tail import LogTail
from orchestrator.dev.bench.machine import cpu_seconds
from orchestrator.dev.bench.world import ROLES, Run, World, world
from orchestrator.dev.chains import Chain
from schemas.topics import LANES, REQUESTS

CHAIN = 5920
UNFOLLOWED = 5999
SETTINGS = (
    "Blocks of 30M: all settings are the defaults, so at most 1,024 transactions of a wallet are "
    "out at a time, three times what such a block holds. Blocks of 300M hold some 3,000: there "
    "lanes ran with LANE_IN_FLIGHT_LIMIT=4096."
)
IN_FLIGHT = {30_000_000: "1024", 300_000_000: "4096"}
TARGETS = {30_000_000: 0.95, 300_000_000: 0.25}


async def relaying(run: Run) -> Findings:
    """Parts a and c, at both gas limits of a block, with one wallet."""
    findings = Findings(remarks=[SETTINGS])
    for gas_limit in (30_000_000, 300_000_000):
        count = run.size(4000, 2200) * (1 if gas_limit == 30_000_000 else 2)
        await _relaying_at(run, gas_limit, count, findings)
    return findings


async def _relaying_at(run: Run, gas_limit: int, count: int, findings: Findings) -> None:
    parts = {"kafka", "postgres", "chains"}
    settings = {"LANE_IN_FLIGHT_LIMIT": IN_FLIGHT[gas_limit]}
    async with world(
        chain_ids=[CHAIN], gas_limit=gas_limit, wallets=2, parts=parts, settings=settings
    ) as place:
        chain, approver = place.stack.chains[CHAIN], Approver(place.stack)
        ours, theirs = place.stack.wallets.relayers[CHAIN]
        place.environment[f"RELAYER_PRIVATE_KEY_{CHAIN}"] = ours
        writer = KafkaWriter(place.stack.kafka.access, "bench")
        await writer.start()
        await place.start("relay")
        ceilings, rates, cpus, submitted = [], [], [], []
        for number in range(run.rounds):
            raws = await asyncio.to_thread(approver.signed, chain, theirs, count)
            rate, sent = await ceiling.fire(chain, raws)
            ceilings.append(rate)
            submitted.append(sent)
            rate, cpu = await _relay(place, writer, approver, chain, ours, count)
            rates.append(rate)
            cpus.append(cpu)
            text = f"ceiling {ceilings[-1]:.0f}/s, relaying {rate:.0f}/s, {cpu:.2f} ms"
            run.say(f"block gas {gas_limit // 10**6}M, round {number + 1}: {text}")
        await writer.close()
    gas = f"{gas_limit // 10**6}M"
    findings.figures += [
        Figure("a", f"ceiling at {gas}", "mints/s", tuple(ceilings)),
        Figure("a", f"submission at {gas}", "transactions/s", tuple(submitted)),
        Figure("c", f"relaying alone at {gas}", "mints/s", tuple(rates)),
        Figure("c", f"CPU of relaying at {gas}", "ms/mint", tuple(cpus), less_is_better=True),
        _ratio("c", f"relaying to ceiling at {gas}", rates, ceilings, TARGETS[gas_limit]),
    ]


def _ratio(
    part: str, name: str, ours: list[float], theirs: list[float], at_least: float | None
) -> Figure:
    """Round by round, so that both saw the same load of the machine."""
    samples = tuple(mine / other for mine, other in zip(ours, theirs, strict=True))
    return Figure(part, name, "of the ceiling", samples, at_least=at_least, is_ratio=True)


async def _relay(
    place: World, writer: KafkaWriter, approver: Approver, chain: Chain, key: str, count: int
) -> tuple[float, float]:
    """Mints a second, and our processes' milliseconds of CPU for each."""
    wallet = LocalWallet(key).address
    relays = await asyncio.to_thread(approver.relays, chain, wallet, count)
    watch = ChainWatch(chain)
    await watch.start()
    cpu = cpu_seconds(place.pids)
    for at in range(0, count, 500):
        await writer.append(LANES, relays[at : at + 500])
    await watch.until(count)
    return watch.rate, (cpu_seconds(place.pids) - cpu) / count * 1000


async def pipeline(run: Run) -> Findings:
    """Part b: from Kuro's message to the final event, a process for each role."""
    findings = Findings(remarks=["All settings are the defaults."])
    shapes = [("1 chain, 1 wallet", 1, 1), ("1 chain, 3 wallets", 1, 3), ("5 chains", 5, 1)]
    for name, chains, wallets in shapes[: 1 if run.quick else None]:
        await _pipeline_of(run, name, chains, wallets, findings)
    return findings


async def _pipeline_of(run: Run, name: str, chains: int, wallets: int, findings: Findings) -> None:
    followed = [CHAIN + number for number in range(chains)]
    async with world(
        chain_ids=[*followed, UNFOLLOWED], followed=followed, wallets=wallets
    ) as place:
        approver, bare = Approver(place.stack), place.stack.chains[UNFOLLOWED]
        key = place.stack.wallets.relayers[UNFOLLOWED][0]
        await place.start(*ROLES)
        await mint(place, followed, 20)
        count = run.size(3000, 1500)
        ceilings, included, completed, cpus = [], [], [], []
        parts: dict[str, list[float]] = {}
        for number in range(run.rounds):
            raws = await asyncio.to_thread(approver.signed, bare, key, max(count // 2, 1500))
            ceilings.append((await ceiling.fire(bare, raws))[0])
            before, others = place.cpu_by_role(), place.cpu_by_part()
            chain_rate, rate = await mint(place, followed, count)
            cpu = _each(before, place.cpu_by_role(), count)
            beside = _each(others, place.cpu_by_part(), count)
            for part, value in beside.items():
                parts.setdefault(part, []).append(value)
            included.append(chain_rate)
            completed.append(rate)
            cpus.append(sum(cpu.values()))
            roles = ", ".join(f"{role} {value:.1f}" for role, value in (cpu | beside).items())
            run.say(
                f"{name}, round {number + 1}: ceiling {ceilings[-1]:.0f}/s, in blocks "
                f"{chain_rate:.0f}/s, completed {rate:.0f}/s, CPU {cpus[-1]:.1f} ms ({roles})"
            )
    findings.figures += [
        Figure("b", f"in blocks, {name}", "mints/s", tuple(included)),
        Figure("b", f"completed, {name}", "mints/s", tuple(completed)),
        _ratio("b", f"pipeline to ceiling, {name}", completed, ceilings, 0.5),
        Figure(
            "b", f"CPU of all roles, {name}", "ms/mint", tuple(cpus), at_most=6, less_is_better=True
        ),
        *(
            Figure("b", f"CPU of {part}, {name}", "ms/mint", tuple(values), less_is_better=True)
            for part, values in parts.items()
        ),
    ]


def _each(before: dict[str, float], after: dict[str, float], count: int) -> dict[str, float]:
    """Milliseconds of CPU a mint."""
    return {name: (after[name] - before[name]) / count * 1000 for name in after}


async def mint(place: World, chains: list[int], count: int) -> tuple[float, float]:
    """Mints a second in blocks, over all chains, and completed by evidence: from Kuro's first
    message to the last completion."""
    watches = [ChainWatch(place.stack.chains[chain]) for chain in chains]
    for watch in watches:
        await watch.start()
    kafka = place.stack.kafka.access
    async with LogTail(kafka, [REQUESTS], ["RequestCompleted"]) as tail:
        started = time.time()
        share = count // len(chains)
        for chain in chains:
            await place.stack.kuro.mint_many(share, chainId=chain, amount=str(10**18))
        waits = [asyncio.create_task(watch.until(share)) for watch in watches]
        total = share * len(chains)
        await tail.until(lambda: len(tail.seen) >= total, f"{total} completions")
        await asyncio.gather(*waits)
        ended = max(seen.at_seconds for seen in tail.seen)
    return sum(watch.rate for watch in watches), total / (ended - started)
