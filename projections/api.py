"""The HTTP API: which modules give its routes, and what surrounds them. Reads only."""

from __future__ import annotations

from collections.abc import Callable, Collection
from typing import Any

from aiohttp import web

from orchestrator.certifying import Certifier
from orchestrator.sealing.watching import SealWatch
from projections import (
    assets,
    certificate_routes,
    controls_routes,
    docs_routes,
    health_routes,
    lane_routes,
    overview,
    status_routes,
)
from projections.access import ACCESS, Access, guard
from projections.context import CHAINS, HTTP_METRICS, PROBE, STORE, TERMS, USUAL, ApiTerms
from projections.dressing import dress
from projections.feed import serving
from projections.feed.serving import FEED, FeedDoor
from projections.lag import LogProbe
from projections.metrics import HttpMetrics
from projections.middleware import accounting, errors
from projections.seals import SEALS
from projections.store import Store
from projections.usual import UsualTimes
from projections.webhooks import routes as webhook_routes

LARGEST_BODY_BYTES = 16 * 1024

ROUTES: tuple[Callable[[], list[web.RouteDef]], ...] = (
    health_routes.routes,
    certificate_routes.routes,
    status_routes.routes,
    lane_routes.routes,
    controls_routes.routes,
    docs_routes.routes,
    serving.routes,
    webhook_routes.routes,
    overview.routes,
    assets.routes,
)


def make_app(
    store: Store,
    probe: LogProbe | None,
    chains: Collection[int],
    terms: ApiTerms | None = None,
    feed: FeedDoor | None = None,
    access: Access | None = None,
    certifier: Certifier | None = None,
    seals: SealWatch | None = None,
) -> web.Application:
    """The application; `store` is opened and closed with it, `probe`, `feed` and
    `seals` closed."""
    app = web.Application(
        middlewares=[accounting, errors, guard], client_max_size=LARGEST_BODY_BYTES
    )
    app[STORE], app[PROBE], app[CHAINS] = store, probe, chains
    app[TERMS], app[ACCESS] = terms or ApiTerms(), access or Access()
    app[HTTP_METRICS], app[USUAL] = HttpMetrics(), UsualTimes(store)
    app[certificate_routes.CERTIFIER] = certifier
    app[SEALS] = seals
    app[FEED] = door = feed or FeedDoor(store)
    app.on_shutdown.append(door.stop)
    for routes in ROUTES:
        app.add_routes(routes())
    app.on_response_prepare.append(dress)

    async def lifetime(app: web.Application) -> Any:
        await store.open()
        if seals is not None:
            seals.start()
        yield
        await door.close()
        if seals is not None:
            await seals.close()
        if certifier is not None:
            await certifier.close()
        await store.close()
        if probe is not None:
            await probe.close()

    app.cleanup_ctx.append(lifetime)
    return app
