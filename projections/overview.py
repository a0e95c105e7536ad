"""`GET /overview`: all that the page shows at a glance, in one answer that a poll can afford.

Every number comes from a sum or an index, none from counting requests, and all of them from one
snapshot of the tables. The ETag leaves out what only the clock moves (`now`, ages), so that
`If-None-Match` saves the body while nothing happens; the ages follow from the times beside them.
"""

from __future__ import annotations

import hashlib
from collections import Counter, defaultdict
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any, LiteralString

import orjson
from aiohttp import web

from orchestrator.core.lifecycle import STATUS_OF, TABLE, TERMINAL, Stage, Status
from projections.context import CHAINS, STORE, TERMS, ApiTerms
from projections.feed.serving import FEED
from projections.lane_reads import transaction_of
from projections.lane_shapes import Slot, summary_object, view_of
from projections.lanes import Lane, LaneKey, Transaction
from projections.queries import InvalidQuery, ListQuery, cursor_of
from projections.rows import rfc3339, status_object, supply_object
from projections.store import Row, page_statement
from projections.tallies import bucket, kept_width, percentile
from projections.text import from_column
from projections.writer import selection
from schemas.base import RequestType

WINDOWS_SECONDS = {"15m": (900, 10), "1h": (3600, 60), "6h": (21_600, 300), "24h": (86_400, 1200)}
"""How far back, and the width of a point."""
DEFAULT_WINDOW = "1h"
SLOTS_SHOWN = 64
CLOSED_SHOWN = 24
"""Nonces before the next one, of which those that are spent for good are shown."""
REQUESTS_SHOWN = 50

_QUEUES = {
    Status.PENDING: "waiting",
    Status.PROCESSING: "active",
    Status.COMPLETED: "completed",
    Status.FAILED: "failed",
}
_SHARES = {"p50Seconds": 0.5, "p95Seconds": 0.95, "p99Seconds": 0.99}

_STAGES: LiteralString = (
    "SELECT type, stage, count, CASE WHEN stage <> ALL(%s) THEN (SELECT min(created_at) "
    "FROM requests WHERE requests.type = held.type AND requests.stage = held.stage) END AS oldest "
    "FROM (SELECT type, stage, sum(count)::int8 AS count FROM request_counts "
    "GROUP BY type, stage HAVING sum(count) > 0) AS held ORDER BY type, stage"
)
_FLOW: LiteralString = (
    "SELECT at, received, completed, failed FROM request_flow WHERE width_seconds = %s AND at >= %s"
)
_LATENCIES: LiteralString = (
    "SELECT at, bin, count FROM request_latencies WHERE width_seconds = %s AND at >= %s"
)
_CHAINS: LiteralString = (
    "SELECT chain_id, to_block, to_timestamp, followed_at, halted_reason, halted_at, minted, "
    "redeemed, supply_block, supply_total, supply_by_events, supply_at "
    "FROM chain_heads FULL JOIN chain_supply USING (chain_id)"
)
_LANES = selection("lanes", Lane) + " ORDER BY chain_id, wallet"
_SENT = selection("lane_transactions", Transaction)
_SLOTS: LiteralString = (
    f"{_SENT} WHERE state IN ('PREPARED', 'BROADCAST', 'INCLUDED', 'ORPHANED') "  # noqa: S608
    f"UNION ALL SELECT last.* FROM lanes CROSS JOIN LATERAL ({_SENT} AS done "
    "WHERE done.chain_id = lanes.chain_id AND done.wallet = lanes.wallet "
    "AND done.nonce >= lanes.next_nonce - %s AND done.state IN ('FINAL', 'DROPPED')) AS last"
)
_WAITING: LiteralString = (
    "SELECT chain_id, wallet, count(*) AS count FROM lane_work "
    "WHERE state IN ('WAITING', 'REVERTED') GROUP BY chain_id, wallet"
)
_LETTERS: LiteralString = (
    "SELECT label AS reason, count FROM projection_tallies "
    "WHERE name = 'dead_letters' AND count > 0 ORDER BY label"
)
_WRITER: LiteralString = "SELECT now() AS now, (SELECT fresh_at FROM projection_state) AS fresh_at"


def routes() -> list[web.RouteDef]:
    return [web.get("/overview", overview)]


