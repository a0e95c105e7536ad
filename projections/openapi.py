"""The OpenAPI 3.1 document, generated from the models of the answers and the table below.

`python -m projections.openapi` writes it to docs/openapi.json; a test compares that, and another
compares the table with the routes that are served.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from orchestrator.client import models
from orchestrator.core.lifecycle import Stage, Status
from projections.answers import PROBLEM_TYPE, PROBLEMS, Problem
from projections.explaining_words import Code
from projections.queries import LARGEST_CHAIN_ID, LARGEST_LIMIT, LARGEST_TEXT
from schemas.base import RequestType
from schemas.certificates import MintCertificate

VERSION = "1.0.0"
DOCUMENT = Path(__file__).parents[1] / "docs" / "openapi.json"
UNDESCRIBED = ("/", "/assets/{version}/{name}", "/docs", "/docs/{name}", "/openapi.json")
"""Pages for people, and this document itself."""

Schema = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Parameter:
    name: str
    schema: Schema
    text: str
    place: str = "query"

    def shown(self) -> Schema:
        more: Schema = {"required": True} if self.place == "path" else {}
        return {
            "name": self.name,
            "in": self.place,
            "description": self.text,
            "schema": self.schema,
            **more,
        }


@dataclass(frozen=True, slots=True)
class Operation:
    """One GET. `problems` beside those that every answer may have."""

    name: str
    tag: str
    summary: str
    text: str
    answers: Mapping[int, type[BaseModel] | str]
    parameters: tuple[Parameter, ...] = ()
    problems: tuple[Problem, ...] = ()


_CHAIN: Schema = {"type": "integer", "minimum": 1, "maximum": LARGEST_CHAIN_ID}
_TEXT: Schema = {"type": "string", "minLength": 1, "maxLength": LARGEST_TEXT}
_TIME: Schema = {"type": "string", "format": "date-time"}
_AT = Parameter("at", _TIME, "As of this moment, folded anew from the facts up to then.")
_KEY = Parameter(
    "requestKey",
    {"type": "string", "minLength": 1},
    "The request's key, or its id where only one request has it; percent-encoded, `/` too.",
    "path",
)
_CHAIN_FILTER = Parameter("chainId", _CHAIN, "Only of this chain.")


def _choices(kind: type[Any]) -> Schema:
    return {"type": "string", "enum": [str(one) for one in kind]}


_FILTERS = (
    Parameter("type", _choices(RequestType), "Of this type."),
    Parameter("status", _choices(Status), "Of this status."),
    Parameter("stage", _choices(Stage), "At this stage."),
    _CHAIN_FILTER,
    Parameter("user", _TEXT, "Of this address, in any spelling of its hex digits."),
    Parameter("fiatRef", _TEXT, "With this fiatRef."),
    Parameter(
        "txHash",
        {"type": "string", "pattern": "^0x[0-9a-fA-F]{64}$"},
        "Whose txHash is this one.",
    ),
    Parameter("createdFrom", _TIME, "Created at this time or later."),
    Parameter("createdTo", _TIME, "Created before this time."),
    Parameter(
        "search",
        _TEXT,
        "With this id, key, address, fiatRef or transaction, or whose key begins so.",
    ),
    Parameter(
        "at",
        _TIME,
        "The list as of this moment. A page may then hold fewer than `limit` and yet have a "
        "`next`: at most 5 pages are folded for one answer.",
    ),
    Parameter("cursor", _TEXT, "The `next` of the page above, unchanged."),
    Parameter(
        "limit",
        {"type": "integer", "minimum": 1, "maximum": LARGEST_LIMIT, "default": 50},
        "Items on a page.",
    ),
)

_STRINGS: Schema = {"type": "string"}

OPERATIONS: Mapping[str, Operation] = {
    "/status": Operation(
        "listRequests",
        "requests",
        "Requests, newest first",
        "All filters must hold. The order never changes, so paging neither skips nor repeats; what "
        "comes after the first page is not seen.",
        {200: models.StatusPage},
        _FILTERS,
    ),
    "/status/{requestKey}": Operation(
        "getRequest",
        "requests",
        "One request with its timeline",
        "The timeline holds the newest 1000 facts, oldest first, with their places on the log.",
        {200: models.StatusWithTimeline},
        (_KEY, _CHAIN_FILTER, _AT),
        (Problem.UNKNOWN_REQUEST, Problem.AMBIGUOUS_ID),
    ),
    "/status/{requestKey}/explain": Operation(
        "explainRequest",
        "requests",
        "Why a request is where it is",
        "What it waits for, since when, whose turn it is, when the next attempt comes where the "
        "log can know it, what is usual, and what an operator can do. `code` is one of: "
        + ", ".join(Code)
        + ".",
        {200: models.Explanation},
        (_KEY, _CHAIN_FILTER, _AT),
        (Problem.UNKNOWN_REQUEST, Problem.AMBIGUOUS_ID),
    ),
    "/status/{requestKey}/certificate": Operation(
        "getCertificate",
        "requests",
        "A completed mint's certificate",
        "Kuro's fact, the approval with its signature, the transaction, its receipt and their "
        "proofs to the block's header: to be checked without this service, as docs/certificates.md "
        "says. 409 where there is none yet, and why; 501 where the process knows no node.",
        {200: MintCertificate},
        (_KEY, _CHAIN_FILTER),
        (
            Problem.UNKNOWN_REQUEST,
            Problem.AMBIGUOUS_ID,
            Problem.NOT_CERTIFIABLE,
            Problem.NO_NODES,
        ),
    ),
    "/lanes": Operation(
        "listLanes", "lanes", "Every wallet on every chain, in short", "", {200: models.Lanes}
    ),
    "/lanes/{chainId}/{wallet}": Operation(
        "getLane",
        "lanes",
        "One wallet's nonces, what waits, and what blocks what",
        "The open nonces and the latest 16 that are spent. How far the chain was followed is not "
        "kept: with `at`, `blocks` follows from the lane's own facts.",
        {200: models.Lane},
        (
            Parameter("chainId", _CHAIN, "The chain.", "path"),
            Parameter("wallet", {"type": "string", "minLength": 1}, "Its address.", "path"),
            _AT,
        ),
        (Problem.UNKNOWN_LANE,),
    ),
    "/controls": Operation(
        "listPauses",
        "lanes",
        "What operators paused",
        "",
        {200: models.Controls},
        (_AT,),
    ),
    "/feed": Operation(
        "followFeed",
        "feed",
        "The log's facts as server-sent events",
        "`id` is a position on the whole log, `event` the fact's kind, `data` a FeedEvent. Goes on "
        "from `Last-Event-ID`, else from `from`, and never ends by itself.",
        {200: "text/event-stream"},
        (
            Parameter(
                "from", _STRINGS, "A cursor, `start`, `now` (the default), or a time (RFC 3339)."
            ),
            Parameter("topic", _STRINGS, "Only of this topic; may be given several times."),
            Parameter("kind", _STRINGS, "Only of this kind; may be given several times."),
            Parameter("requestKey", _STRINGS, "Only about this request."),
            _CHAIN_FILTER,
            Parameter("changes", _STRINGS, "Only facts that change a request's status."),
        ),
    ),
    "/webhooks": Operation(
        "listWebhooks",
        "feed",
        "How each webhook's endpoint stands",
        "",
        {200: models.Webhooks},
    ),
    "/overview": Operation(
        "getOverview",
        "operating",
        "What the page shows at a glance",
        "With an ETag that only what happens moves.",
        {200: models.Overview, 304: ""},
        (
            Parameter(
                "window",
                {"type": "string", "enum": ["15m", "1h", "6h", "24h"], "default": "1h"},
                "How far back the charts go.",
            ),
        ),
    ),
    "/health": Operation(
        "getHealth",
        "operating",
        "Every dependency",
        "503 when answers cannot be trusted.",
        {200: models.Health, 503: models.Health},
    ),
    "/health/ready": Operation(
        "getReadiness",
        "operating",
        "Whether answers are no older than a minute",
        "",
        {200: models.Ready, 503: models.Ready},
    ),
    "/health/live": Operation(
        "getLiveness", "operating", "Whether the process runs", "", {200: models.Live}
    ),
    "/metrics": Operation(
        "getMetrics", "operating", "For Prometheus", "", {200: "text/plain; version=0.0.4"}
    ),
    "/metrics/queues": Operation(
        "getQueues", "operating", "Depths of the queues", "", {200: models.Queues}
    ),
}

ALWAYS = (
    Problem.INVALID_QUERY,
    Problem.UNAUTHENTICATED,
    Problem.RATE_LIMITED,
    Problem.INTERNAL,
    Problem.UNAVAILABLE,
    Problem.TIMED_OUT,
)
_REF = "#/components/schemas/{model}"
_LIMITED: Schema = {
    name: {"schema": {"type": "string"}, "description": text}
    for name, text in {
        "RateLimit": "What is left of the budget (draft-ietf-httpapi-ratelimit-headers).",
        "RateLimit-Policy": "The budget's limit and window in seconds.",
        "X-Request-Id": "Under this id the log tells of the request.",
    }.items()
}


def document() -> Schema:
    """The whole document, the same at every call."""
    used = {model for one in OPERATIONS.values() for model in one.answers.values()}
    named: dict[str, type[BaseModel]] = {m.__name__: m for m in used if not isinstance(m, str)}
    named |= {"Problem": models.Problem, "FeedEvent": models.FeedEvent}
    shapes: list[type[BaseModel]] = [named[name] for name in sorted(named)]
    _, definitions = models_json_schema(
        [(model, "serialization") for model in shapes], by_alias=True, ref_template=_REF
    )
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Stablecoin orchestrator",
            "version": VERSION,
            "description": "Where each mint and redeem is, and why. Reads only. Times are RFC 3339 "
            "UTC, amounts decimal strings of base units, errors problem details (RFC 9457) with "
            "an `error` field. A bearer token is needed where the service has tokens configured.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "servers": [{"url": "/"}],
        "security": [{}, {"bearer": []}],
        "paths": {path: {"get": _operation(one)} for path, one in OPERATIONS.items()},
        "components": {
            "schemas": definitions["$defs"],
            "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}},
        },
        "x-problems": [
            {"name": name, "status": status, "title": title}
            for name, (status, title) in PROBLEMS.items()
        ],
    }


def _operation(one: Operation) -> Schema:
    responses: dict[str, Schema] = {}
    for problem in (*ALWAYS, *one.problems):
        status, title = PROBLEMS[problem]
        reference = {"$ref": _REF.format(model="Problem")}
        responses[str(status)] = {
            "description": title,
            "content": {PROBLEM_TYPE: {"schema": reference}},
        }
    for status, shape in one.answers.items():
        answer: Schema = {"description": "Not modified" if status == 304 else one.summary}
        if isinstance(shape, str):
            kinds: Schema = {shape: {"schema": {"type": "string"}}} if shape else {}
        else:
            schema = {"$ref": _REF.format(model=shape.__name__)}
            kinds = {"application/json": {"schema": schema}}
        if status == 503:  # in its own words; and as a problem when the time was up
            kinds |= responses["503"]["content"]
        if kinds:
            answer["content"] = kinds
        responses[str(status)] = {**answer, "headers": _LIMITED}
    return {
        "operationId": one.name,
        "tags": [one.tag],
        "summary": one.summary,
        "description": one.text or one.summary,
        "parameters": [parameter.shown() for parameter in one.parameters],
        "responses": dict(sorted(responses.items())),
    }


def encoded() -> str:
    return json.dumps(document(), indent=1, ensure_ascii=False, sort_keys=True) + "\n"


if __name__ == "__main__":
    DOCUMENT.write_text(encoded(), encoding="utf-8")
