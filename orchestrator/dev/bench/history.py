"""The guard against regressions: ratios of every run, one line each, and what got worse.

Only ratios and what is paid per mint are compared, and only runs of the same size; a difference
within `NOISE` says nothing. Nothing fails: a person reads it.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import orjson

from orchestrator.dev.bench.figures import Findings, shown

NOISE = 0.15


def record(
    path: Path, machine: Mapping[str, Any], found: Mapping[str, Findings], *, quick: bool
) -> None:
    """Append this run."""
    figures = {
        f"{figure.part}: {figure.name}": {
            "value": round(figure.value, 4),
            "samples": [round(sample, 4) for sample in figure.samples],
            "unit": figure.unit,
            "less_is_better": figure.less_is_better,
            "is_ratio": figure.is_ratio,
        }
        for findings in found.values()
        for figure in findings.figures
    }
    line = {"quick": quick, "machine": machine, "figures": figures}
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        file.write(orjson.dumps(line) + b"\n")


def comparison(path: Path) -> str:
    """Each figure of the newest run against the newest earlier one of the same size and kind of
    machine that has it."""
    lines = path.read_bytes().splitlines() if path.exists() else []
    runs = [orjson.loads(line) for line in lines if line.strip()]
    if not runs:
        return "no runs are recorded yet"
    newest, earlier = runs[-1], runs[:-1]
    worse, better = [], []
    for name, figure in newest["figures"].items():
        before = next((run for run in reversed(earlier) if _fits(run, newest, name)), None)
        if before is None or not before["figures"][name]["value"]:
            continue
        was = before["figures"][name]["value"]
        change = figure["value"] / was - 1
        if figure["less_is_better"]:
            change = -change
        text = f"  {name}: {shown(was)} -> {shown(figure['value'])} {figure['unit']}"
        text += f" ({change:+.0%}, commit {before['machine']['commit']})"
        if change < -NOISE:
            worse.append(text if figure["is_ratio"] else f"{text}, not a ratio: look at the load")
        elif change > NOISE:
            better.append(text)
    told = [f"WORSE than the run before, by more than {NOISE:.0%}:", *worse] if worse else []
    told += [f"better by more than {NOISE:.0%}:", *better] if better else []
    return "\n".join(told) if told else "nothing changed by more than the noise"


def _fits(run: dict[str, Any], newest: dict[str, Any], name: str) -> bool:
    same_machine = run["machine"]["processor"] == newest["machine"]["processor"]
    same_machine &= run["machine"]["cores"] == newest["machine"]["cores"]
    return name in run["figures"] and run["quick"] == newest["quick"] and same_machine
