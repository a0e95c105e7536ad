"""`deploy/security/postgres-roles.sql` on a real database: who may read, who may write."""

from __future__ import annotations

import psycopg
import pytest

from tests.tidy.project import ROOT

SCRIPT = (ROOT / "deploy" / "security" / "postgres-roles.sql").read_text(encoding="utf-8")
INSERT = "INSERT INTO projection_offsets VALUES ('requests', 0, 1)"


@pytest.fixture
def granted(database):
    """Run twice: repeating it must change nothing."""
    with psycopg.connect(database, autocommit=True) as link:
        for _ in range(2):
            link.execute(SCRIPT)
        yield link


@pytest.mark.parametrize("role", ["orchestrator_api", "orchestrator_auditor"])
def test_readers_read_and_do_not_write(granted, role):
    granted.execute(f"SET ROLE {role}")
    assert granted.execute("SELECT count(*) FROM requests").fetchone() == (0,)
    for statement in (INSERT, "DELETE FROM requests", "CREATE TABLE mine (x int)"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            granted.execute(statement)


def test_the_owner_writes_and_makes_tables(granted):
    granted.execute("SET ROLE orchestrator_owner")
    granted.execute(INSERT)
    granted.execute("CREATE TABLE mine (x int)")


def test_the_webhooks_role_keeps_its_own_books_and_nothing_else(granted):
    granted.execute("SET ROLE orchestrator_webhooks")
    granted.execute("INSERT INTO webhooks.endpoints (name, shown_url, cursor) VALUES ('a', '', '')")
    granted.execute(
        "INSERT INTO webhooks.skips (endpoint, place, who, why) VALUES ('a', 'b', 'c', 'd')"
    )
    for statement in (INSERT, "DELETE FROM webhooks.endpoints", "DELETE FROM requests"):
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            granted.execute(statement)
    granted.execute("SET ROLE orchestrator_api")
    assert granted.execute("SELECT name FROM webhooks.endpoints").fetchall() == [("a",)]
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        granted.execute("UPDATE webhooks.endpoints SET cursor = 'x'")
