"""How deliveries stand, for `GET /webhooks`, metrics and the command line. Never a secret, and of a
URL nothing behind the `?`."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prometheus_client.core import Metric

from orchestrator.metrics import gauge_family
from projections.feed.cursor import Cursor, Seat
from projections.queries import InvalidQuery
from projections.rows import rfc3339
from projections.store import Row, Store
from projections.text import from_column

UNATTENDED_SECONDS = 30.0
"""Without a sign of life for so long, nobody delivers."""
LETTERS_SHOWN = 1000


async def read_endpoints(store: Store) -> list[Row]:
    return await store.rows(
        "SELECT name, shown_url, cursor, holder, delivered, delivered_at, turn_place, "
        "turn_fact_id, turn_since, turn_attempts, next_attempt_at, problem, "
        "extract(epoch FROM now() - beat_at)::float8 AS beat_age_seconds, "
        "extract(epoch FROM now() - turn_since)::float8 AS failing_seconds, "
        "(SELECT count(*) FROM webhooks.dead_letters AS letter WHERE letter.endpoint = name "
        "AND redelivered_at IS NULL) AS dead_letters FROM webhooks.endpoints ORDER BY name"
    )


async def read_letters(store: Store, endpoint: str) -> list[Row]:
    """The newest open dead letters, oldest first."""
    rows = await store.rows(
        'SELECT number, topic, partition, "offset", webhook_id, kind, fact_id, reason, attempts, '
        "at, ordered_at, ordered_by FROM webhooks.dead_letters WHERE endpoint = %s "
        "AND redelivered_at IS NULL ORDER BY number DESC LIMIT %s",
        [endpoint, LETTERS_SHOWN],
    )
    return rows[::-1]


def lag_of(row: Row, ends: Mapping[Seat, int]) -> int | None:
    """Records of the whole log that the cursor has not passed."""
    try:
        cursor = Cursor.decode(row["cursor"])
        return sum(max(0, end - cursor[seat]) for seat, end in ends.items())
    except (InvalidQuery, KeyError, IndexError):
        return None


def state_of(row: Row) -> str:
    """`unattended`: no process serves it. `failing`: an event is being tried again. `waiting`:
    something else holds it up. `delivering`: all is well."""
    if row["beat_age_seconds"] is None or row["beat_age_seconds"] > _patience(row):
        return "unattended"
    if row["turn_place"] is not None:
        return "failing"
    return "waiting" if row["problem"] else "delivering"


def _patience(row: Row) -> float:
    """A long wait for the next attempt gives no sign of life meanwhile."""
    if row["next_attempt_at"] is None:
        return UNATTENDED_SECONDS
    return UNATTENDED_SECONDS + 3600


def endpoint_object(row: Row, ends: Mapping[Seat, int]) -> dict[str, Any]:
    def time(name: str) -> str | None:
        return None if row[name] is None else rfc3339(row[name])

    turn = None
    if row["turn_place"] is not None:
        topic, partition, offset = row["turn_place"].rsplit("/", 2)
        turn = {
            "topic": topic,
            "partition": int(partition),
            "offset": int(offset),
            "factId": None if row["turn_fact_id"] is None else from_column(row["turn_fact_id"]),
            "since": time("turn_since"),
            "attempts": row["turn_attempts"],
            "nextAttemptAt": time("next_attempt_at"),
        }
    return {
        "name": row["name"],
        "url": row["shown_url"],
        "state": state_of(row),
        "problem": row["problem"],
        "delivered": row["delivered"],
        "deliveredAt": time("delivered_at"),
        "lagRecords": lag_of(row, ends) if ends else None,
        "deadLetters": row["dead_letters"],
        "inTurn": turn,
        "servedBy": row["holder"],
    }


def letter_object(row: Row) -> dict[str, Any]:
    return {
        "number": row["number"],
        "webhookId": row["webhook_id"],
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["offset"],
        "kind": row["kind"],
        "factId": None if row["fact_id"] is None else from_column(row["fact_id"]),
        "reason": row["reason"],
        "attempts": row["attempts"],
        "at": rfc3339(row["at"]),
        "orderedAt": None if row["ordered_at"] is None else rfc3339(row["ordered_at"]),
        "orderedBy": row["ordered_by"],
    }


async def webhook_families(store: Store, ends: Mapping[Seat, int]) -> list[Metric]:
    letters, failing = gauge_family("webhook_dead_letters"), gauge_family("webhook_failing_seconds")
    lag = gauge_family("webhook_lag_records")
    for row in await read_endpoints(store):
        letters.add_metric([row["name"]], row["dead_letters"])
        failing.add_metric([row["name"]], max(0.0, row["failing_seconds"] or 0.0))
        behind = lag_of(row, ends) if ends else None
        if behind is not None:
            lag.add_metric([row["name"]], behind)
    return [letters, failing, lag]
