"""`python -m tests.simulation --seeds 1000 [--start N] [--jobs 2] [--report F] [--story SEED]`"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from tests.simulation.chunks import run_chunk
from tests.simulation.report import Report, Result
from tests.simulation.running import simulate

console = Console()
CHUNK = 10
CHUNKS_A_PROCESS = 30
"""Processes that have done so many each make room for fresh ones: what is remembered adds up. All
of them at once: an executor that renews its processes one by one (`max_tasks_per_child`) can
stand still for ever (CPython issue 115634)."""
STORY_LINES = 80


def results_of(seeds: range, jobs: int) -> Iterator[list[Result]]:
    chunks = [seeds[at : at + CHUNK] for at in range(0, len(seeds), CHUNK)]
    if jobs == 1:
        yield from map(run_chunk, chunks)
        return
    share = jobs * CHUNKS_A_PROCESS
    for at in range(0, len(chunks), share):
        with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
            yield from pool.map(run_chunk, chunks[at : at + share])


@contextmanager
def progress_of(total: int) -> Iterator[Progress]:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield progress


def tell_story(seed: int, most: int | None = None) -> bool:
    """Print what happened; True when nothing was violated."""
    outcome = simulate(seed)
    lines = list(outcome.story.lines)
    for line in lines if most is None else lines[-most:]:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
    for violation in outcome.violations:
        told = f"seed {seed}: {violation}"
        console.print(told, markup=False, style="bold red", soft_wrap=True)
    console.print(f"seed {seed}: story {outcome.digest}", markup=False, soft_wrap=True)
    return not outcome.violations


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.simulation")
    parser.add_argument("--seeds", type=int, default=1000, help="how many")
    parser.add_argument("--start", type=int, default=0, help="the first one")
    parser.add_argument("--jobs", type=int, default=2, help="processes")
    parser.add_argument("--story", type=int, metavar="SEED", help="tell one seed's whole story")
    parser.add_argument("--report", type=Path, help="keep figures and failing seeds in this file")
    parser.add_argument("--keep-going", action="store_true", help="count failing seeds, tell none")
    chosen = parser.parse_args(arguments)
    if chosen.story is not None:
        return 0 if tell_story(chosen.story) else 1
    seeds = range(chosen.start, chosen.start + chosen.seeds)
    report = Report(chosen.start, chosen.seeds, chosen.report)
    try:
        _simulate(seeds, chosen.jobs, report)
    except KeyboardInterrupt:
        console.print(f"interrupted; go on with --start {report.next}")
    report.keep()
    _summary(report)
    if report.failing and not chosen.keep_going:
        tell_story(min(report.failing), STORY_LINES)
    return 1 if report.failing or report.done < report.wanted else 0


def _simulate(seeds: range, jobs: int, report: Report) -> None:
    """A bar on a terminal; elsewhere a line now and then."""
    with progress_of(len(seeds)) as progress:
        task = progress.add_task("simulating", total=len(seeds))
        for results in results_of(seeds, jobs):
            report.add(results)
            progress.advance(task, len(results))
            if report.due():
                report.keep()
                if not console.is_terminal:
                    print(report.line(), flush=True)


def _summary(report: Report) -> None:
    table = Table("what", "count")
    for name, count in report.figures.most_common():
        table.add_row(name, f"{count:,}")
    table.add_row("simulated hours", f"{report.content()['simulated_hours']:,}")
    table.add_row("seeds", f"{report.done:,}, from {report.start}")
    table.add_row("seeds a second", f"{report.rate:.1f}")
    table.add_row("failing seeds", f"{len(report.failing):,}")
    table.add_row("version", report.version)
    console.print(table)
    for seed, why in sorted(report.failing.items())[:20]:
        told = f"seed {seed}: {why[:300]}"
        console.print(told, markup=False, highlight=False, soft_wrap=True)


if __name__ == "__main__":
    sys.exit(main())
