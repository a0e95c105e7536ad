"""`/controls`: what operators paused, and who; now, or as of a past moment (`at`)."""

from __future__ import annotations

from aiohttp import web

from projections.answers import answer
from projections.context import STORE
from projections.pauses import pause_object, pauses
from projections.queries import parse_moment


def routes() -> list[web.RouteDef]:
    return [web.get("/controls", controls)]


async def controls(request: web.Request) -> web.Response:
    """The pauses that are in force."""
    found = await pauses(request.app[STORE], parse_moment(request.query.items()))
    return answer({"paused": [pause_object(pause) for pause in found.pauses.values()]})
