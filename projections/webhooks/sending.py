"""One attempt to deliver one event: what is sent, and what the answer means."""

from __future__ import annotations

import hashlib
import re
import socket
import time
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
from aiohttp.abc import ResolveResult
from aiohttp.resolver import ThreadedResolver

from orchestrator.metrics import WEBHOOK_SECONDS, timed
from projections.feed.events import Event
from projections.webhooks.endpoints import Endpoint, is_forbidden
from projections.webhooks.signing import headers

READ_BYTES = 4096
"""Of an answer's body, which says nothing to us; the connection can then be used again."""
LONGEST_WAIT_SECONDS = 3600.0


@dataclass(frozen=True, slots=True)
class Message:
    """`webhook_id` is a function of the fact and its place: the same at every attempt."""

    event: Event
    webhook_id: str
    body: bytes


def message_of(event: Event) -> Message:
    """The id holds no full stop, which separates the parts of what is signed."""
    fact_id = event.fact_id or ""
    digest = hashlib.sha256(fact_id.encode()).hexdigest()[:16]
    place = f"{event.topic.replace('.', '_')}-{event.partition}-{event.offset}"
    data = {**event.shown(), "factId": event.fact_id}
    body = orjson.dumps({"type": event.kind, "timestamp": event.at, "data": data})
    return Message(event, f"{place}-{digest}", body)


@dataclass(frozen=True, slots=True)
class Answer:
    """`problem` is None when the endpoint took it; fit to be shown: it holds no URL and nothing of
    the answer's body. `wait_seconds` is what a 429 or 503 asks for."""

    problem: str | None = None
    status: int | None = None
    wait_seconds: float | None = None


class _Forbidden(OSError):
    pass


class _GuardedResolver(ThreadedResolver):
    """Refuses names that lead where no receiver of ours can live."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        found = await super().resolve(host, port, family)
        if any(is_forbidden(item["host"]) for item in found):
            raise _Forbidden(None, "the name leads to a link-local address")
        return found


class Sender:
    """HTTP to one endpoint. Redirects are not followed, proxies of the environment not used."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._session: aiohttp.ClientSession | None = None

    async def send(self, message: Message) -> Answer:
        """One attempt. Raises nothing but CancelledError."""
        endpoint, now = self._endpoint, int(time.time())
        signed = headers(endpoint.secrets, message.webhook_id, now, message.body)
        with timed(WEBHOOK_SECONDS, endpoint.name):
            try:
                async with self._opened().post(
                    endpoint.url,
                    data=message.body,
                    headers={"Content-Type": "application/json", **signed},
                    allow_redirects=False,
                ) as response:
                    await response.content.read(READ_BYTES)
                    return answer_of(response.status, response.headers.get("Retry-After"))
            except TimeoutError:
                return Answer(f"no answer within {endpoint.timeout_seconds:g} s")
            except (aiohttp.ClientError, OSError, ValueError) as error:
                cause: Any = getattr(error, "os_error", error)
                kind = cause.strerror if isinstance(cause, _Forbidden) else type(error).__name__
                return Answer(f"cannot be reached ({kind})")

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=self._endpoint.timeout_seconds),
                connector=aiohttp.TCPConnector(resolver=_GuardedResolver(), limit=2),
                headers={"User-Agent": "stablecoin-orchestrator-webhooks/1"},
                cookie_jar=aiohttp.DummyCookieJar(),
                trust_env=False,
            )
        return self._session

    async def close(self) -> None:
        if self._session is not None:
            await self._session.close()


def answer_of(status: int, retry_after: str | None) -> Answer:
    if 200 <= status < 300:
        return Answer(status=status)
    wait = None
    if status in (429, 503) and retry_after and re.fullmatch(r"[0-9]{1,6}", retry_after):
        wait = min(float(retry_after), LONGEST_WAIT_SECONDS)
    more = ", and redirects are not followed" if 300 <= status < 400 else ""
    return Answer(f"answered {status}{more}", status, wait)
