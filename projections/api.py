"""The HTTP API: status, health, metrics. Reads only; every error is JSON `{"error": ...}`."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable, Collection
from typing import Any

import orjson
import structlog
from aiohttp import web

from projections import health, metrics
from projections.database import trace_of
from projections.lag import LogProbe
from projections.queries import (
    InvalidQuery,
    parse_list_query,
    parse_status_query,
    refuse_parameters,
)
from projections.rows import status_object, timeline_object
from projections.store import AMBIGUOUS_KEYS, Store, StoreUnavailable

log = structlog.get_logger()

ANSWER_SECONDS = 15.0
LARGEST_BODY_BYTES = 16 * 1024
REQUEST_ID_HEADER = "X-Request-Id"
RETRY_AFTER_SECONDS = 5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")


class Api:
    """The routes, bound to where they read."""

    def __init__(self, store: Store, probe: LogProbe | None, chains: Collection[int]) -> None:
        self.store = store
        self.probe = probe
        self.chains = chains
        self.http = metrics.HttpMetrics()

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/health", self.health),
            web.get("/health/live", self.live),
            web.get("/health/ready", self.ready),
            web.get("/status", self.list),
            web.get("/status/{request_key:.+}", self.status),
            web.get("/metrics", self.metrics),
            web.get("/metrics/queues", self.queues),
        ]

    async def live(self, request: web.Request) -> web.Response:
        """The process runs and its loop turns; nothing else is asked."""
        return answer({"status": "ok"})

    async def ready(self, request: web.Request) -> web.Response:
        """Whether answers can be served that are no older than a minute."""
        checks = await health.check_database(self.store)
        if all(check.ok for check in checks.values()):
            checks["projection"] = await health.check_projection(self.store)
        ready = all(check.ok for check in checks.values())
        return answer(
            {
                "status": "ok" if ready else "unready",
                "checks": {name: check.shown() for name, check in checks.items()},
            },
            200 if ready else 503,
        )

    async def health(self, request: web.Request) -> web.Response:
        """Everything. 503 when answers cannot be trusted; what only the write side needs (Kafka,
        chains) makes it `degraded`."""
        checks = await health.check_database(self.store)
        checks["projection"] = await health.check_projection(self.store)
        checks["kafka"], lag = await health.check_kafka(self.store, self.probe)
        chains = await health.check_chains(self.store, self.chains)
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

    async def status(self, request: web.Request) -> web.Response:
        """One request, by key or else by id, with its timeline."""
        wanted = request.match_info["request_key"]
        rows = await self.store.find(wanted, parse_status_query(request.query.items()))
        if not rows:
            return failure(404, f"no request {wanted[:200]!r} is known")
        if len(rows) > 1:
            keys = [status_object(row)["requestKey"] for row in rows]
            more = " or more" if len(rows) == AMBIGUOUS_KEYS else ""
            return failure(
                409,
                f"{len(rows)}{more} requests have the id {wanted[:200]!r}: ask for one of the keys "
                f"{', '.join(keys)}, or add ?chainId=",
                keys=keys,
            )
        body = status_object(rows[0])
        timeline = await self.store.timeline(rows[0]["request_key"])
        body["timeline"] = [timeline_object(row) for row in timeline]
        return answer(body)

    async def list(self, request: web.Request) -> web.Response:
        rows, following = await self.store.page(parse_list_query(request.query.items()))
        return answer({"items": [status_object(row) for row in rows], "next": following})

    async def metrics(self, request: web.Request) -> web.Response:
        """Answers also while the database is down, and says so: monitoring must not go blind."""
        body = await metrics.render(self.http, self.store, self.probe)
        return web.Response(body=body, headers={"Content-Type": metrics.CONTENT_TYPE})

    async def queues(self, request: web.Request) -> web.Response:
        refuse_parameters(request.query.items())
        return answer(await self.store.queues())


def answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def failure(status: int, reason: str, **more: Any) -> web.Response:
    return answer({"error": reason, **more}, status)


def make_app(store: Store, probe: LogProbe | None, chains: Collection[int]) -> web.Application:
    """The application; `store` is opened and closed with it, `probe` closed."""
    api = Api(store, probe, chains)
    app = web.Application(
        middlewares=[_accounting(api.http), _errors], client_max_size=LARGEST_BODY_BYTES
    )
    app.add_routes(api.routes())

    async def lifetime(app: web.Application) -> Any:
        await store.open()
        yield
        await store.close()
        if probe is not None:
            await probe.close()

    app.cleanup_ctx.append(lifetime)
    return app


def _accounting(http: metrics.HttpMetrics) -> Any:
    @web.middleware
    async def accounting(request: web.Request, handler: Handler) -> web.StreamResponse:
        """An id for every request, its latency, and a line in the log for what went wrong."""
        given = request.headers.get(REQUEST_ID_HEADER, "")
        name = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
        begun = time.perf_counter()
        with structlog.contextvars.bound_contextvars(http_request_id=name):
            response = await handler(request)
            seconds = time.perf_counter() - begun
            route = _route(request)
            http.latency.labels(route, str(response.status)).observe(seconds)
            write = log.warning if response.status >= 500 else log.debug
            write(
                "http_answered",
                method=request.method,
                route=route,
                status=response.status,
                milliseconds=round(seconds * 1000, 1),
            )
        response.headers[REQUEST_ID_HEADER] = name
        response.headers["X-Content-Type-Options"] = "nosniff"
        return response

    return accounting


def _route(request: web.Request) -> str:
    """The route's pattern: a label must not grow with what clients make up."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


@web.middleware
async def _errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await handler(request)
    except InvalidQuery as error:
        return failure(400, str(error))
    except StoreUnavailable as error:
        response = failure(503, str(error))
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response
    except TimeoutError:
        return failure(504, f"no answer within {ANSWER_SECONDS:.0f} s")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        response = failure(405, f"{request.method[:20]} is not allowed here; allowed: {allowed}")
        response.headers["Allow"] = allowed
        return response
    except web.HTTPNotFound:
        return failure(404, "no such route; see /status, /health, /metrics, /metrics/queues")
    except web.HTTPException as error:
        return failure(error.status, error.reason)
    except Exception as error:  # noqa: BLE001 - the last resort of every route
        log.error("http_failed", route=_route(request), trace=trace_of(error))
        return failure(500, "an error of this service; its log says more under the request id")
