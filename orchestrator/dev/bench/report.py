"""The page of a run: machine, figures against targets, charts. Overwritten by the next run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from orchestrator.dev.bench.charts import svg
from orchestrator.dev.bench.figures import Figure, Findings, shown


def _verdict(figure: Figure) -> str:
    if figure.meets is None:
        return ""
    return "met" if figure.meets else "**not met**"


def table(found: Mapping[str, Findings]) -> str:
    """All figures as a Markdown table."""
    lines = [
        "| part | figure | median | unit | spread | target | |",
        "|---|---|---:|---|---|---|---|",
    ]
    for findings in found.values():
        for figure in findings.figures:
            note = f"{_verdict(figure)} {figure.note}".strip()
            cells = (figure.part, figure.name, shown(figure.value), figure.unit, figure.spread)
            lines.append(f"| {' | '.join((*cells, figure.target, note))} |")
    return "\n".join(lines)


def write(
    folder: Path,
    machine: Mapping[str, Any],
    found: Mapping[str, Findings],
    titles: Mapping[str, str],
) -> None:
    """Each part has a page of its own, so that a run of some parts keeps the others' pages; the
    machine and its load stand on each."""
    folder.mkdir(parents=True, exist_ok=True)
    for key, findings in found.items():
        lines = [f"# {key}: {titles[key]}", "", *_machine(machine), "", table({key: findings}), ""]
        lines += [f"{remark}\n" for remark in findings.remarks]
        for chart in findings.charts:
            name = f"{key}-{chart.name}.svg"
            (folder / name).write_text(svg(chart), encoding="utf-8")
            lines += [f"![{chart.title}]({name})", ""]
        (folder / f"{key}.md").write_text("\n".join(lines).rstrip() + "\n", encoding="utf-8")


def _machine(machine: Mapping[str, Any]) -> list[str]:
    packages = ", ".join(f"{name} {version}" for name, version in machine["packages"].items())
    return [
        f"{machine['at']}, commit {machine['commit']}; {machine['processor']}, "
        f"{machine['cores']} cores, {machine['memory_gib']} GiB, {machine['system']}; load "
        f"{machine['load_at_start']} at the start and {machine['load_at_end']} at the end.",
        f"Python {machine['python']}; {packages}.",
    ]