async def overview(request: web.Request) -> web.Response:
    window = parse_window(request.query.items())
    seconds, width = WINDOWS_SECONDS[window]
    begin = bucket(datetime.now(UTC) - timedelta(seconds=seconds - width), width)
    found = await request.app[STORE].snapshot(
        (_WRITER, []),
        (_STAGES, [[stage.value for stage in TERMINAL]]),
        (_FLOW, [kept_width(width), begin]),
        (_LATENCIES, [kept_width(width), begin]),
        (_CHAINS, []),
        (_LANES, []),
        (_SLOTS, [CLOSED_SHOWN]),
        (_WAITING, []),
        (_LETTERS, []),
        page_statement(ListQuery(limit=REQUESTS_SHOWN)),
    )
    writer, stages, flow, latencies, heads, lanes, sent, waiting, letters, newest = found
    counts = stages_shown(stages)
    grid = [begin + timedelta(seconds=width * step) for step in range(seconds // width)]
    shown = newest[:REQUESTS_SHOWN]
    paths = {resource.canonical for resource in request.app.router.resources()}
    body = {
        "offers": {
            "controls": "/controls" in paths,
            "explain": any(path.endswith("/explain") for path in paths),
            "feed": request.app[FEED].feed is not None,
        },
        "freshAt": _time(writer[0]["fresh_at"]),
        "tokenDecimals": request.app[TERMS].token_decimals,
        "window": window,
        "queues": queues_of(counts),
        "stages": counts,
        "throughput": {
            "bucketSeconds": width,
            "points": flow_points(flow, grid, width, counts),
        },
        "latency": {"bucketSeconds": width, "points": latency_points(latencies, grid, width)},
        "chains": chains_shown(heads, request.app[CHAINS]),
        "lanes": lanes_shown(lanes, sent, waiting, heads, request.app[TERMS]),
        "deadLetters": {row["reason"]: row["count"] for row in letters},
        "requests": {
            "items": [status_object(row) for row in shown],
            "next": cursor_of(shown[-1]) if len(newest) > REQUESTS_SHOWN else None,
        },
    }
    return _answer(request, body, writer[0]["now"])


def parse_window(pairs: Iterable[tuple[str, str]]) -> str:
    """`window`, the only parameter. Raises InvalidQuery."""
    given = list(pairs)
    for name, text in given:
        if name != "window":
            raise InvalidQuery(f"{name[:100]}: unknown parameter; allowed: window")
        if text not in WINDOWS_SECONDS:
            raise InvalidQuery(f"window: {text[:100]!r} is none of {', '.join(WINDOWS_SECONDS)}")
    if len(given) > 1:
        raise InvalidQuery("window: given more than once")
    return given[0][1] if given else DEFAULT_WINDOW


def _answer(request: web.Request, body: dict[str, Any], now: datetime) -> web.Response:
    settled = {name: value for name, value in body.items() if name != "freshAt"}
    tag = hashlib.sha256(orjson.dumps(settled, option=orjson.OPT_SORT_KEYS)).hexdigest()[:32]
    headers = {
        "ETag": f'"{tag}"',
        "Cache-Control": "private, no-cache",
        "X-Data-Now": rfc3339(now),
        "X-Data-Fresh-At": body["freshAt"] or "",
    }
    if tag in {etag.value for etag in request.if_none_match or ()}:
        return web.Response(status=304, headers=headers)
    for row in body["stages"]:
        row["oldestSeconds"] = _age(row["oldestAt"], now)
    for row in body["chains"]:
        row["ageSeconds"] = _age(row["followedAt"], now)
    shown = orjson.dumps({"now": rfc3339(now), **body}, option=orjson.OPT_APPEND_NEWLINE)
    response = web.Response(body=shown, content_type="application/json", headers=headers)
    response.enable_compression()
    return response


def _time(value: datetime | None) -> str | None:
    return None if value is None else rfc3339(value)


def _age(at: str | None, now: datetime) -> float | None:
    if at is None:
        return None
    return max(0.0, round((now - datetime.fromisoformat(at)).total_seconds(), 1))


def stages_shown(rows: list[Row]) -> list[dict[str, Any]]:
    """`oldestAt` only for stages that a request can leave by itself."""
    return [
        {
            "type": row["type"],
            "stage": row["stage"],
            "count": row["count"],
            "oldestAt": _time(row["oldest"]),
        }
        for row in rows
    ]


def queues_of(stages: list[dict[str, Any]]) -> dict[str, dict[str, int]]:
    queues = {kind.lower(): dict.fromkeys(_QUEUES.values(), 0) for kind in RequestType}
    for row in stages:
        queues[row["type"].lower()][_QUEUES[STATUS_OF[Stage(row["stage"])]]] += row["count"]
    return queues


def flow_points(
    rows: list[Row], grid: list[datetime], width: int, stages: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """`open`: how many had come and not ended at the end of each bucket, counted back from now."""
    sums: dict[datetime, Counter[str]] = defaultdict(Counter)
    for row in rows:
        point = sums[bucket(row["at"], width)]
        for name in ("received", "completed", "failed"):
            point[name] += row[name]
    ended = (Status.COMPLETED, Status.FAILED)
    backlog = sum(row["count"] for row in stages if STATUS_OF[Stage(row["stage"])] not in ended)
    points = []
    for at in reversed(grid):
        point = sums[at]
        flow = {name: point[name] for name in ("received", "completed", "failed")}
        points.append({"at": rfc3339(at), **flow, "open": backlog})
        backlog = max(0, backlog - flow["received"] + flow["completed"] + flow["failed"])
    return points[::-1]


def latency_points(rows: list[Row], grid: list[datetime], width: int) -> list[dict[str, Any]]:
    """Null where nothing completed."""
    sums: dict[datetime, Counter[int]] = defaultdict(Counter)
    for row in rows:
        sums[bucket(row["at"], width)][row["bin"]] += row["count"]
    points = []
    for at in grid:
        known = {name: percentile(sums[at], share) for name, share in _SHARES.items()}
        rounded = {
            name: None if value is None else round(value, 3) for name, value in known.items()
        }
        points.append({"at": rfc3339(at), **rounded, "count": sums[at].total()})
    return points


def chains_shown(rows: list[Row], configured: Iterable[int]) -> list[dict[str, Any]]:
    """Those configured and those that the log tells of. Amounts in base units; `supply` below zero
    says that the log began after the contract."""
    held = {row["chain_id"]: row for row in rows}
    shown = []
    for chain_id in sorted({*configured, *held}):
        row = held.get(chain_id) or defaultdict(lambda: None)
        minted, redeemed = int(row["minted"] or 0), int(row["redeemed"] or 0)
        shown.append(
            {
                "chainId": chain_id,
                "followedBlock": row["to_block"],
                "followedAt": _time(row["followed_at"]),
                "halted": _stop(row["halted_reason"], row["halted_at"]),
                "minted": str(minted),
                "redeemed": str(redeemed),
                "supply": str(minted - redeemed),
                "supplyCompared": supply_object(row),
            }
        )
    return shown


def _stop(reason: str | None, at: datetime | None) -> dict[str, Any] | None:
    return None if reason is None else {"reason": from_column(reason), "at": _time(at)}


def lanes_shown(
    lanes: list[Row], sent: list[Row], waiting: list[Row], heads: list[Row], terms: ApiTerms
) -> list[dict[str, Any]]:
    """As `GET /lanes`, with what blocks each and its latest nonces, of many open ones the lowest
    and the newest."""
    transactions: dict[LaneKey, list[Transaction]] = defaultdict(list)
    for row in sent:
        transaction = transaction_of(row)
        transactions[transaction.chain_id, transaction.wallet].append(transaction)
    counts = {(row["chain_id"], row["wallet"]): row["count"] for row in waiting}
    blocks = {row["chain_id"]: row["to_block"] for row in heads if row["to_block"] is not None}
    shown = []
    for row in lanes:
        lane = Lane(**row)
        key = lane.chain_id, lane.wallet
        head = blocks.get(lane.chain_id)
        if head is not None:
            head += terms.confirmations.get(lane.chain_id, 0)
        count = counts.get(key, 0)
        view = view_of(lane, transactions[key], (), count, head, terms.stuck_after_blocks)
        nonce, _, reason = view.blocked_by() or (None, None, None)
        slots = view.slots
        if len(slots) > SLOTS_SHOWN:
            slots = (*slots[: SLOTS_SHOWN // 2], *slots[-SLOTS_SHOWN // 2 :])
        shown.append(
            {
                **summary_object(view),
                "blockedBy": None if reason is None else {"nonce": nonce, "reason": reason},
                "slots": [_slot(slot) for slot in slots],
                "hiddenSlots": len(view.slots) - len(slots),
            }
        )
    return shown


def _slot(slot: Slot) -> dict[str, Any]:
    key = slot.request_key
    return {
        "nonce": slot.nonce,
        "state": slot.state,
        "requestKey": None if key is None else from_column(key),
        "txHash": slot.current.tx_hash,
        "versions": len(slot.versions),
        "block": slot.current.block_number,
        "succeeded": slot.current.succeeded,
        "since": rfc3339(slot.since),
    }


def lifecycle_table() -> bytes:
    """The table of transitions as JSON, so that the page moves a row as the fold would."""
    moves = {
        str(stage or ""): {fact.__name__: goal for fact, goal in row.items()}
        for stage, row in TABLE.items()
    }
    return orjson.dumps({"moves": moves, "statusOf": STATUS_OF}, option=orjson.OPT_NON_STR_KEYS)
