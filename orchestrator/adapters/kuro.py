"""Kuro, the bank's compliance service: a socket tells of mints, and a REST list closes its gaps.

Both run for ever and independently of each other. The list is fetched after every connect, never
before: what is allowed while the socket is down stands on the list, what is allowed afterwards
comes by the socket, and what comes by both is the same fact.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import AsyncGenerator, Coroutine
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import structlog

from orchestrator.adapters.kuro_messages import (
    LARGEST_MESSAGE_BYTES,
    Ignored,
    MalformedMessage,
    Received,
    items_of,
    parse,
)
from orchestrator.metrics import KURO_FAILURES
from schemas.kuro import Via

__all__ = ["Ignored", "KuroHealth", "KuroSource", "MalformedMessage", "Received", "parse"]

log = structlog.get_logger(__name__)

PENDING_PATH = "/mint-requests/pending"
LARGEST_LIST_BYTES = 64 * 1024 * 1024
PONG_SECONDS = 4.0
ENDS = (
    aiohttp.WSMsgType.CLOSE,
    aiohttp.WSMsgType.CLOSING,
    aiohttp.WSMsgType.CLOSED,
    aiohttp.WSMsgType.ERROR,
)


@dataclass(slots=True)
class KuroHealth:
    """What is known now, and counts since the start. Times are Unix seconds; `last_…_error` is the
    text of the newest trouble, None once it is over."""

    connected_since: float | None = None
    last_message_at: float | None = None
    last_list_at: float | None = None
    last_socket_error: str | None = None
    last_list_error: str | None = None
    connects: int = 0
    socket_messages: int = 0
    socket_failures: int = 0
    lists: int = 0
    list_messages: int = 0
    list_failures: int = 0


class KuroSource:
    """Raw messages of both ways. Times in seconds.

    `heartbeat_seconds` after the last byte a ping is sent; half of that again without an answer and
    the connection counts as dead, so a half-open one is found within 1.5 heartbeats. Delays between
    attempts double from the shortest to the longest, each times 0.5 to 1.5 by chance. At most
    `queue_size` messages wait here; then nothing is read from Kuro until some are taken. (If that
    lasts longer than the heartbeat, the socket is reconnected and the list closes the gap.)
    """

    def __init__(
        self,
        websocket_url: str,
        rest_url: str,
        *,
        rest_interval_seconds: float = 30.0,
        heartbeat_seconds: float = 10.0,
        shortest_delay_seconds: float = 0.2,
        longest_delay_seconds: float = 10.0,
        timeout_seconds: float = 10.0,
        queue_size: int = 10_000,
    ) -> None:
        self._websocket_url = websocket_url
        self._list_url = rest_url.rstrip("/") + PENDING_PATH
        self._rest_interval = rest_interval_seconds
        self._heartbeat = heartbeat_seconds
        self._delays = (shortest_delay_seconds, longest_delay_seconds)
        self._timeout = timeout_seconds
        self._queue: asyncio.Queue[Received | Exception] = asyncio.Queue(queue_size)
        self._list_wanted = asyncio.Event()
        self.health = KuroHealth()

    async def messages(self) -> AsyncGenerator[Received, None]:
        """`batches` one by one."""
        async with aclosing(self.batches(1)) as batches:
            async for batch in batches:
                yield batch[0]

    async def batches(self, largest: int) -> AsyncGenerator[list[Received], None]:
        """Every message, repeated ones too, without end: what waits, at most `largest` at a time.
        Close the iterator (`aclosing`) to disconnect. For one consumer at a time."""
        async with aiohttp.ClientSession() as session:
            tasks = [
                asyncio.create_task(self._guarded(self._socket_loop(session))),
                asyncio.create_task(self._guarded(self._list_loop(session))),
            ]
            try:
                while True:
                    batch = [await self._queue.get()]
                    while len(batch) < largest and not self._queue.empty():
                        batch.append(self._queue.get_nowait())
                    for item in batch:
                        if isinstance(item, Exception):
                            raise item
                    yield [item for item in batch if isinstance(item, Received)]
            finally:
                for task in tasks:
                    task.cancel()
                await asyncio.gather(*tasks, return_exceptions=True)

    async def probe(self) -> tuple[str | None, str | None]:
        """One connection and one reading of the list: what is wrong with each, None for nothing."""
        foreseen = (aiohttp.ClientError, OSError, TimeoutError, ValueError)
        problems: list[str | None] = []
        async with aiohttp.ClientSession() as session:
            for attempt in (self._opens(session), self._pending(session)):
                try:
                    await attempt
                    problems.append(None)
                except foreseen as error:
                    problems.append(_described(error))
        return problems[0], problems[1]

    async def _opens(self, session: aiohttp.ClientSession) -> None:
        """Open, and answering a ping: a half-open connection is opened as well as any other."""
        async with (
            asyncio.timeout(self._timeout),
            session.ws_connect(self._websocket_url, autoping=False) as socket,
        ):
            await socket.ping()
            try:
                async with asyncio.timeout(PONG_SECONDS):
                    while True:
                        message = await socket.receive()
                        if message.type is aiohttp.WSMsgType.PONG:
                            return
                        if message.type in ENDS:
                            raise ValueError(f"closed by Kuro (code {socket.close_code})")
            except TimeoutError:
                raise ValueError(
                    "it opens and answers no ping (RFC 6455, section 5.5.2): mints come by the list"
                ) from None

    async def _guarded(self, loop: Coroutine[Any, Any, None]) -> None:
        """A loop never ends; should a fault of ours end it, the consumer learns of it."""
        try:
            await loop
        except Exception as error:  # noqa: BLE001 - handed on, not swallowed
            await self._queue.put(error)

    async def _socket_loop(self, session: aiohttp.ClientSession) -> None:
        failures = 0
        while True:
            before = self.health.socket_messages
            try:
                await self._listen(session)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                self.health.last_socket_error = _described(error)
            finally:
                self.health.connected_since = None
            self.health.socket_failures += 1
            KURO_FAILURES.labels("socket").inc()
            if self.health.socket_messages > before:
                failures = 0
            delay = self._delay(failures)
            failures += 1
            log.warning(
                "kuro socket down",
                host=urlsplit(self._websocket_url).hostname,
                reason=self.health.last_socket_error,
                retry_in_seconds=round(delay, 2),
            )
            await asyncio.sleep(delay)

    async def _listen(self, session: aiohttp.ClientSession) -> None:
        """One connection until it ends. Leaves the reason in `health.last_socket_error`."""
        health = self.health
        async with (
            asyncio.timeout(self._timeout) as connecting,
            session.ws_connect(
                self._websocket_url,
                heartbeat=self._heartbeat,
                max_msg_size=LARGEST_MESSAGE_BYTES,
                decode_text=False,
                timeout=aiohttp.ClientWSTimeout(ws_close=1.0),
            ) as socket,
        ):
            connecting.reschedule(None)
            health.connected_since = time.time()
            health.connects += 1
            health.last_socket_error = None
            self._list_wanted.set()
            log.info("kuro socket connected", host=urlsplit(self._websocket_url).hostname)
            while True:
                message = await socket.receive()
                if message.type not in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY):
                    break
                health.socket_messages += 1
                health.last_message_at = time.time()
                await self._queue.put(Received(bytes(message.data), Via.SOCKET))
            fault = message.data if isinstance(message.data, Exception) else socket.exception()
            closed = f"closed by Kuro (code {socket.close_code})"
            health.last_socket_error = _described(fault) if fault else closed

    async def _list_loop(self, session: aiohttp.ClientSession) -> None:
        failures = 0
        while True:
            wait = self._rest_interval
            if failures:
                wait = min(wait, self._delay(failures - 1))
            with suppress(TimeoutError):
                async with asyncio.timeout(wait):
                    await self._list_wanted.wait()
            self._list_wanted.clear()
            try:
                items = await self._pending(session)
            except (aiohttp.ClientError, OSError, TimeoutError, ValueError) as error:
                failures += 1
                self.health.list_failures += 1
                KURO_FAILURES.labels("list").inc()
                self.health.last_list_error = _described(error)
                log.warning("kuro list failed", reason=self.health.last_list_error)
                continue
            failures = 0
            self.health.lists += 1
            self.health.last_list_at = time.time()
            self.health.last_list_error = None
            for item in items:
                self.health.list_messages += 1
                await self._queue.put(Received(item, Via.REST))

    async def _pending(self, session: aiohttp.ClientSession) -> list[bytes]:
        """The items of the list of pending mint requests. Raises ValueError for anything else.

        Of a list that is too large the first items are taken; as they are minted and leave it, the
        others come into reach. The trouble is told all the same.
        """
        timeout = aiohttp.ClientTimeout(total=self._timeout)
        async with session.get(self._list_url, timeout=timeout) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > LARGEST_LIST_BYTES:
                    break
            if response.status != 200:
                raise ValueError(f"HTTP {response.status}")
        if len(body) > LARGEST_LIST_BYTES:
            log.error("kuro's list is too large, its beginning is taken", most=LARGEST_LIST_BYTES)
        return items_of(bytes(body), may_be_cut=len(body) > LARGEST_LIST_BYTES)

    def _delay(self, failures: int) -> float:
        shortest, longest = self._delays
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        return float(min(shortest * 2 ** min(failures, 20), longest) * jitter)


def _described(error: BaseException) -> str:
    """Without the URL, which may hold a key: the text of our own errors, the class of others, and
    the HTTP status where there is one."""
    if isinstance(error, aiohttp.ClientResponseError):
        return f"HTTP {error.status}"
    if type(error) is ValueError or isinstance(error, aiohttp.WebSocketError):
        return str(error)
    return type(error).__name__
