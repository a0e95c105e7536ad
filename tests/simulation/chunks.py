"""What one of several processes does: some seeds, and what crosses back."""

from __future__ import annotations

from tests.simulation.report import Result
from tests.simulation.running import simulate


def run_chunk(seeds: range) -> list[Result]:
    results = []
    for seed in seeds:
        found = simulate(seed)
        results.append(
            Result(
                seed,
                tuple(found.violations),
                found.counts,
                found.seconds,
                found.steps,
                found.requests,
            )
        )
    return results
