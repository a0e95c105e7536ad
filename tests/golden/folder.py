"""A golden log as files: the archive, the settings it was decided under, the states it folds to."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from orchestrator.adapters.kafka_archive import read_archive
from orchestrator.config import Need, load
from orchestrator.core.folding import Folding, lanes_object, requests_object
from orchestrator.core.terms import Terms
from schemas.base import Position

HERE = Path(__file__).parent
ARCHIVE, SETTINGS, STATES = "log.gz", "settings.json", "states.json"


@dataclass(frozen=True)
class Golden:
    folder: Path

    def records(self) -> list[tuple[Position, bytes | None]]:
        """In order within each partition; the digest of the whole is checked on the way."""
        found = []
        lines = read_archive(self.folder / ARCHIVE)
        next(lines)
        for body, _ in lines:
            place = Position(body["topic"], body["partition"], body["offset"])
            value = body["value"]
            found.append((place, None if value is None else value.encode()))
        return found

    def terms(self) -> Terms:
        settings = json.loads((self.folder / SETTINGS).read_text(encoding="utf-8"))
        return load([Need.CONTRACTS, Need.WALLETS], settings).terms

    def states(self) -> Any:
        return json.loads((self.folder / STATES).read_text(encoding="utf-8"))


def states_of(records: Iterable[tuple[Position, bytes | None]]) -> Any:
    """As they stand in the file. Raises AssertionError where a record cannot be read."""
    folding = Folding()
    for place, value in records:
        assert folding.read(place, value) is not None, f"{place} cannot be read any more"
    return {
        "facts": folding.facts,
        "refused": folding.refused,
        "requests": requests_object(folding),
        "lanes": lanes_object(folding),
    }


def all_golden() -> list[Golden]:
    return [Golden(path.parent) for path in sorted(HERE.glob(f"*/{ARCHIVE}"))]
