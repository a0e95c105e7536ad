"""What a client may ask of the list of requests: parsed, checked, and as SQL conditions. Pure."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, LiteralString

import orjson

from orchestrator.core.lifecycle import Stage, Status
from orchestrator.errors import OrchestratorError
from projections.text import from_column, to_column
from schemas.base import RequestType

DEFAULT_LIMIT = 50
LARGEST_LIMIT = 200
LARGEST_CHAIN_ID = 2**63 - 1
LARGEST_TEXT = 2000

_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


class InvalidQuery(OrchestratorError):
    """The request cannot be answered as asked; says which parameter, why, and what is allowed."""


@dataclass(frozen=True, slots=True)
class Cursor:
    """The last item of a page: the next one begins below it."""

    created_at: datetime
    request_key: str

    def encode(self) -> str:
        body = orjson.dumps([self.created_at.isoformat(), self.request_key])
        return base64.urlsafe_b64encode(body).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str) -> Cursor:
        """Raises InvalidQuery."""
        try:
            body = orjson.loads(base64.b64decode(text + "=" * (-len(text) % 4), b"-_", True))
            created_at, request_key = body
            moment = datetime.fromisoformat(created_at)
            if moment.tzinfo is None or not isinstance(request_key, str):
                raise ValueError
        except (ValueError, TypeError, binascii.Error):
            raise InvalidQuery(
                "cursor: not one of ours; pass the `next` of the page before, unchanged"
            ) from None
        return cls(moment, request_key)


@dataclass(frozen=True, slots=True)
class ListQuery:
    """Filters that must all hold, and the page. Texts as clients write them."""

    type: RequestType | None = None
    status: Status | None = None
    stage: Stage | None = None
    chain_id: int | None = None
    user: str | None = None
    fiat_ref: str | None = None
    tx_hash: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    search: str | None = None
    at: datetime | None = None
    cursor: Cursor | None = None
    limit: int = DEFAULT_LIMIT

    def conditions(self) -> tuple[LiteralString, list[Any]]:
        """`WHERE ...` and its parameters. `createdFrom` is inclusive, `createdTo` exclusive."""
        wanted: list[tuple[LiteralString, Any]] = [
            ("type = %s", self.type),
            ("status = %s", self.status),
            ("stage = %s", self.stage),
            ("chain_id = %s", self.chain_id),
            (_USER, _column(self.user)),
            (_FIAT_REF, _column(self.fiat_ref)),
            ("tx_hash = %s", self.tx_hash),
            ("created_at >= %s", self.created_from),
            ("created_at < %s", self.created_to),
        ]
        used = [(sql, value) for sql, value in wanted if value is not None]
        parts: list[LiteralString] = [sql for sql, _ in used]
        values: list[Any] = [value for sql, value in used for _ in range(sql.count("%s"))]
        if self.cursor is not None:
            parts.append("(created_at, request_key) < (%s, %s)")
            values += [self.cursor.created_at, to_column(self.cursor.request_key)]
        return ("WHERE " + " AND ".join(parts) if parts else "WHERE true"), values

    def searches(self) -> list[tuple[LiteralString, list[Any]]]:
        """What `search` may mean, one condition each: id, address, fiatRef or transaction as a
        whole, or a key's start. Each has an index of its own, so that a million rows are not read
        for a word; empty without a search."""
        if self.search is None:
            return []
        word = to_column(self.search)
        return [
            ("request_key >= %s AND request_key < %s", [word, word + "\U0010ffff"]),
            ("request_id = %s", [word]),
            (_USER, [word, word]),
            (_FIAT_REF, [word, word]),
            ("tx_hash = %s", [word.lower()]),
        ]


_USER: LiteralString = (
    "left(lower(user_address), 200) = left(lower(%s), 200) AND lower(user_address) = lower(%s)"
)
_FIAT_REF: LiteralString = "left(fiat_ref, 200) = left(%s, 200) AND fiat_ref = %s"
"""The first part is what the index holds: a B-tree takes no text of any length."""


def _column(text: str | None) -> str | None:
    return None if text is None else to_column(text)


def parse_list_query(pairs: Iterable[tuple[str, str]]) -> ListQuery:
    """From the query string. Raises InvalidQuery for the first parameter that is wrong."""
    given = _once(pairs, _PARSERS)
    return ListQuery(**{_FIELDS[name]: _PARSERS[name](name, text) for name, text in given.items()})


def parse_status_query(pairs: Iterable[tuple[str, str]]) -> tuple[int | None, datetime | None]:
    """`chainId` and `at` of `GET /status/{requestKey}`."""
    given = _once(pairs, {"chainId": _chain_id, "at": _instant})
    chain_id = _chain_id("chainId", given["chainId"]) if "chainId" in given else None
    return chain_id, _instant("at", given["at"]) if "at" in given else None


def parse_moment(pairs: Iterable[tuple[str, str]]) -> datetime | None:
    """`at`, the only parameter."""
    given = _once(pairs, {"at": _instant})
    return _instant("at", given["at"]) if given else None


def refuse_parameters(pairs: Iterable[tuple[str, str]]) -> None:
    _once(pairs, {})


def _once(pairs: Iterable[tuple[str, str]], allowed: Mapping[str, Any]) -> dict[str, str]:
    given: dict[str, str] = {}
    for name, text in pairs:
        if name not in allowed:
            known = ", ".join(sorted(allowed)) or "none"
            raise InvalidQuery(f"{name[:100]}: unknown parameter; allowed: {known}")
        if name in given:
            raise InvalidQuery(f"{name}: given more than once")
        given[name] = text
    return given


def _choice(kind: type[StrEnum]) -> Any:
    def parse(name: str, text: str) -> StrEnum:
        try:
            return kind(text.upper())
        except ValueError:
            allowed = ", ".join(kind)
            raise InvalidQuery(f"{name}: {text[:100]!r} is not one of {allowed}") from None

    return parse


def _number(name: str, text: str, largest: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 20 and 1 <= int(text) <= largest):
        raise InvalidQuery(f"{name}: {text[:100]!r} is not a whole number from 1 to {largest}")
    return int(text)


def _chain_id(name: str, text: str) -> int:
    return _number(name, text, LARGEST_CHAIN_ID)


def parse_chain_id(text: str) -> int:
    """A chain id in a path."""
    return _chain_id("chainId", text)


def _limit(name: str, text: str) -> int:
    return _number(name, text, LARGEST_LIMIT)


def _text(name: str, text: str) -> str:
    if not 1 <= len(text) <= LARGEST_TEXT:
        raise InvalidQuery(f"{name}: must have 1 to {LARGEST_TEXT} characters")
    return text


def _hash(name: str, text: str) -> str:
    if not _HASH.fullmatch(text):
        raise InvalidQuery(f"{name}: {text[:100]!r} is not 0x and 64 hex digits")
    return text.lower()


def _instant(name: str, text: str) -> datetime:
    """A `+` that the client did not encode arrives as a space; it can mean nothing else here."""
    try:
        value = datetime.fromisoformat(text.replace(" ", "+") if "T" in text else text)
        if value.tzinfo is None:
            value = value.replace(tzinfo=UTC)
        return value.astimezone(UTC)
    except (ValueError, OverflowError):
        raise InvalidQuery(
            f"{name}: {text[:100]!r} is not an RFC 3339 time such as 2026-01-31T12:00:00Z"
        ) from None


def _cursor(name: str, text: str) -> Cursor:
    return Cursor.decode(_text(name, text))


_PARSERS: dict[str, Any] = {
    "type": _choice(RequestType),
    "status": _choice(Status),
    "stage": _choice(Stage),
    "chainId": _chain_id,
    "user": _text,
    "fiatRef": _text,
    "txHash": _hash,
    "createdFrom": _instant,
    "createdTo": _instant,
    "search": _text,
    "at": _instant,
    "cursor": _cursor,
    "limit": _limit,
}
_FIELDS = {
    "type": "type",
    "status": "status",
    "stage": "stage",
    "chainId": "chain_id",
    "user": "user",
    "fiatRef": "fiat_ref",
    "txHash": "tx_hash",
    "createdFrom": "created_from",
    "createdTo": "created_to",
    "search": "search",
    "at": "at",
    "cursor": "cursor",
    "limit": "limit",
}


def cursor_of(row: Mapping[str, Any]) -> str:
    """The cursor that goes on below a row of `requests`."""
    return Cursor(row["created_at"], from_column(row["request_key"])).encode()
