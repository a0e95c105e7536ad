"""`/health` and `/metrics`: for monitors. They answer also while dependencies are down."""

from __future__ import annotations

from aiohttp import web

from projections import health, metrics
from projections.answers import answer
from projections.context import CHAINS, HTTP_METRICS, PROBE, STORE
from projections.feed.serving import FEED
from projections.queries import refuse_parameters
from projections.seals import SEALS, check_seals, seal_families


def routes() -> list[web.RouteDef]:
    return [
        web.get("/health", whole),
        web.get("/health/live", live),
        web.get("/health/ready", ready),
        web.get("/metrics", prometheus),
        web.get("/metrics/queues", queues),
    ]


async def live(request: web.Request) -> web.Response:
    """The process runs and its loop turns; nothing else is asked."""
    return answer({"status": "ok"})


async def ready(request: web.Request) -> web.Response:
    """Whether answers can be served that are no older than a minute."""
    store = request.app[STORE]
    checks = await health.check_database(store)
    if all(check.ok for check in checks.values()):
        checks["projection"] = await health.check_projection(store)
    is_ready = all(check.ok for check in checks.values())
    return answer(
        {
            "status": "ok" if is_ready else "unready",
            "checks": {name: check.shown() for name, check in checks.items()},
        },
        200 if is_ready else 503,
    )


async def whole(request: web.Request) -> web.Response:
    """Everything. 503 when answers cannot be trusted; what only the write side needs (Kafka,
    chains, policies, seals) makes it `degraded`."""
    store = request.app[STORE]
    checks = await health.check_database(store)
    checks["projection"] = await health.check_projection(store)
    checks["kafka"], lag = await health.check_kafka(store, request.app[PROBE])
    checks["policies"] = await health.check_policies(store)
    checks["seals"] = check_seals(request.app[SEALS])
    chains = await health.check_chains(store, request.app[CHAINS])
    vital = all(checks[name].ok for name in ("database", "migrations", "projection"))
    everything = all(check.ok for check in (*checks.values(), *chains.values()))
    shown = {name: check.shown() for name, check in checks.items()}
    shown["projection"]["lagRecords"] = lag
    return answer(
        {
            "status": "ok" if everything else "degraded" if vital else "down",
            "checks": shown,
            "chains": {name: check.shown() for name, check in chains.items()},
        },
        200 if vital else 503,
    )


async def prometheus(request: web.Request) -> web.Response:
    """Answers also while the database is down, and says so: monitoring must not go blind."""
    app = request.app
    body = await metrics.render(
        app[HTTP_METRICS],
        app[STORE],
        app[PROBE],
        app[FEED].connections,
        seal_families(app[SEALS]),
    )
    return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})


async def queues(request: web.Request) -> web.Response:
    refuse_parameters(request.query.items())
    return answer(await request.app[STORE].queues())
