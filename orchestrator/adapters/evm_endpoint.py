"""One URL of an EVM node: JSON-RPC 2.0 over HTTP POST, single and in batches.

Written on aiohttp, which web3's AsyncHTTPProvider uses as well. The provider itself is not used: as
of web3 8.0 it opens a new connection for every request (`force_close=True`), takes a thread-pool
lock each time, raises on HTTP errors with the whole URL in the text and without reading the body in
which nodes explain themselves, reads answers of any size, retries on its own, and sorts a batch's
answers instead of matching them by id.
"""

from __future__ import annotations

import random
import time
from collections.abc import Sequence
from itertools import count
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson

from orchestrator.adapters.evm_errors import classify, classify_http
from orchestrator.errors import RETRYABLE, RpcError, RpcProblem

Request = tuple[str, list[Any]]
"""Method and parameters."""

Answer = Any
"""A result, or an RpcError in its place. (The type cannot say so: a result is any JSON.)"""

LARGEST_ANSWER_BYTES = 64 * 1024 * 1024
SHORTEST_COOL_DOWN_SECONDS = 0.25
LONGEST_COOL_DOWN_SECONDS = 30.0
BATCH_LIMIT_LASTS_SECONDS = 600.0


class BatchRefused(Exception):
    """The provider takes no batch, or none of this size. The text is fit to be shown."""


