"""What operators order about deliveries. Written here, carried out by whoever serves the endpoint.

An order to skip names the event that was failing when it was given: it can never hit another one.
"""

from __future__ import annotations

from collections.abc import Sequence

from projections.database import connect


async def order_redelivery(
    database_url: str, endpoint: str, numbers: Sequence[int] | None, who: str
) -> int:
    """How many open dead letters were ordered again; None for `numbers` takes all."""
    link = await connect(database_url)
    try:
        done = await link.execute(
            "UPDATE webhooks.dead_letters SET ordered_at = now(), ordered_by = %s "
            "WHERE endpoint = %s AND redelivered_at IS NULL "
            "AND (%s::bigint[] IS NULL OR number = ANY(%s))",
            [who, endpoint, numbers, numbers],
        )
        return done.rowcount
    finally:
        await link.close()


async def order_skip(database_url: str, endpoint: str, who: str, why: str) -> str | None:
    """The place of the event that is given up; None when nothing is failing."""
    link = await connect(database_url)
    try:
        done = await link.execute(
            "INSERT INTO webhooks.skips (endpoint, place, who, why) "
            "SELECT name, turn_place, %s, %s FROM webhooks.endpoints "
            "WHERE name = %s AND turn_place IS NOT NULL RETURNING place",
            [who, why, endpoint],
        )
        row = await done.fetchone()
        return None if row is None else str(row[0])
    finally:
        await link.close()
