"""`/status`: where each request is, and why; now, or as of a past moment (`at`)."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from aiohttp import web

from orchestrator.core.lifecycle import RequestState
from projections.answers import Problem, Refusal, answer
from projections.context import STORE
from projections.explaining import Circumstances, Explanation, explain
from projections.past import page_at, shown_row, states_at
from projections.queries import parse_list_query, parse_status_query
from projections.rows import decode_state, rfc3339, status_object, timeline_object
from projections.store import AMBIGUOUS_KEYS, Row, Store
from projections.surroundings import circumstances_of
from projections.text import from_jsonb
from projections.usual import Duration

EVIDENCE_SHOWN = 5


def routes() -> list[web.RouteDef]:
    return [
        web.get("/status", page),
        web.get("/status/{request_key:.+}/explain", why),
        web.get("/status/{request_key:.+}", one),
    ]


async def page(request: web.Request) -> web.Response:
    """The requests that fit all filters, newest first, a page at a time."""
    query, store = parse_list_query(request.query.items()), request.app[STORE]
    if query.at is None:
        rows, following = await store.page(query)
    else:
        rows, following = await page_at(store, query, query.at)
    return answer({"items": [status_object(row) for row in rows], "next": following})


async def one(request: web.Request) -> web.Response:
    """One request, by key or else by id, with its timeline."""
    store = request.app[STORE]
    row, at = await _wanted(request)
    if at is not None:
        row = shown_row(await _past_state(store, row, at))
    body = status_object(row)
    timeline = await store.timeline(row["request_key"], at)
    body["timeline"] = [timeline_object(fact) for fact in timeline]
    return answer(body)


async def why(request: web.Request) -> web.Response:
    """What it waits for, since when, whose turn it is, what is usual, what a person can do."""
    store = request.app[STORE]
    row, at = await _wanted(request)
    if at is not None:
        state = await _past_state(store, row, at)
    else:
        text = await store.state(row["request_key"])
        assert text is not None
        state = decode_state(from_jsonb(text))
    around = await circumstances_of(
        request.app, state, at or datetime.now(UTC), past=at is not None
    )
    timeline = await store.timeline(row["request_key"], at)
    return answer(_explained(state, around, explain(state, around), timeline))


def _explained(
    state: RequestState, around: Circumstances, found: Explanation, timeline: list[Row]
) -> dict[str, Any]:
    at = found.next_attempt_at
    drafted = state.drafted
    return {
        "requestKey": state.key,
        "status": state.status,
        "stage": state.stage,
        "code": found.code,
        "turn": found.turn,
        "summary": found.summary,
        "waitingFor": found.waiting_for,
        "since": found.since,
        "asOf": rfc3339(around.now),
        "nextAttemptAt": None if at is None else rfc3339(at),
        "approvalDeadline": None if drafted is None else _deadline(drafted.deadline),
        "usual": _usual(found.usual, state),
        "operatorCan": [
            {"action": can.action, "command": can.command, "text": can.text}
            for can in found.actions
        ],
        "evidence": [
            {name: fact[name] for name in ("topic", "partition", "offset", "kind")}
            for fact in timeline[-EVIDENCE_SHOWN:]
        ],
    }


def _deadline(seconds: int) -> str | None:
    try:
        return rfc3339(datetime.fromtimestamp(seconds, UTC))
    except (OverflowError, OSError, ValueError):  # no calendar holds it
        return None


def _usual(found: Duration | None, state: RequestState) -> dict[str, Any]:
    if found is None:
        text = "no completed request of this type and chain has gone through this step yet"
        return {"seconds": None, "p95Seconds": None, "count": 0, "text": text}
    text = (
        f"half of the last {found.count} completed ones left {state.stage} within "
        f"{found.median_seconds:g} s, 95 % within {found.p95_seconds:g} s"
    )
    return {
        "seconds": found.median_seconds,
        "p95Seconds": found.p95_seconds,
        "count": found.count,
        "text": text,
    }


async def _wanted(request: web.Request) -> tuple[Row, datetime | None]:
    chain_id, at = parse_status_query(request.query.items())
    store = request.app[STORE]
    return await the_row(store, request.match_info["request_key"], chain_id), at


async def _past_state(store: Store, row: Row, at: datetime) -> RequestState:
    states = await states_at(store, [row["request_key"]], at)
    if row["request_key"] not in states:
        raise Refusal(Problem.UNKNOWN_REQUEST, f"this request was not known at {rfc3339(at)}")
    return states[row["request_key"]]


async def the_row(store: Store, wanted: str, chain_id: int | None) -> Row:
    """Raises Refusal when none, or several, are meant."""
    rows = await store.find(wanted, chain_id)
    if not rows:
        raise Refusal(Problem.UNKNOWN_REQUEST, f"no request {wanted[:200]!r} is known")
    if len(rows) > 1:
        keys = [status_object(row)["requestKey"] for row in rows]
        more = " or more" if len(rows) == AMBIGUOUS_KEYS else ""
        raise Refusal(
            Problem.AMBIGUOUS_ID,
            f"{len(rows)}{more} requests have the id {wanted[:200]!r}: ask for one of the keys "
            f"{', '.join(keys)}, or add ?chainId=",
            keys=keys,
        )
    return rows[0]
