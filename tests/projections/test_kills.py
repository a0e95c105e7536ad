"""A real SIGKILL before, at and after the projection's commit; the next owner goes on from what the
tables say, and they come out as without a kill."""

from __future__ import annotations

import asyncio
import signal
import sys

import pytest

from orchestrator.dev.stack import EmbeddedStack
from projections.database import connect
from projections.writer import Writer, load_offsets
from tests.projections.conftest import ALL_PARTITIONS, Tables, new_database
from tests.projections.facts import MemoryLog
from tests.projections.test_writer import EVERYTHING, LIVES
from tests.tidy.project import ROOT


@pytest.mark.parametrize("moment", ["before", "at", "after"])
async def test_a_kill_at_the_projections_commit(
    stack: EmbeddedStack, template: str, database: str, tables: Tables, moment: str
) -> None:
    await killed(database, moment)
    await no_other_session(tables)
    offsets = await load_offsets(tables.connection, ALL_PARTITIONS)
    [(requests,)] = await tables.rows("SELECT count(*) FROM requests")
    committed = any(offsets.values())
    assert (requests > 0) is committed, "rows and offsets came apart"
    assert committed is (moment == "after") or moment == "at"
    await go_on(tables)
    other = await connect(new_database(stack, template))
    try:
        calm = Tables(other)
        await go_on(calm)
        assert await tables.rows(EVERYTHING) == await calm.rows(EVERYTHING)
    finally:
        await other.close()


async def killed(url: str, moment: str) -> None:
    child = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "tests.projections.killed_writer", moment),
        cwd=ROOT,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    _, errors = await child.communicate(url.encode())
    assert child.returncode == -signal.SIGKILL, errors.decode()


async def no_other_session(tables: Tables) -> None:
    """PostgreSQL has noticed that the killed one is gone, and ended what it had open."""
    statement = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid() AND backend_type = 'client backend'"
    )
    for _ in range(600):
        if await tables.rows(statement) == [(0,)]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the session of the killed writer lives on")


async def go_on(tables: Tables) -> None:
    """As the projector does: read the offsets, and write what stands after them on the log."""
    log = MemoryLog()
    start = await load_offsets(tables.connection, ALL_PARTITIONS)
    rest = [raw for raw in log.append(LIVES) if raw.offset >= start[raw.topic, raw.partition]]
    await Writer(tables.connection).write(rest, start, {**start, **log.ends})
