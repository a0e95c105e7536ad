"""The command line of the benchmark: `python -m orchestrator.dev.bench --help`."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from orchestrator.dev.bench import history, report
from orchestrator.dev.bench.figures import Findings
from orchestrator.dev.bench.latency import latency
from orchestrator.dev.bench.machine import describe, load_average
from orchestrator.dev.bench.profiling import profile
from orchestrator.dev.bench.rates import rates, restart
from orchestrator.dev.bench.recovery import recovery
from orchestrator.dev.bench.throughput import pipeline, relaying
from orchestrator.dev.bench.world import Run

Part = Callable[[Run], Awaitable[Findings]]

PARTS: dict[str, tuple[str, Part, int]] = {
    "ac": ("the ceiling, and relaying alone", relaying, 900),
    "b": ("the whole pipeline", pipeline, 900),
    "d": ("from Kuro's message to broadcast", latency, 600),
    "e": ("fold, replay and rebuild", rates, 400),
    "i": ("back at work after a kill of each role", recovery, 600),
    "ir": ("a full restart with a past, and memory", restart, 600),
    "p": ("where the processes' time goes", profile, 300),
}
"""By letters: what it is, what measures it, and the seconds it may take."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.dev.bench",
        description="Measure the service against the ceiling of the chain, on this machine. "
        "Ratios of one run are what counts: other load slows both sides.",
        epilog="parts: " + "; ".join(f"{key} {what}" for key, (what, _, _) in PARTS.items()),
    )
    parser.add_argument("--only", default="", help="letters of parts, comma-separated")
    parser.add_argument("--quick", action="store_true", help="small sizes, fewer variants")
    parser.add_argument("--rounds", type=int, default=0, help="default: 3, quick: 2")
    parser.add_argument("--out", type=Path, default=Path("docs/benchmarks"))
    parser.add_argument("--compare", action="store_true", help="only compare the last two runs")
    return parser


def _chosen(only: str) -> list[str]:
    letters = {letter.strip() for letter in only.split(",") if letter.strip()}
    unknown = letters - {letter for key in PARTS for letter in (*key, key)}
    if unknown:
        raise SystemExit(f"no such parts: {', '.join(sorted(unknown))}; there are {list(PARTS)}")
    return [key for key in PARTS if not letters or letters & {*key, key}]


async def _measure(options: argparse.Namespace) -> dict[str, Findings]:
    started = time.monotonic()

    def say(text: str) -> None:
        now = time.monotonic() - started
        print(f"[{now:6.1f} s, load {load_average():4.1f}] {text}", flush=True)

    run = Run(options.quick, options.rounds or (2 if options.quick else 3), say)
    found: dict[str, Findings] = {}
    for key in _chosen(options.only):
        what, part, seconds = PARTS[key]
        say(f"part {key}: {what}")
        try:
            async with asyncio.timeout(seconds):
                found[key] = await part(run)
        except (TimeoutError, RuntimeError) as error:
            reason = str(error) or f"not done within {seconds} s"
            say(f"part {key} gave no figures: {reason}")
            found[key] = Findings(remarks=[f"Part {key} gave no figures: {reason}"])
    return found


def main() -> int:
    """0 when every part gave figures; whether they are good is for the reader to say."""
    options = _parser().parse_args()
    if options.compare:
        print(history.comparison(options.out / "history.jsonl"))
        return 0
    machine = describe()
    found = asyncio.run(_measure(options))
    machine["load_at_end"] = round(load_average(), 2)
    report.write(options.out, machine, found, {key: PARTS[key][0] for key in found})
    history.record(options.out / "history.jsonl", machine, found, quick=options.quick)
    print(report.table(found))
    print(history.comparison(options.out / "history.jsonl"))
    return 0 if all(findings.figures for findings in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
