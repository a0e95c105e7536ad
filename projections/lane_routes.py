"""`/lanes`: every wallet's nonces, who owns each, and what blocks what."""

from __future__ import annotations

from aiohttp import web

from projections.answers import Problem, Refusal, answer
from projections.context import STORE, TERMS
from projections.lane_reads import all_lanes, one_lane
from projections.lane_shapes import lane_object, summary_object
from projections.queries import parse_chain_id, refuse_parameters


def routes() -> list[web.RouteDef]:
    return [
        web.get("/lanes", lanes),
        web.get("/lanes/{chain_id}/{wallet}", lane),
    ]


async def lanes(request: web.Request) -> web.Response:
    refuse_parameters(request.query.items())
    views = await all_lanes(request.app[STORE], request.app[TERMS])
    return answer({"items": [summary_object(view) for view in views]})


async def lane(request: web.Request) -> web.Response:
    refuse_parameters(request.query.items())
    chain_id = parse_chain_id(request.match_info["chain_id"])
    wallet = request.match_info["wallet"]
    view = await one_lane(request.app[STORE], request.app[TERMS], chain_id, wallet)
    if view is None:
        raise Refusal(
            Problem.UNKNOWN_LANE, f"no lane of wallet {wallet[:100]!r} on chain {chain_id} is known"
        )
    return answer(lane_object(view))
