"""What a run of many seeds found: told now and then, and kept in a file as it grows."""

from __future__ import annotations

import json
import subprocess
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.tidy.project import ROOT

TOLD_EVERY_SECONDS = 30.0


@dataclass(frozen=True)
class Result:
    """What crosses between processes."""

    seed: int
    violations: tuple[str, ...]
    counts: dict[str, int]
    seconds: float
    steps: int
    requests: int


def version() -> str:
    """The commit, and whether files differ from it: a seed replays exactly on the same code."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return told.stdout.strip()


@dataclass
class Report:
    """`done` seeds from `start` on, without a gap: a run that was interrupted resumes at `next`."""

    start: int
    wanted: int
    path: Path | None = None
    version: str = field(default_factory=version)
    done: int = 0
    figures: Counter[str] = field(default_factory=Counter)
    failing: dict[int, str] = field(default_factory=dict)
    begun: float = field(default_factory=time.monotonic)
    _simulated_seconds: float = 0.0
    _told_at: float = field(default_factory=time.monotonic)

    @property
    def next(self) -> int:
        return self.start + self.done

    @property
    def elapsed(self) -> float:
        return time.monotonic() - self.begun

    @property
    def rate(self) -> float:
        return self.done / max(self.elapsed, 1e-9)

    def add(self, results: list[Result]) -> None:
        for result in results:
            self.done += 1
            self.figures.update(result.counts)
            self.figures.update({"requests": result.requests, "steps": result.steps})
            self._simulated_seconds += result.seconds
            if result.violations:
                self.failing[result.seed] = result.violations[0]

    def line(self) -> str:
        left = (self.wanted - self.done) / max(self.rate, 1e-9)
        return (
            f"{self.done:,} of {self.wanted:,} seeds (next {self.next}), "
            f"{len(self.failing)} failing, {self.rate:.1f}/s, about {left / 60:.0f} min left"
        )

    def due(self) -> bool:
        """True at most every half minute: time to tell and to keep."""
        now = time.monotonic()
        if now - self._told_at < TOLD_EVERY_SECONDS:
            return False
        self._told_at = now
        return True

    def content(self) -> dict[str, Any]:
        return {
            "version": self.version,
            "start": self.start,
            "next": self.next,
            "seeds": self.done,
            "seeds_wanted": self.wanted,
            "elapsed_seconds": round(self.elapsed, 1),
            "seeds_per_second": round(self.rate, 2),
            "simulated_hours": round(self._simulated_seconds / 3600, 1),
            "figures": dict(sorted(self.figures.items())),
            "failing": {str(seed): why[:500] for seed, why in sorted(self.failing.items())},
        }

    def keep(self) -> None:
        """Written beside and moved into place: a kill leaves the last whole one."""
        if self.path is None:
            return
        beside = self.path.with_name(self.path.name + ".new")
        beside.write_text(json.dumps(self.content(), indent=1) + "\n", encoding="utf-8")
        beside.replace(self.path)
