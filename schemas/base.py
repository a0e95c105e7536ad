"""What a fact is, and its one form on the log.

A record's key is text. Its value is one line of canonical JSON (UTF-8, keys sorted, no spaces)
that carries `kind`, `id` and `at` beside the fact's own fields, so that `kcat -C` alone shows the
whole story and an exported file of values loses nothing. Headers repeat kind, schema version and
id for those who filter without parsing; `traceparent` (W3C Trace Context) follows where
there is one.

Amounts are `int` base units in Python and decimal strings in JSON: JSON numbers above 2**53 are
not safe to read everywhere. Addresses are EIP-55 checksummed, hashes are lower-case 0x hex.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import orjson
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer

UINT256_MAX = 2**256 - 1
INT64_MAX = 2**63 - 1
"""The largest JSON number: orjson writes no larger ones, and reads them as floats."""
SCHEMA_VERSION = 1


def _amount(value: object) -> object:
    if isinstance(value, str) and value.isascii() and value.isdigit():
        return int(value)
    return value


Amount = Annotated[
    int,
    BeforeValidator(_amount),
    Field(ge=0, le=UINT256_MAX, strict=True),
    PlainSerializer(str, return_type=str, when_used="json"),
]
"""Base units of a token or of the chain's currency, 0 to 2**256 - 1."""

Hex = Annotated[str, Field(pattern=r"^0x[0-9a-f]*$")]
Hash = Annotated[str, Field(pattern=r"^0x[0-9a-f]{64}$")]
Address = Annotated[str, Field(pattern=r"^0x[0-9a-fA-F]{40}$")]
ChainId = Annotated[int, Field(ge=1, le=INT64_MAX)]
Count = Annotated[int, Field(ge=0, le=INT64_MAX)]


class RequestType(StrEnum):
    MINT = "MINT"
    REDEEM = "REDEEM"


class Fact(BaseModel):
    """Something that happened, named in the past tense; never changed, never deleted.

    `id` is a function of the content: two facts with one id are the same fact. When their
    `essence` differs, the later one in log order is refused (dead letter), never merged.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    circumstances: ClassVar[frozenset[str]] = frozenset()
    """Fields that may differ between two tellings of the same fact (how it reached us, which of
    several equally valid signatures came first); all others must agree."""

    @property
    def kind(self) -> str:
        return type(self).__name__

    @property
    def id(self) -> str:
        raise NotImplementedError(f"{self.kind} must name its id")

    @property
    def key(self) -> str:
        """The record key on the fact's topic."""
        raise NotImplementedError(f"{self.kind} must name its key")

    def essence(self) -> dict[str, Any]:
        return {
            name: value for name, value in self.__dict__.items() if name not in self.circumstances
        }

    def agrees_with(self, other: Fact) -> bool:
        """True when both tell the same: equal ids are assumed."""
        return type(self) is type(other) and self.essence() == other.essence()


@dataclass(frozen=True, slots=True)
class Position:
    """Where a record stands on the log."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


@dataclass(frozen=True, slots=True)
class Record:
    """A fact as it stands on the log: with its time and, once appended, its position.

    `at` is when the writer appended it, RFC 3339 UTC with milliseconds. It is the only clock that
    the pure core ever sees.
    """

    fact: Fact
    at: str
    position: Position | None = None
    trace: str | None = None

    @property
    def at_seconds(self) -> int:
        return int(datetime.fromisoformat(self.at).timestamp())


class UnreadableRecord(ValueError):
    """The bytes are not a fact of this topic; says why. The reader dead-letters them."""


def instant(seconds: float) -> str:
    """RFC 3339 UTC with milliseconds from Unix seconds."""
    moment = datetime.fromtimestamp(seconds, UTC)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def encode_value(record: Record) -> bytes:
    """One line of canonical JSON."""
    body = record.fact.model_dump(mode="json", exclude_none=True)
    body["kind"] = record.fact.kind
    body["id"] = record.fact.id
    body["at"] = record.at
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS)


def encode_headers(record: Record) -> list[tuple[str, bytes]]:
    headers = [
        ("kind", record.fact.kind.encode()),
        ("schema", str(SCHEMA_VERSION).encode()),
        ("id", record.fact.id.encode()),
    ]
    if record.trace:
        headers.append(("traceparent", record.trace.encode()))
    return headers


def decode_value(
    value: bytes | None,
    kinds: Mapping[str, type[Fact]],
    position: Position | None = None,
    trace: str | None = None,
) -> Record:
    """Read a record of a topic that may hold `kinds`.

    Raises UnreadableRecord when the bytes are no JSON object, of an unknown kind, do not fit the
    kind's fields, carry an id that their content does not give, or a time without its zone (such a
    time would mean something else on each machine).
    """
    try:
        body = orjson.loads(value or b"")
    except orjson.JSONDecodeError as error:
        raise UnreadableRecord(f"not JSON: {error}") from None
    if not isinstance(body, dict):
        raise UnreadableRecord(f"not a JSON object but a {type(body).__name__}")
    kind, fact_id, at = body.pop("kind", None), body.pop("id", None), body.pop("at", None)
    model = kinds.get(kind) if isinstance(kind, str) else None
    if model is None:
        raise UnreadableRecord(f"unknown kind {kind!r}; this topic holds {', '.join(kinds)}")
    try:
        fact = model.model_validate(body)
        if datetime.fromisoformat(at).tzinfo is None:
            raise ValueError(f"time {at!r} has no zone")
    except (ValueError, TypeError) as error:
        raise UnreadableRecord(f"not a valid {kind}: {error}") from None
    if fact_id != fact.id:
        raise UnreadableRecord(f"id {fact_id!r} does not fit the content, which gives {fact.id!r}")
    return Record(fact, at, position, trace)
