"""What Kuro's messages mean: bytes to a `MintOk`, or why not. Pure.

A mint comes bare, `{"requestId": …}`, or wrapped, `{"type": "mintOk", "data": {"requestId": …}}`. A
message with any other type is not a mint, whatever else it holds, and is ignored.

What is malformed is refused here, since no request could be named or no fact be written. What is
well-formed but senseless (a user that is no address, an amount of zero) passes: the core rejects it
with a status that its sender can look up.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import orjson
from pydantic import ValidationError

from orchestrator.core.keys import REDEEM_PREFIX
from orchestrator.errors import OrchestratorError
from schemas.kuro import MintOk, Via

MINT_TYPE = "mintOk"
LARGEST_MESSAGE_BYTES = 1024 * 1024
LARGEST_CHAIN_ID = 2**63 - 1
LATEST_TIMESTAMP_MS = 253_402_300_799_999
"""The end of the year 9999."""

_REQUEST_ID = re.compile(r"[!-~]{1,200}")


@dataclass(frozen=True, slots=True)
class Received:
    """One message, untouched."""

    raw: bytes
    via: Via


@dataclass(frozen=True, slots=True)
class Ignored:
    """A message of a type that is not ours, for counting."""

    type: str


class MalformedMessage(OrchestratorError):
    """The message cannot become a fact; the text says why."""


def parse(raw: bytes, via: Via, default_chain_id: int) -> MintOk | Ignored:
    """Raises MalformedMessage and nothing else.

    A missing `timestamp` counts as 0 (not told): nothing is decided by it, and a mint that the bank
    allowed should not be lost for it. One that is there must be Unix milliseconds. Unknown fields
    are tolerated. Of a key that stands twice, the last counts.
    """
    body = _object(raw)
    kind = body.get("type", MINT_TYPE)
    if not isinstance(kind, str):
        raise MalformedMessage(f"type is {_shown(kind)}, not text")
    if kind != MINT_TYPE:
        return Ignored(kind[:100])
    data = body.get("data", body) if "type" in body else body
    if not isinstance(data, dict):
        raise MalformedMessage(f"data is {_shown(data)}, not an object")
    try:
        return MintOk(
            request_id=_request_id(data),
            user=_text(data, "user", 200),
            amount=_text(data, "amount", 200),
            fiat_ref=_text(data, "fiatRef", 500),
            chain_id=_chain_id(data, default_chain_id),
            timestamp_ms=_timestamp_ms(data),
            via=via,
        )
    except ValidationError as error:
        faults = error.errors(include_input=False, include_url=False)
        told = "; ".join(f"{fault['loc'][0]}: {fault['msg']}" for fault in faults)
        raise MalformedMessage(told) from None


def items_of(body: bytes, *, may_be_cut: bool = False) -> list[bytes]:
    """Each item of a JSON list as a message of its own, so that a bad one spoils no other. Raises
    ValueError for what is no list.

    Where the whole is not strict JSON (text that is no UTF-8, half of a surrogate pair, NaN, a
    broken end), it is cut into items as they stand, and each is judged by itself.
    """
    try:
        items = orjson.loads(body)
    except orjson.JSONDecodeError:
        return _told_apart(body, may_be_cut)
    if not isinstance(items, list):
        raise ValueError("the answer is not a JSON list")
    return [orjson.dumps(item) for item in items]


_MARKS = re.compile(rb'"(?:[^"\\]|\\.)*"|[\[\]{},]', re.DOTALL)


def _told_apart(body: bytes, may_be_cut: bool) -> list[bytes]:
    """Cut at the commas of the outermost list; without recursion, so that no depth can hurt."""
    text = body.strip()
    if text[:1] != b"[":
        raise ValueError("the answer is not JSON")
    items: list[bytes] = []
    depth, start = 0, 1
    for match in _MARKS.finditer(text):
        mark = match.group()
        if mark in (b"[", b"{"):
            depth += 1
        elif mark in (b"]", b"}"):
            depth -= 1
        if (mark == b"," and depth == 1) or depth == 0:
            items.append(text[start : match.start()].strip())
            start = match.end()
        if depth == 0:
            break
    if depth and not may_be_cut:
        items.append(text[start:].strip())
    if not items:
        raise ValueError("the answer is not JSON")
    return items


def _object(raw: bytes) -> dict[str, Any]:
    if len(raw) > LARGEST_MESSAGE_BYTES:
        raise MalformedMessage(f"{len(raw)} bytes, more than {LARGEST_MESSAGE_BYTES}")
    try:
        body = orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise MalformedMessage(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise MalformedMessage(f"{_shown(body)} is not a JSON object")
    return body


def _text(data: dict[str, Any], name: str, longest: int) -> str:
    if name not in data:
        raise MalformedMessage(f"{name} is missing")
    value = data[name]
    if not isinstance(value, str):
        hint = "; amounts are decimal strings of base units" if name == "amount" else ""
        raise MalformedMessage(f"{name} is {_shown(value)}, not text{hint}")
    if len(value) > longest:
        raise MalformedMessage(f"{name} has {len(value)} characters, more than {longest}")
    if "\x00" in value:
        raise MalformedMessage(f"{name} holds the character NUL, which no database column can")
    return value


def _request_id(data: dict[str, Any]) -> str:
    request_id = _text(data, "requestId", 200)
    if not _REQUEST_ID.fullmatch(request_id):
        raise MalformedMessage(
            f"requestId {_shown(request_id)} is not 1 to 200 printable ASCII characters without "
            "spaces"
        )
    if request_id.startswith(REDEEM_PREFIX):
        raise MalformedMessage(
            f"requestId {_shown(request_id)} begins with {REDEEM_PREFIX!r}, which is reserved"
        )
    return request_id


def _chain_id(data: dict[str, Any], default: int) -> int:
    value = data.get("chainId", default)
    if type(value) is not int or not 1 <= value <= LARGEST_CHAIN_ID:
        raise MalformedMessage(f"chainId is {_shown(value)}, not a positive integer")
    return value


def _timestamp_ms(data: dict[str, Any]) -> int:
    value = data.get("timestamp", 0)
    if type(value) is not int or not 0 <= value <= LATEST_TIMESTAMP_MS:
        raise MalformedMessage(f"timestamp is {_shown(value)}, not Unix time in milliseconds")
    return value


def _shown(value: object) -> str:
    """A glimpse of a value; containers by their kind alone, since they may be deep."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, list):
        return "a list"
    shown = repr(value[:80] if isinstance(value, str) else value)
    return shown if len(shown) <= 200 else shown[:199] + "…"
