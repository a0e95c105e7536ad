"""What PostgreSQL cannot hold as it is: the character NUL, and times beyond its calendar.

JSON strings on the log may contain U+0000 (a contract's request id is any text); PostgreSQL's
`text` and `jsonb` refuse it. `␀` (U+2400) escapes it without loss, so that one hostile id can
neither stop the projection nor collide with another key.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import orjson

_MARK = "\u2400"
_MARK_BYTES = _MARK.encode()
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_LATEST = datetime(9000, 1, 1, tzinfo=UTC)


def to_column(text: str) -> str:
    """`text` without NUL; `from_column` gives it back. Different texts stay different."""
    if "\x00" in text or _MARK in text:
        return text.replace(_MARK, _MARK + _MARK).replace("\x00", _MARK + "0")
    return text


def from_column(text: str) -> str:
    if _MARK not in text:
        return text
    parts, index = [], 0
    while index < len(text):
        pair = text[index : index + 2]
        if pair == _MARK + "0":
            parts.append("\x00")
        elif pair == _MARK + _MARK:
            parts.append(_MARK)
        else:
            parts.append(text[index])
            index += 1
            continue
        index += 2
    return "".join(parts)


def optional_column(text: str | None) -> str | None:
    return None if text is None else to_column(text)


def to_jsonb(raw: bytes) -> str:
    """JSON text that a `jsonb` column takes; escapes strings where that is needed."""
    if b"\\u" in raw or _MARK_BYTES in raw:
        raw = orjson.dumps(_mapped(orjson.loads(raw), to_column))
    return raw.decode()


def from_jsonb(text: str) -> Any:
    """The JSON value that `to_jsonb` was given, parsed."""
    value = orjson.loads(text)
    return _mapped(value, from_column) if _MARK in text or "\\u2400" in text else value


def _mapped(value: Any, change: Any) -> Any:
    match value:
        case str():
            return change(value)
        case list():
            return [_mapped(item, change) for item in value]
        case dict():
            return {change(name): _mapped(item, change) for name, item in value.items()}
    return value


def moment(text: str) -> datetime:
    """The instant of a fact's `at`, for a `timestamptz` column.

    A time without zone counts as UTC. What lies outside the years 1970 to 9000 is moved to that
    border: such a record is odd, but it must be shown, not stop the projection. The exact text
    stays in the state and in the fact.
    """
    value = datetime.fromisoformat(text)
    if value.tzinfo is None:
        value = value.replace(tzinfo=UTC)
    return min(max(value, _EARLIEST), _LATEST)
