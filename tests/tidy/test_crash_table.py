"""`docs/crash-table.md` and the code agree: every arrow has its row and its kill, and no row names
what is gone.

A new arrow needs: its row there; for `requests`, what provokes it in `tests/simulation/telling.py`;
for another topic, its target in `tests/simulation/provoking.py`.
"""

from __future__ import annotations

import ast
import re
from functools import cache

import pytest

from orchestrator.core.lifecycle import TABLE, Stage
from schemas.topics import EVM_EVENTS, KURO_EVENTS, LANES, REQUESTS
from tests.simulation.provoking import EFFECTS, FACTS
from tests.simulation.telling import CAUSES, PRELUDES, WAYS
from tests.tidy.project import ROOT

PAGE = (ROOT / "docs" / "crash-table.md").read_text(encoding="utf-8")
ELSEWHERE = (
    "the projection's commit",
    "tables are rebuilt",
    "a webhook's place moves on",
    "a day is sealed",
    "the gate pauses a chain",
    "states are put away",
)
"""Effects that real parts are killed at, not the simulation."""
DECIDED = {"RequestRejected", "ApprovalDrafted", "ApprovalSigned"}
"""What comes by itself when the play releases the decider or KMS."""


def rows(section: str) -> list[list[str]]:
    begin, end = f"<!-- {section}:begin -->", f"<!-- {section}:end -->"
    assert PAGE.count(begin) == PAGE.count(end) == 1, section
    lines = PAGE[PAGE.index(begin) : PAGE.index(end)].splitlines()
    found = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if "|" in line]
    header, _, *body = found
    assert all(len(row) == len(header) and all(row) for row in body), f"{section}: a cell is empty"
    return body


SECTIONS = ("requests", "lanes", "ingestion", "effects")


def arrows_of(fact: str, told: str) -> set[tuple[str, str, str]]:
    """(start, fact, goal) of a cell like `A, B → C; D stays`."""
    found = set()
    for part in told.split(";"):
        starts, goal = (
            part.split("→") if "→" in part else (part.strip().removesuffix("stays"), "stays")
        )
        assert "→" in part or part.strip().endswith("stays"), f"{fact}: {part}"
        for start in starts.split(","):
            arrow = (start.strip(), fact, goal.strip())
            assert arrow not in found, f"{arrow} stands twice"
            found.add(arrow)
    return found


def test_every_arrow_of_a_request_has_its_row():
    told: set[tuple[str, str, str]] = set()
    for name, arrows, *_ in rows("requests"):
        told |= arrows_of(name.strip("`"), arrows)
    real = {
        (start or "nothing", fact.__name__, goal or "stays")
        for start, row in TABLE.items()
        for fact, goal in row.items()
    }
    assert real - told == set(), "these have no row"
    assert told - real == set(), "these are gone from the table"


@pytest.mark.parametrize(
    ("section", "topics"),
    [
        ("requests", (REQUESTS,)),
        ("lanes", (LANES,)),
        ("ingestion", (KURO_EVENTS, EVM_EVENTS)),
    ],
)
def test_every_kind_has_its_row_once(section, topics):
    names = [row[0].strip("`") for row in rows(section)]
    assert sorted(names) == sorted(kind for topic in topics for kind in topic.kinds)


def test_every_effect_has_its_row_once():
    assert sorted(row[0] for row in rows("effects")) == sorted([*EFFECTS, *ELSEWHERE])


def test_every_arrow_can_be_provoked():
    """Else the kills of the simulation would not meet it."""
    assert set(WAYS) == set(Stage), "tests/simulation/telling.py leads to each stage"
    assert set(REQUESTS.kinds) == DECIDED | CAUSES.keys() | PRELUDES.keys()
    kinds = {kind for topic in (LANES, KURO_EVENTS, EVM_EVENTS) for kind in topic.kinds}
    assert set(FACTS) == kinds, "tests/simulation/provoking.py provokes each kind"


@cache
def functions_of(path: str) -> frozenset[str]:
    tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(node.name for node in ast.walk(tree) if isinstance(node, kinds))


def test_every_named_test_is_there():
    named = re.findall(r"(tests/[\w/]+\.py)::(\w+)", PAGE)
    assert named
    missing = [f"{path}::{name}" for path, name in named if name not in functions_of(path)]
    assert missing == []
    for section in SECTIONS:
        for row in rows(section):
            assert re.fullmatch(r"`tests/[\w/]+\.py::test_\w+`", row[-1]), row
