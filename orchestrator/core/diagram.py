"""The state diagram of a request, drawn from `lifecycle.TABLE`: what is documented is what runs.

`README.md` holds it between the markers below, and a test compares. Print it with
`python -m orchestrator.core.diagram`.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

from orchestrator.core.lifecycle import STATUS_OF, TABLE, TERMINAL, Stage

BEGIN = "<!-- lifecycle:begin -->"
END = "<!-- lifecycle:end -->"
_ENTRY = "[*]"
_AT_WORK = "AT_WORK"

_Move = tuple[str, Stage]


def diagram() -> str:
    """Mermaid `stateDiagram-v2`, one arrow for each pair of stages, in the order of the table.

    Stages at work stand in a box: what leads out of every one of them is drawn once, from the box;
    what leads back into it from every one of them is a note, for Mermaid cannot draw a box's arrow
    into itself. Facts that are recorded without a move are left out.
    """
    working = [s for s in Stage if s not in TERMINAL and s is not Stage.UNBACKED]
    others = [s for s in Stage if s not in working]
    shared = [move for move in _moves(working[0]) if all(move in _moves(s) for s in working)]
    own = [(s, move) for s in working for move in _moves(s) if move not in shared]
    inside = [_title(s) for s in working] + _arrows([m for m in own if m[1][1] in working])
    lines = ["stateDiagram-v2", "    direction TB", f"    state {_AT_WORK} {{"]
    lines += ["    " + line for line in inside]
    lines += ["    }", *(_title(s) for s in others)]
    lines += _arrows([(_ENTRY, move) for move in _moves(None)])
    lines += _arrows([m for m in own if m[1][1] not in working])
    lines += _arrows([(_AT_WORK, move) for move in shared if move[1] not in working])
    lines += _arrows([(s, move) for s in others for move in _moves(s)])
    lines += [
        f"    note right of {goal}: from every stage of {_AT_WORK} by {kind}"
        for kind, goal in shared
        if goal in working
    ]
    return "\n".join(lines) + "\n"


def section() -> str:
    """What stands in the README, markers included."""
    return f"{BEGIN}\n```mermaid\n{diagram()}```\n{END}"


def _moves(stage: Stage | None) -> list[_Move]:
    """Which fact leads where, in the order of the table; recordings left out."""
    return [(fact.__name__, goal) for fact, goal in TABLE[stage].items() if goal is not None]


def _title(stage: Stage) -> str:
    return f"    {stage}: {stage} ({STATUS_OF[stage]})"


def _arrows(moves: Sequence[tuple[str, _Move]]) -> list[str]:
    kinds: dict[tuple[str, Stage], list[str]] = {}
    for start, (kind, goal) in moves:
        kinds.setdefault((start, goal), []).append(kind)
    return [f"    {start} --> {goal}: {', '.join(k)}" for (start, goal), k in kinds.items()]


if __name__ == "__main__":
    sys.stdout.write(diagram())
