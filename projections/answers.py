"""How the API answers: JSON, and errors as problem details (RFC 9457) that keep an `error` field.

A problem says what a client can act on and nothing of the inside; the log says the rest under the
same request id.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any

import orjson
import structlog
from aiohttp import web

from orchestrator.errors import OrchestratorError

PROBLEM_TYPE = "application/problem+json"
PROBLEM_PAGE = "/docs#problem-"
"""Where a problem's `type` leads: a relative reference, resolved against the API's own address."""


class Problem(StrEnum):
    """Every kind of error that this API answers with."""

    INVALID_QUERY = "invalid-query"
    UNKNOWN_REQUEST = "unknown-request"
    AMBIGUOUS_ID = "ambiguous-id"
    UNKNOWN_LANE = "unknown-lane"
    NOT_CERTIFIABLE = "not-certifiable"
    NO_NODES = "no-nodes"
    NO_ROUTE = "no-route"
    METHOD_NOT_ALLOWED = "method-not-allowed"
    UNAUTHENTICATED = "unauthenticated"
    FORBIDDEN = "forbidden"
    RATE_LIMITED = "rate-limited"
    TOO_LARGE = "too-large"
    REFUSED = "refused"
    UNAVAILABLE = "unavailable"
    TIMED_OUT = "timed-out"
    INTERNAL = "internal"


PROBLEMS: Mapping[Problem, tuple[int, str]] = {
    Problem.INVALID_QUERY: (400, "A parameter is wrong"),
    Problem.UNKNOWN_REQUEST: (404, "No such request"),
    Problem.AMBIGUOUS_ID: (409, "Several requests have this id"),
    Problem.UNKNOWN_LANE: (404, "No such lane"),
    Problem.NOT_CERTIFIABLE: (409, "There is no certificate of this request"),
    Problem.NO_NODES: (501, "This process knows no node of the chain"),
    Problem.NO_ROUTE: (404, "No such route"),
    Problem.METHOD_NOT_ALLOWED: (405, "Method not allowed"),
    Problem.UNAUTHENTICATED: (401, "A valid token is needed"),
    Problem.FORBIDDEN: (403, "The token does not allow this"),
    Problem.RATE_LIMITED: (429, "Too many requests"),
    Problem.TOO_LARGE: (413, "The request is too large"),
    Problem.REFUSED: (400, "The request was refused"),
    Problem.UNAVAILABLE: (503, "Cannot be answered now"),
    Problem.TIMED_OUT: (504, "No answer in time"),
    Problem.INTERNAL: (500, "An error of this service"),
}
"""Status and title of each. Only `REFUSED` may carry another status of the 4xx range."""


class Refusal(OrchestratorError):
    """Raised by a handler that answers with a problem."""

    def __init__(
        self,
        problem: Problem,
        detail: str,
        headers: Mapping[str, str] | None = None,
        **more: Any,
    ) -> None:
        super().__init__(detail)
        self.problem = problem
        self.headers = dict(headers or {})
        self.more = more

    def answer(self) -> web.Response:
        return failure(self.problem, str(self), headers=self.headers, **self.more)


def answer(body: Any, status: int = 200) -> web.Response:
    return web.Response(
        body=orjson.dumps(body, option=orjson.OPT_APPEND_NEWLINE),
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store"},
    )


def failure(
    problem: Problem,
    detail: str,
    *,
    status: int | None = None,
    headers: Mapping[str, str] | None = None,
    **more: Any,
) -> web.Response:
    """`more` are the problem's own members, beside the standard ones."""
    usual, title = PROBLEMS[problem]
    body = {
        "type": PROBLEM_PAGE + problem,
        "title": title,
        "status": status or usual,
        "detail": detail,
        "error": detail,
        "requestId": structlog.contextvars.get_contextvars().get("http_request_id"),
        **more,
    }
    response = answer(body, status or usual)
    response.content_type = PROBLEM_TYPE
    response.headers.update(headers or {})
    return response
