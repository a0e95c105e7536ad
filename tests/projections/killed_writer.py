"""`python -m tests.projections.killed_writer MOMENT`: a projection's writer that kills itself
(SIGKILL) before, at or after the commit of one batch. Standard input gives the database's URL."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from projections import writer as writer_module
from projections.database import connect
from projections.writer import Writer, load_offsets
from tests.projections.conftest import ALL_PARTITIONS
from tests.projections.facts import MemoryLog
from tests.projections.test_writer import LIVES


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


async def write_and_die(url: str, moment: str) -> None:
    connection = await connect(url)
    log = MemoryLog()
    batch = log.append(LIVES)
    start = await load_offsets(connection, ALL_PARTITIONS)
    last_step = writer_module._write_dead_letters

    async def and_die(*arguments: Any) -> None:
        await last_step(*arguments)
        if moment == "at":  # the commit leaves, its answer is never read
            connection.pgconn.send_query(b"COMMIT")
            connection.pgconn.flush()
        if moment in ("before", "at"):
            die()

    writer_module._write_dead_letters = and_die
    await Writer(connection).write(batch, start, {**start, **log.ends})
    die()


if __name__ == "__main__":
    asyncio.run(write_and_die(sys.stdin.read().strip(), sys.argv[1]))
