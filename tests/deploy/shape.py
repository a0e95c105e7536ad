"""Reading the compose files and the Dockerfile as the tests need them, without an engine."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from tests.tidy.project import ROOT

COMPOSE = ROOT / "docker-compose.yml"
OVERLAY = ROOT / "docker-compose.dev.yml"
EXAMPLE = ROOT / "deploy" / "compose.env.example"
DOCKERFILE = ROOT / "deploy" / "Dockerfile"
OWN_IMAGE = "stablecoin-orchestrator"
CHAIN_IDS = (5920, 5921, 5922, 5923, 5924)

VARIABLE = re.compile(r"\$\{(?P<name>[A-Z0-9_]+):(?P<kind>[-?])(?P<rest>[^}]*)\}")
"""The two forms that are used: a default, or a refusal with words."""


@cache
def compose(path: Path = COMPOSE) -> dict[str, Any]:
    """A file with its anchors merged, its variables as they are written."""
    return yaml.safe_load(path.read_text(encoding="utf-8"))


def services(path: Path = COMPOSE) -> dict[str, dict[str, Any]]:
    return compose(path)["services"]


def own(path: Path = COMPOSE) -> dict[str, dict[str, Any]]:
    """The services that run this project's image."""
    base = services(COMPOSE)
    return {
        name: service
        for name, service in services(path).items()
        if name in base and base[name]["image"].startswith(OWN_IMAGE)
    }


def variables(path: Path) -> dict[str, set[str]]:
    """Names of the variables of a file, with the kinds (`-`, `?`) that they stand there as."""
    lines = path.read_text(encoding="utf-8").splitlines()
    text = "\n".join(line for line in lines if not line.lstrip().startswith("#"))
    found: dict[str, set[str]] = {}
    for match in VARIABLE.finditer(text):
        found.setdefault(match["name"], set()).add(match["kind"])
    assert "$" not in VARIABLE.sub("", text), f"{path.name}: a variable of another form"
    return found


def filled(text: str, environ: Mapping[str, str]) -> str:
    """Interpolation as Compose does it for the two forms. KeyError where a value is required."""

    def value(match: re.Match[str]) -> str:
        given = environ.get(match["name"], "")
        if not given and match["kind"] == "?":
            raise KeyError(match["name"])
        return given or match["rest"]

    return VARIABLE.sub(value, text)


def example_names(path: Path) -> list[str]:
    lines = path.read_text(encoding="utf-8").splitlines()
    return [line.partition("=")[0] for line in lines if re.match(r"[A-Z][A-Z0-9_]*=", line)]


@dataclass(frozen=True)
class Instruction:
    """One instruction of the Dockerfile; `stage` counts from 0, -1 stands before the first."""

    stage: int
    word: str
    text: str

    @property
    def arguments(self) -> list[str]:
        if self.text.startswith("["):
            return json.loads(self.text)
        return self.text.split()


@cache
def dockerfile() -> tuple[Instruction, ...]:
    text = DOCKERFILE.read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    found: list[Instruction] = []
    stage = -1
    for line in re.sub(r"\\\n\s*", " ", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, _, rest = line.strip().partition(" ")
        stage += word == "FROM"
        found.append(Instruction(stage, word, re.sub(r"\s+", " ", rest)))
    return tuple(found)
