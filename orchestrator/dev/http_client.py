"""Small blocking HTTP and JSON-RPC clients for driving the stack; call them in a thread.

Standard library only and without state, so that they work from any thread, loop or fixture.
"""

from __future__ import annotations

import itertools
import json
import urllib.error
import urllib.request
from collections.abc import Mapping, Sequence
from typing import Any

_counter = itertools.count(1)
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpError(RuntimeError):
    """An answer that is not a success: `status` and the body's text."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(f"HTTP {status}: {text[:500]}")
        self.status = status


class RpcError(RuntimeError):
    """The error object of a JSON-RPC answer."""

    def __init__(self, error: dict[str, Any]) -> None:
        super().__init__(str(error.get("message")))
        self.code = error.get("code")
        self.data = error.get("data")


def request_json(
    method: str,
    url: str,
    body: Any = None,
    *,
    timeout: float = 30,
    headers: Mapping[str, str] | None = None,
) -> Any:
    """One request with JSON in and out. Raises `HttpError`, or OSError when nobody answers."""
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url, data=data, method=method)
    for name, value in {"Content-Type": "application/json", **(headers or {})}.items():
        request.add_header(name, value)
    try:
        with _opener.open(request, timeout=timeout) as answer:
            return json.loads(answer.read() or b"null")
    except urllib.error.HTTPError as error:
        raise HttpError(error.code, error.read().decode(errors="replace")) from error


def rpc(url: str, method: str, *params: Any, timeout: float = 30) -> Any:
    """One JSON-RPC call; raises `RpcError` for an error answer."""
    body = {"jsonrpc": "2.0", "id": next(_counter), "method": method, "params": list(params)}
    answer = request_json("POST", url, body, timeout=timeout)
    if "error" in answer:
        raise RpcError(answer["error"])
    return answer["result"]


def rpc_batch(url: str, calls: Sequence[tuple[str, Sequence[Any]]], timeout: float = 60) -> Any:
    """Many calls in one request; results in the order of the calls. Raises the first error."""
    if not calls:
        return []
    body = [
        {"jsonrpc": "2.0", "id": index, "method": method, "params": list(params)}
        for index, (method, params) in enumerate(calls)
    ]
    answers = request_json("POST", url, body, timeout=timeout)
    for answer in answers:
        if "error" in answer:
            raise RpcError(answer["error"])
    return [answer["result"] for answer in sorted(answers, key=lambda answer: int(answer["id"]))]
