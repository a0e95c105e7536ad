"""Migrations are one chain: two that were written side by side must not both follow a third."""

from __future__ import annotations

from alembic.config import Config
from alembic.script import ScriptDirectory

from tests.tidy.project import ROOT

FOLDER = ROOT / "projections" / "migrations"


def test_migrations_are_one_chain_in_the_order_of_their_names():
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.set_main_option("path_separator", "os")
    scripts = ScriptDirectory.from_config(config)
    assert len(scripts.get_heads()) == 1
    chain = [script.revision for script in scripts.walk_revisions()][::-1]
    names = sorted(path.stem for path in (FOLDER / "versions").glob("[0-9]*.py"))
    assert [name.partition("_")[0] for name in names] == chain
