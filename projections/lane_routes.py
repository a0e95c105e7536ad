"""`/lanes`: every wallet's nonces, who owns each, and what blocks what."""

from __future__ import annotations

from aiohttp import web

from projections.answers import Problem, Refusal, answer
from projections.context import STORE, TERMS
from projections.lane_reads import all_lanes, one_lane
from projections.lane_shapes import lane_object, summary_object
from projections.past import lane_at
from projections.queries import parse_chain_id, parse_moment, refuse_parameters


def routes() -> list[web.RouteDef]:
    return [
        web.get("/lanes", lanes),
        web.get("/lanes/{chain_id}/{wallet}", lane),
    ]


async def lanes(request: web.Request) -> web.Response:
    """Every lane in short."""
    refuse_parameters(request.query.items())
    views = await all_lanes(request.app[STORE], request.app[TERMS])
    return answer({"items": [summary_object(view) for view in views]})


async def lane(request: web.Request) -> web.Response:
    """One lane with its nonces and what waits; now, or as of a past moment (`at`)."""
    at = parse_moment(request.query.items())
    chain_id = parse_chain_id(request.match_info["chain_id"])
    wallet = request.match_info["wallet"]
    store, terms = request.app[STORE], request.app[TERMS]
    if at is None:
        view = await one_lane(store, terms, chain_id, wallet)
    else:
        found = await lane_at(store, terms, chain_id, wallet, at)
        view = found[0] if found else None
    if view is None:
        raise Refusal(
            Problem.UNKNOWN_LANE,
            f"no lane of wallet {wallet[:100]!r} on chain {chain_id} is known"
            + ("" if at is None else " at that time"),
        )
    return answer(lane_object(view))
