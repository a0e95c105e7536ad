"""What surrounds every handler: a request id, latency, time limits, errors that leak nothing."""

from __future__ import annotations

import asyncio
import re
import time
import uuid
from collections.abc import Awaitable, Callable

import structlog
from aiohttp import web

from projections.answers import Problem, Refusal, failure
from projections.context import HTTP_METRICS
from projections.database import trace_of
from projections.queries import InvalidQuery
from projections.store import StoreUnavailable

log = structlog.get_logger()

ANSWER_SECONDS = 15.0
REQUEST_ID_HEADER = "X-Request-Id"
RETRY_AFTER_SECONDS = 5

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]

_REQUEST_ID = re.compile(r"[A-Za-z0-9._:-]{1,100}")
_STREAMING = "streaming"
REQUEST_ID = web.RequestKey("request_id", str)


def streaming(handler: Handler) -> Handler:
    """Marks a handler whose answer lasts: no time limit, and no latency is counted for it."""
    setattr(handler, _STREAMING, True)
    return handler


def is_streaming(request: web.Request) -> bool:
    return getattr(request.match_info.handler, _STREAMING, False)


def route_of(request: web.Request) -> str:
    """The route's pattern: a label must not grow with what clients make up."""
    resource = request.match_info.route.resource
    return resource.canonical if resource is not None else "unmatched"


@web.middleware
async def accounting(request: web.Request, handler: Handler) -> web.StreamResponse:
    """An id for every request, its latency, and a line in the log for what went wrong."""
    given = request.headers.get(REQUEST_ID_HEADER, "")
    name = given if _REQUEST_ID.fullmatch(given) else uuid.uuid4().hex
    request[REQUEST_ID] = name
    begun = time.perf_counter()
    with structlog.contextvars.bound_contextvars(http_request_id=name):
        response = await handler(request)
        seconds = time.perf_counter() - begun
        route = route_of(request)
        if not is_streaming(request):
            latency = request.app[HTTP_METRICS].latency
            latency.labels(route, str(response.status)).observe(seconds)
        write = log.warning if response.status >= 500 else log.debug
        write(
            "http_answered",
            method=request.method,
            route=route,
            status=response.status,
            milliseconds=round(seconds * 1000, 1),
        )
    return response


@web.middleware
async def errors(request: web.Request, handler: Handler) -> web.StreamResponse:
    try:
        async with asyncio.timeout(None if is_streaming(request) else ANSWER_SECONDS):
            return await handler(request)
    except InvalidQuery as error:
        return failure(Problem.INVALID_QUERY, str(error))
    except Refusal as error:
        return error.answer()
    except StoreUnavailable as error:
        wait = {"Retry-After": str(RETRY_AFTER_SECONDS)}
        return failure(Problem.UNAVAILABLE, str(error), headers=wait)
    except TimeoutError:
        return failure(Problem.TIMED_OUT, f"no answer within {ANSWER_SECONDS:.0f} s")
    except web.HTTPMethodNotAllowed as error:
        allowed = ", ".join(sorted(error.allowed_methods))
        detail = f"{request.method[:20]} is not allowed here; allowed: {allowed}"
        return failure(Problem.METHOD_NOT_ALLOWED, detail, headers={"Allow": allowed})
    except web.HTTPNotFound:
        return failure(Problem.NO_ROUTE, "no such route; /docs lists them all")
    except web.HTTPRequestEntityTooLarge:
        return failure(Problem.TOO_LARGE, "the body is larger than this API reads")
    except web.HTTPException as error:
        if error.status < 400:
            raise
        return failure(Problem.REFUSED, error.reason, status=error.status)
    except Exception as error:  # noqa: BLE001 - the last resort of every route
        log.error("http_failed", route=route_of(request), trace=trace_of(error))
        detail = "an error of this service; its log says more under the request id"
        return failure(Problem.INTERNAL, detail)
