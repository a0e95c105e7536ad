"""`/status/{key}/certificate`: a completed mint, proved to whoever trusts a block's hash."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import orjson
import structlog
from aiohttp import web

from orchestrator.certifying import Certifier, NoNode
from orchestrator.core.certificates import CannotCertify, evidence_of
from orchestrator.errors import RpcError
from projections.answers import Problem, Refusal, answer
from projections.context import STORE
from projections.queries import parse_status_query
from projections.status_routes import the_row
from projections.store import Row, Store
from projections.text import from_jsonb
from schemas.base import Position, Record, UnreadableRecord
from schemas.topics import KURO_EVENTS, REQUESTS, TOPICS

CERTIFIER: web.AppKey[Certifier | None] = web.AppKey("certifier")
FACTS_READ = 20_000
NODE_SECONDS = 20.0

log = structlog.get_logger()


def routes() -> list[web.RouteDef]:
    return [web.get("/status/{request_key:.+}/certificate", certificate)]


async def certificate(request: web.Request) -> web.Response:
    """Built anew at every question from the facts and the chain's node; nothing is kept."""
    chain_id, at = parse_status_query(request.query.items())
    if at is not None:
        raise Refusal(Problem.INVALID_QUERY, "at: a certificate is of no moment")
    store, certifier = request.app[STORE], request.app[CERTIFIER]
    row = await the_row(store, request.match_info["request_key"], chain_id)
    records = await _records(store, row["request_key"])
    kuro = next((one for one in records if one.position and _topic(one) == KURO_EVENTS.name), None)
    try:
        evidence = evidence_of(kuro, [one for one in records if _topic(one) == REQUESTS.name])
        if certifier is None:
            raise NoNode(
                "this process knows no nodes: give it KADENA_EVM_CHAIN_<id>_RPC, or use "
                "`orchestrator certify`"
            )
        async with asyncio.timeout(NODE_SECONDS):
            found = await certifier.certify(evidence)
    except CannotCertify as error:
        raise Refusal(Problem.NOT_CERTIFIABLE, str(error)) from None
    except NoNode as error:
        raise Refusal(Problem.NO_NODES, str(error)) from None
    except RpcError as error:
        log.warning("certificate not built", request=row["request_key"], reason=str(error))
        raise Refusal(Problem.UNAVAILABLE, "the chain's nodes do not answer as needed") from None
    except TimeoutError:
        raise Refusal(Problem.TIMED_OUT, "the chain's nodes did not answer in time") from None
    return answer(found.model_dump(mode="json"))


def _topic(record: Record) -> str:
    assert record.position is not None
    return record.position.topic


async def _records(store: Store, request_key: str) -> list[Record]:
    """The request's facts of both topics, each in the order of the log."""
    rows = await store.rows(
        'SELECT topic, partition, "offset", value::text AS value FROM request_facts '
        "WHERE request_key = %s AND topic = ANY(%s) "
        'ORDER BY topic, partition, "offset" LIMIT %s',
        [request_key, [KURO_EVENTS.name, REQUESTS.name], FACTS_READ],
    )
    return list(_decoded(rows))


def _decoded(rows: Iterable[Row]) -> Iterable[Record]:
    for row in rows:
        position = Position(row["topic"], row["partition"], row["offset"])
        value = orjson.dumps(from_jsonb(row["value"]))
        try:
            yield TOPICS[row["topic"]].decode(value, position)
        except UnreadableRecord:  # it would stand in projection_faults, not here
            continue
