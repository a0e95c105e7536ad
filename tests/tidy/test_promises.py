"""What is promised in text is compared with the code: env.example and the README's diagram."""

from __future__ import annotations

import re
import string
from collections.abc import Iterator

import pytest

from orchestrator.config import CHAIN_SETTINGS, COMMAND_SETTINGS, FILE_SETTINGS, Settings
from orchestrator.core import diagram
from orchestrator.core.lifecycle import TABLE, Stage
from tests.tidy.project import ROOT

AWS_CREDENTIALS = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"}
NUMBERED = ("_seconds", "_wei", "confirmations", "_limit", "_concurrency", "_factor")
UNITS = ("second", "wei", "block", "number", "URL", "comma-separated", "id", "secret", "path")


def entries() -> Iterator[tuple[str, str, str]]:
    """Name, value and comment of each setting in env.example."""
    comment: list[str] = []
    for line in (ROOT / "env.example").read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            comment.append(line.removeprefix("#").strip())
        elif "=" in line:
            name, _, value = line.partition("=")
            yield name, value, " ".join(comment)
            comment = []
        else:
            comment = []


ENTRIES = list(entries())
NAMES = {name for name, _, _ in ENTRIES}


def written(value: object) -> str:
    """A default as one writes it into the environment."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    return str(value)


def test_every_setting_is_listed_once_and_nothing_else():
    expected = (
        {name.upper() for name in Settings.model_fields} | AWS_CREDENTIALS | set(COMMAND_SETTINGS)
    )
    expected |= {name.replace("<id>", "5920") for name in (*CHAIN_SETTINGS, *FILE_SETTINGS)}
    assert expected == NAMES
    assert len(ENTRIES) == len(NAMES)


@pytest.mark.parametrize(("name", "value", "comment"), ENTRIES)
def test_each_setting_says_what_it_means_and_its_default(name, value, comment):
    assert comment[:1] in string.ascii_uppercase or comment.startswith(
        ("host", "postgresql", "---")
    )
    assert re.search(r"[Dd]efault", comment), f"{name} names no default"
    field = Settings.model_fields.get(name.lower())
    default = written(field.default) if field else ""
    assert value == default, f"{name} stands at {value!r}, the class at {default!r}"
    if default:
        assert f"Default: {default}" in comment, f"{name}'s comment does not say {default}"
    if name.lower().endswith(NUMBERED) or "CONFIRMATIONS" in name:
        assert any(unit in comment for unit in UNITS), f"{name} names no unit"


def test_secrets_are_empty_and_called_secret():
    for name, value, comment in ENTRIES:
        if re.search(r"DATABASE_URL$|PRIVATE_KEY_5920$|AWS_(ACCESS|SECRET|SESSION)", name):
            assert value == ""
            assert "secret" in comment


def test_the_readme_shows_the_diagram_of_the_table():
    path = ROOT / "README.md"
    assert path.exists(), "README.md is missing"
    text = path.read_text(encoding="utf-8")
    assert text.count(diagram.BEGIN) == 1, f"README.md needs {diagram.BEGIN} once"
    assert text.count(diagram.END) == 1, f"README.md needs {diagram.END} once"
    shown = text[text.index(diagram.BEGIN) : text.index(diagram.END) + len(diagram.END)]
    assert shown == diagram.section(), "put in what python -m orchestrator.core.diagram prints"


def test_the_diagram_shows_every_stage_and_every_move():
    drawn = diagram.diagram()
    assert drawn == diagram.diagram()
    arrows = set(re.findall(r"^ +(\S+) --> (\w+): (.*)$", drawn, re.MULTILINE))
    notes = set(re.findall(r"note right of (\w+): from every stage of \w+ by (\w+)", drawn))
    box = drawn[drawn.index("{") : drawn.index("}")]
    for stage in Stage:
        assert drawn.count(f"    {stage}: {stage} (") == 1
    for start, row in TABLE.items():
        for fact, goal in row.items():
            if goal is None:
                continue
            inside = start is not None and f"    {start}: " in box
            names = {start or "[*]", *(["AT_WORK"] if inside else [])}
            shown = any(
                (begin in names and end == goal and fact.__name__ in kinds.split(", "))
                for begin, end, kinds in arrows
            )
            assert shown or (inside and (goal, fact.__name__) in notes), (start, fact, goal)


def test_every_drawn_move_is_in_the_table():
    for begin, end, kinds in re.findall(r"^ +(\S+) --> (\w+): (.*)$", diagram.diagram(), re.M):
        starts = [None] if begin == "[*]" else [s for s in Stage if begin in (s, "AT_WORK")]
        for kind in kinds.split(", "):
            goals = [goal for s in starts for f, goal in TABLE[s].items() if f.__name__ == kind]
            assert Stage(end) in goals


def test_the_license_is_there():
    text = (ROOT / "LICENSE").read_text(encoding="utf-8")
    assert text.startswith("MIT License")
    assert "stablecoin-orchestrator contributors" in text
