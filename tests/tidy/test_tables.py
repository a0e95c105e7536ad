"""Every table of the migrations is rebuilt from the log, or said to be none of its."""

from __future__ import annotations

import importlib
from pathlib import Path

import projections.migrations
from projections.rebuilding.tables import KEPT, REBUILT


def test_every_table_is_of_the_log_or_is_kept() -> None:
    """A new table: `projections.rebuilding` must load it by its fast path as well, unless triggers
    fill it; `tests/projections/test_rebuild.py` compares."""
    folder = Path(next(iter(projections.migrations.__path__))) / "versions"
    names = [path.stem for path in folder.glob("[0-9]*.py")]
    modules = [importlib.import_module(f"projections.migrations.versions.{n}") for n in names]
    created = {table for module in modules for table in getattr(module, "TABLES", ())}
    of_the_log = {table.name for table in REBUILT}
    assert not of_the_log & KEPT
    assert of_the_log | KEPT == created | {"alembic_version"}
