"""docker-compose.yml and its development overlay as one, and its containers' commands as processes
of this machine: what can be tried of it without an engine."""

from __future__ import annotations

import copy
import re
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from orchestrator.dev.processes import Part, Supervisor
from tests.deploy.shape import COMPOSE, OVERLAY, compose, filled
from tests.e2e.harness import free_port
from tests.tidy.project import ROOT

SETTINGS = ROOT / "deploy" / "dev" / "compose.env"
REPLACED = {"command", "entrypoint"}
"""Compose replaces these sequences; all others it appends to."""


def settings() -> dict[str, str]:
    lines = SETTINGS.read_text(encoding="utf-8").splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@cache
def both() -> dict[str, Any]:
    return _merged(compose(COMPOSE), compose(OVERLAY))


def _merged(base: Any, over: Any, name: str = "") -> Any:
    """As Compose merges two files: mappings by key, sequences one after the other."""
    if isinstance(base, Mapping) and isinstance(over, Mapping):
        result = dict(copy.deepcopy(base))
        for key, value in over.items():
            result[key] = _merged(base[key], value, key) if key in base else value
        return result
    if isinstance(base, list) and isinstance(over, list) and name not in REPLACED:
        return base + [item for item in over if item not in base]
    return over


@dataclass
class ByHand:
    """Containers as processes: names of containers become addresses of this machine, their
    folders become folders of `folder`, and nothing of this process's environment is given."""

    supervisor: Supervisor
    folder: Path
    replaced: Mapping[str, str]
    """Settings and secrets (by name) that are other than in the composed service."""
    ports: dict[tuple[str, str], int] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._keys = self.folder / "secrets"
        self._keys.mkdir(parents=True)
        for secret in both()["secrets"]:
            text = (ROOT / settings()["SECRETS_DIR"] / secret).read_text(encoding="utf-8")
            (self._keys / secret).write_text(self.replaced.get(secret, text))

    def port(self, service: str, port: str) -> int:
        return self.ports.setdefault((service, port), free_port())

    def _here(self, service: str, text: str) -> str:
        text = filled(text, settings() | dict(self.replaced))
        text = re.sub(r"^/(data|tmp)\b", str(self.folder / service / r"\1"), text)
        text = text.replace("/run/secrets", str(self._keys)).replace("0.0.0.0", "127.0.0.1")
        names = "|".join(map(re.escape, both()["services"]))
        return re.sub(
            rf"\b({names}):(\d+)\b",
            lambda match: f"127.0.0.1:{self.port(match[1], match[2])}",
            text,
        )

    def arguments(self, service: str) -> list[str]:
        """Its entrypoint and command; the port that it listens on is that which others ask."""
        found = both()["services"][service]
        words = found.get("entrypoint", ["orchestrator"]) + found["command"]
        words = [self._here(service, str(word)) for word in words]
        start = {"orchestrator": [sys.executable, "-m", "orchestrator"], "python": [sys.executable]}
        words = start[words[0]] + words[1:]
        if "--port" in words:
            at = words.index("--port") + 1
            words[at] = str(self.port(service, words[at]))
        if "orchestrator.dev.containers.chain" in words:
            words += ["--data", str(self.folder / service / "data")]
            words += ["--ready", str(self.folder / service / "tmp" / "ready")]
        return words

    def environment(self, service: str, **more: str) -> dict[str, str]:
        given = both()["services"][service].get("environment", {})
        values = {name: self._here(service, value) for name, value in given.items()}
        return {**values, "METRICS_PORT": "", "PYTHONPATH": str(ROOT), "PATH": "", **more}

    def _unnamed(self, service: str, environment: dict[str, str]) -> None:
        """An unnamed volume is one container's own, also where a service has several."""
        for place in unnamed(both()["services"][service]):
            folder = tempfile.mkdtemp(prefix="volume-", dir=self.folder / service)
            for name, value in environment.items():
                if value == place:
                    environment[name] = folder

    def start(self, service: str, **more: str) -> Container:
        for name in ("data", "tmp"):
            (self.folder / service / name).mkdir(parents=True, exist_ok=True)
        container = Container(service, self.supervisor, self.folder / service)
        container.arguments = self.arguments(service)
        container.environment = self.environment(service, **more)
        self._unnamed(service, container.environment)
        container.start_blocking()
        return container


def unnamed(service: Mapping[str, Any]) -> list[str]:
    """Folders with an unnamed volume."""
    return [entry for entry in service.get("volumes", []) if ":" not in entry]


class Container(Part):
    arguments: list[str]
    environment: dict[str, str]

    def _start(self) -> None:
        self._child = self._supervisor.start(
            self.name, self.arguments, log=self.log, cwd=self.folder / "tmp", env=self.environment
        )

    def wait(self, seconds: float) -> int | None:
        """Its exit code; None while it runs."""
        assert self._child is not None
        self._child.exited.wait(seconds)
        return self._child.code