class Endpoint:
    """One URL with what is known of its health. Its `name` holds no secret: number and host."""

    def __init__(self, number: int, url: str, *, batch_size: int) -> None:
        self._url = url
        self._ids = count(1)
        self.name = f"URL {number} ({_host_of(url)})"
        self.verified = False
        self.cool_until = 0.0
        self._left_halfway_at = float("-inf")
        self._failures = 0
        self._batch_size = batch_size
        self._batch_limit = batch_size
        self._batch_limit_until = 0.0

    def __repr__(self) -> str:
        return f"Endpoint({self.name})"

    @property
    def batch_limit(self) -> int:
        """How many calls to put into one batch; smaller for a while after a refusal."""
        if time.monotonic() >= self._batch_limit_until:
            self._batch_limit = self._batch_size
        return self._batch_limit

    def refuse_batches_above(self, size: int) -> None:
        self._batch_limit = max(1, size)
        self._batch_limit_until = time.monotonic() + BATCH_LIMIT_LASTS_SECONDS

    def succeeded(self) -> None:
        self._failures = 0
        self.cool_until = 0.0

    def failed(self) -> None:
        """Cool down: 0.25 s, doubling up to 30 s, times 0.5 to 1.5 by chance. The chain id is asked
        again afterwards: what answers then may be another node. Of requests that fail at the same
        time, the first one counts."""
        self.verified = False
        if time.monotonic() < self.cool_until:
            return
        longest = SHORTEST_COOL_DOWN_SECONDS * 2 ** min(self._failures, 10)
        jitter = random.uniform(0.5, 1.5)  # noqa: S311 - no secret
        self._failures += 1
        self.cool_until = time.monotonic() + min(longest, LONGEST_COOL_DOWN_SECONDS) * jitter

    def left_halfway(self) -> None:
        """It answered the first of what belongs together, and then not the rest. A cool-down does
        not tell of that: it ends, and is forgotten with the next first answer."""
        self._left_halfway_at = time.monotonic()

    @property
    def doubt(self) -> float:
        """When it last left something halfway; -inf once that is long ago."""
        is_recent = time.monotonic() - self._left_halfway_at < LONGEST_COOL_DOWN_SECONDS
        return self._left_halfway_at if is_recent else float("-inf")

    def contradicted(self) -> None:
        """Cool down for long: it shows another chain than the log and the other nodes."""
        self.verified = False
        self.cool_until = time.monotonic() + LONGEST_COOL_DOWN_SECONDS

    async def single(self, session: aiohttp.ClientSession, request: Request) -> Answer:
        """The result, or an RpcError as a value."""
        call = self._call(request)
        try:
            status, body = await self._post(session, call)
        except RpcError as error:
            return error
        answer = _parsed(body)
        if not isinstance(answer, dict) or not ("result" in answer or "error" in answer):
            return self._not_rpc(status, body)
        if answer.get("id") not in (call["id"], None):
            return RpcError(RpcProblem.UNAVAILABLE, f"{self.name} answered another request")
        return _outcome(answer, status)

    async def batch(
        self, session: aiohttp.ClientSession, requests: Sequence[Request]
    ) -> list[Answer]:
        """Each answer at its request's place; what was left unanswered is UNAVAILABLE.

        Raises BatchRefused when it may work with fewer, RpcError when nothing was answered.
        """
        calls = [self._call(request) for request in requests]
        status, body = await self._post(session, calls)
        answers = _parsed(body)
        if isinstance(answers, dict) and "error" in answers:
            error = _error_of(answers["error"], status)
            if error.problem in RETRYABLE and "batch" not in error.detail.lower():
                raise error
            raise BatchRefused(str(error))
        if not isinstance(answers, list):
            error = self._not_rpc(status, body)
            if status == 429 or status >= 500 or status in (401, 402, 403):
                raise error
            raise BatchRefused(str(error))
        by_id = {
            answer["id"]: answer
            for answer in answers
            if isinstance(answer, dict) and isinstance(answer.get("id"), int)
        }
        missing = RpcError(RpcProblem.UNAVAILABLE, f"{self.name} left this call unanswered")
        return [
            _outcome(by_id[call["id"]], status) if call["id"] in by_id else missing
            for call in calls
        ]

    def _not_rpc(self, status: int, body: bytes) -> RpcError:
        error = classify_http(status, body[:4096].decode("utf-8", "replace"))
        return RpcError(error.problem, f"{self.name}: {error.detail}")

    def _call(self, request: Request) -> dict[str, Any]:
        method, parameters = request
        return {"jsonrpc": "2.0", "id": next(self._ids), "method": method, "params": parameters}

    async def _post(self, session: aiohttp.ClientSession, content: Any) -> tuple[int, bytes]:
        """Status and body. Raises RpcError(UNAVAILABLE) when no whole answer came.

        A connection that was kept open may be closed by the node just as it is used again; that
        says nothing of the node, so the request is repeated once. (Each may be: see Endpoints.)
        """
        data = orjson.dumps(content)
        try:
            try:
                return await self._posted(session, data)
            except aiohttp.ClientConnectorError:
                raise
            except (aiohttp.ServerDisconnectedError, aiohttp.ClientOSError):
                return await self._posted(session, data)
        except TimeoutError:
            raise RpcError(RpcProblem.UNAVAILABLE, f"{self.name} did not answer in time") from None
        except (aiohttp.ClientError, OSError, ValueError) as error:
            kind = type(error).__name__  # the text would show the URL
            raise RpcError(RpcProblem.UNAVAILABLE, f"{self.name}: {kind}") from None

    async def _posted(self, session: aiohttp.ClientSession, data: bytes) -> tuple[int, bytes]:
        headers = {"Content-Type": "application/json"}
        async with session.post(
            self._url, data=data, headers=headers, allow_redirects=False
        ) as response:
            body = bytearray()
            async for piece in response.content.iter_any():
                body += piece
                if len(body) > LARGEST_ANSWER_BYTES:
                    text = f"{self.name} answered more than {LARGEST_ANSWER_BYTES} bytes"
                    raise RpcError(RpcProblem.RANGE_TOO_LARGE, text)
            return response.status, bytes(body)


def _host_of(url: str) -> str:
    try:
        parts = urlsplit(url)
        return f"{parts.hostname}:{parts.port}" if parts.port else str(parts.hostname)
    except ValueError:
        return "unreadable"


def _parsed(body: bytes) -> Any:
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError:
        return None


def _outcome(answer: dict[str, Any], status: int) -> Answer:
    """The result, or the classified error, of one JSON-RPC answer."""
    if answer.get("error") is None:
        return answer.get("result")
    return _error_of(answer["error"], status)


def _error_of(content: Any, status: int) -> RpcError:
    """The text decides; the HTTP status does where the text says nothing."""
    content = content if isinstance(content, dict) else {"message": str(content)}
    code = content.get("code")
    error = classify(
        code if isinstance(code, int) else None,
        str(content.get("message", "")),
        content.get("data"),
    )
    if error.problem is RpcProblem.UNEXPECTED and status == 429:
        return RpcError(RpcProblem.RATE_LIMITED, error.detail)
    if error.problem is RpcProblem.UNEXPECTED and status >= 500:
        return RpcError(RpcProblem.UNAVAILABLE, error.detail)
    return error
