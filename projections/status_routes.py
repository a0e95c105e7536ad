"""`/status`: where each request is."""

from __future__ import annotations

from urllib.parse import quote

from aiohttp import web

from projections.answers import Problem, Refusal, answer
from projections.context import STORE
from projections.queries import parse_list_query, parse_status_query
from projections.rows import status_object, timeline_object
from projections.store import AMBIGUOUS_KEYS, Row, Store


def routes() -> list[web.RouteDef]:
    return [
        web.get("/status", page),
        web.get("/status/{request_key:.+}", one),
    ]


async def page(request: web.Request) -> web.Response:
    rows, following = await request.app[STORE].page(parse_list_query(request.query.items()))
    return answer({"items": [status_object(row) for row in rows], "next": following})


async def one(request: web.Request) -> web.Response:
    """One request, by key or else by id, with its timeline."""
    chain_id = parse_status_query(request.query.items())
    store = request.app[STORE]
    row = await the_row(store, request.match_info["request_key"], chain_id)
    body = status_object(row)
    timeline = await store.timeline(row["request_key"])
    body["timeline"] = [timeline_object(fact) for fact in timeline]
    return answer(body)


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


def status_path(key: str) -> str:
    return "/status/" + quote(key, safe="")
