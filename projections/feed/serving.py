"""`GET /feed`: server-sent events (WHATWG HTML, section 9.2) whose ids are positions on the log.

An event without data changes the client's last event id and fires nothing; that is how the cursor
of a reader with a narrow filter moves on, so that it need not read the same again after a break.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import aclosing
from datetime import UTC, datetime

import orjson
import structlog
from aiohttp import web

from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from projections.access import client_of
from projections.answers import Problem, Refusal
from projections.context import HTTP_METRICS
from projections.feed.cursor import Cursor
from projections.feed.events import Event
from projections.feed.filters import Filter, parse
from projections.feed.following import NOW, START, Feed, Step
from projections.feed.pages import PositionLost
from projections.middleware import streaming
from projections.queries import InvalidQuery
from projections.store import Store

log = structlog.get_logger(__name__)

PARAMETERS = frozenset({"from", "topic", "kind", "requestKey", "chainId", "changes"})
KEEP_ALIVE_SECONDS = 15.0
TICK_SECONDS = 1.0
WRITE_SECONDS = 60.0
"""A client that takes nothing for so long is let go; it can resume where it was."""
PIECE_BYTES = 64 * 1024
RETRY_MILLISECONDS = 2000
RETRY_LATER = {"Retry-After": "5"}
CONNECTIONS = 500
"""Of one process, whatever the addresses."""


class FeedDoor:
    """Lets clients in, a bounded number, and serves them. Without Kafka it answers 503."""

    def __init__(
        self, store: Store, kafka: KafkaAccess | None = None, per_address: int = 20
    ) -> None:
        self._feed = Feed(kafka, store) if kafka else None
        self._per_address = per_address
        self._open: Counter[str] = Counter()
        self._closing = False

    @property
    def feed(self) -> Feed | None:
        return self._feed

    @property
    def connections(self) -> int:
        return self._open.total()

    async def stop(self, _app: web.Application) -> None:
        """Streams end within a tick, so that the server need not cut them."""
        self._closing = True

    async def close(self) -> None:
        if self._feed is not None:
            await self._feed.close()

    async def serve(self, request: web.Request) -> web.StreamResponse:
        wanted, begin = parse_request(request)
        if self._feed is None:
            raise Refusal(Problem.UNAVAILABLE, "this process has no KAFKA_BOOTSTRAP_SERVERS")
        address = client_of(request)
        if self._open[address] >= self._per_address or self.connections >= CONNECTIONS:
            detail = f"at most {self._per_address} open feeds for each address"
            raise Refusal(Problem.RATE_LIMITED, detail, RETRY_LATER)
        self._open[address] += 1
        try:
            try:
                cursor = await self._feed.begin(begin)
            except LogUnavailable as error:
                raise Refusal(Problem.UNAVAILABLE, str(error), RETRY_LATER) from None
            return await self._stream(request, self._feed, cursor, wanted)
        finally:
            self._open[address] -= 1
            if not self._open[address]:
                del self._open[address]

    async def _stream(
        self, request: web.Request, feed: Feed, cursor: Cursor, wanted: Filter
    ) -> web.StreamResponse:
        response = web.StreamResponse(
            headers={
                "Content-Type": "text/event-stream; charset=utf-8",
                "Cache-Control": "no-store",
                "X-Accel-Buffering": "no",
            }
        )
        await response.prepare(request)
        sent_at = time.monotonic()
        try:
            await _write(response, f"retry: {RETRY_MILLISECONDS}\nid: {cursor}\n\n".encode())
            async with aclosing(feed.follow(cursor, wanted, TICK_SECONDS)) as steps:
                async for step in steps:
                    due = time.monotonic() - sent_at >= KEEP_ALIVE_SECONDS
                    if await self._send(response, cursor, step, due):
                        request.app[HTTP_METRICS].feed_events.inc(len(step.events))
                        sent_at = time.monotonic()
                    if self._closing or request.transport is None:
                        break
        except PositionLost as error:
            body = orjson.dumps({"error": str(error)})
            await _write(response, b"event: error\ndata: " + body + b"\n\n")
        except TimeoutError:
            log.info("feed_client_too_slow", seconds=WRITE_SECONDS)
            response.force_close()
            if request.transport is not None:
                request.transport.abort()
        except ConnectionResetError:
            log.debug("feed_client_gone")
        return response

    async def _send(
        self, response: web.StreamResponse, cursor: Cursor, step: Step, due: bool
    ) -> bool:
        """Write a step and move the cursor; whether anything was written."""
        piece = bytearray()
        for event in step.events:
            cursor.advance({event.seat: event.offset + 1})
            piece += encoded(event, cursor)
            if len(piece) >= PIECE_BYTES:
                await _write(response, bytes(piece))
                piece.clear()
        if step.positions is not None:
            cursor.advance(step.positions)
        if due and not step.events:
            why = f": waits: {step.waits_for}\n" if step.waits_for else ""
            piece += f": keep-alive\n{why}id: {cursor}\n\n".encode()
        if piece:
            await _write(response, bytes(piece))
        return bool(piece or step.events)


def encoded(event: Event, cursor: Cursor) -> bytes:
    """JSON holds no line break, so one `data:` line holds an event."""
    return b"id: %s\nevent: %s\ndata: %s\n\n" % (
        str(cursor).encode(),
        event.kind.encode(),
        orjson.dumps(event.shown()),
    )


async def _write(response: web.StreamResponse, piece: bytes) -> None:
    """Waits while the client has not taken what was sent before. Raises TimeoutError."""
    async with asyncio.timeout(WRITE_SECONDS):
        await response.write(piece)


def parse_request(request: web.Request) -> tuple[Filter, Cursor | str | int]:
    """The filter, and where to begin: a cursor, START, NOW or Unix milliseconds. `Last-Event-ID`
    counts before `from`, which stays in a reconnecting client's URL. Raises InvalidQuery."""
    names = set(request.query)
    if names - PARAMETERS:
        unknown = sorted(names - PARAMETERS)[0][:100]
        allowed = ", ".join(sorted(PARAMETERS))
        raise InvalidQuery(f"{unknown}: unknown parameter; allowed: {allowed}")
    begins: Iterable[str] = request.query.getall("from", [NOW])
    texts = list(begins)
    if len(texts) > 1:
        raise InvalidQuery("from: given more than once")
    given = {name: request.query.getall(name) for name in names - {"from"}}
    wanted = parse(given)
    last = request.headers.get("Last-Event-ID", "")
    if last:
        return wanted, Cursor.decode(last, "Last-Event-ID")
    return wanted, parse_begin(texts[0])


def parse_begin(text: str) -> Cursor | str | int:
    """Raises InvalidQuery."""
    if text in (START, NOW):
        return text
    try:
        moment = datetime.fromisoformat(text.replace(" ", "+"))
        if moment.tzinfo is None:
            moment = moment.replace(tzinfo=UTC)
        milliseconds = int(moment.timestamp() * 1000)
    except (ValueError, OverflowError):
        return Cursor.decode(text)
    if milliseconds < 0:
        raise InvalidQuery("from: a time before 1970")
    return milliseconds


FEED = web.AppKey("feed", FeedDoor)


@streaming
async def _serve(request: web.Request) -> web.StreamResponse:
    return await request.app[FEED].serve(request)


def routes() -> list[web.RouteDef]:
    return [web.get("/feed", _serve, allow_head=False)]
