"""`GET /webhooks`: how each endpoint stands."""

from __future__ import annotations

from collections.abc import Mapping

from aiohttp import web

from orchestrator.errors import LogUnavailable
from projections.answers import answer
from projections.context import PROBE, STORE
from projections.feed.cursor import Seat
from projections.queries import refuse_parameters
from projections.webhooks.reporting import endpoint_object, read_endpoints


async def _list(request: web.Request) -> web.Response:
    refuse_parameters(request.query.items())
    ends: Mapping[Seat, int] = {}
    probe = request.app[PROBE]
    if probe is not None:
        try:
            ends = await probe.ends()
        except LogUnavailable:
            ends = {}
    rows = await read_endpoints(request.app[STORE])
    return answer({"items": [endpoint_object(row, ends) for row in rows]})


def routes() -> list[web.RouteDef]:
    return [web.get("/webhooks", _list)]
