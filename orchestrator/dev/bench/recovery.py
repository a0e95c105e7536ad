"""Part i: each role killed with SIGKILL under load and started again at once, as an orchestrator
of containers does; the time from the kill until its next work stands on the log."""

from __future__ import annotations

import asyncio
import time

from orchestrator.dev.bench.figures import Figure, Findings
from orchestrator.dev.bench.log_tail import LogTail
from orchestrator.dev.bench.world import ROLES, Run, World, world
from schemas.topics import EVM_EVENTS, KURO_EVENTS, LANES, REQUESTS

CHAIN = 5920
WORK = {
    "ingest": "MintOk",
    "decide": "ApprovalDrafted",
    "sign": "ApprovalSigned",
    "relay": "TransactionPrepared",
}
"""What a role appends when it is back at work."""


async def recovery(run: Run) -> Findings:
    findings = Findings()
    async with world(chain_ids=[CHAIN]) as place:
        await place.start(*ROLES)
        kafka = place.stack.kafka.access
        topics = [KURO_EVENTS, EVM_EVENTS, REQUESTS, LANES]
        async with LogTail(kafka, topics, list(WORK.values())) as tail:
            load = asyncio.create_task(_load(place))
            try:
                for role, kind in WORK.items():
                    samples = []
                    for _ in range(1 if run.quick else 2):
                        await _settled(tail, kind)
                        samples.append(await _killed(place, tail, role, kind))
                        run.say(f"{role} back at work after {samples[-1]:.1f} s")
                    name = f"back at work after kill -9 of {role}"
                    figure = Figure("i", name, "s", tuple(samples), at_most=15, less_is_better=True)
                    findings.figures.append(figure)
            finally:
                load.cancel()
                await asyncio.gather(load, return_exceptions=True)
    return findings


async def _load(place: World) -> None:
    while True:
        await place.stack.kuro.mint_many(1, chainId=CHAIN, amount="1")
        await asyncio.sleep(0.25)


async def _settled(tail: LogTail, kind: str) -> None:
    """The role works before it is killed."""
    before = len(tail.of(kind))
    await tail.until(lambda: len(tail.of(kind)) > before + 2, f"{kind} before the kill")


async def _killed(place: World, tail: LogTail, role: str, kind: str) -> float:
    await place.services[role].kill()
    killed = time.time()
    started = time.monotonic()
    await place.services[role].start()

    def works() -> bool:
        return any(seen.at_seconds > killed + 0.5 for seen in tail.of(kind)[-50:])

    await tail.until(works, f"{kind} after the kill", 120)
    return time.monotonic() - started
