"""RLP, as far as headers, receipts and tries need it, and strict: each item has one encoding.

Source: Ethereum Yellow Paper, appendix B.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

Item = bytes | list["Item"]
DEEPEST = 16


class Malformed(ValueError):
    """Bytes that are not what they should be; says why."""


def quantity(value: int) -> bytes:
    """A whole number: big-endian without leading zeros, 0 is empty."""
    return value.to_bytes((value.bit_length() + 7) // 8, "big")


def encoded(item: bytes | Sequence[object]) -> bytes:
    if isinstance(item, bytes):
        if len(item) == 1 and item[0] < 0x80:
            return item
        return _head(len(item), 0x80) + item
    return list_of(encoded(part) for part in item)  # type: ignore[arg-type]


def list_of(parts: Iterable[bytes]) -> bytes:
    """The list of items that are encoded already."""
    body = b"".join(parts)
    return _head(len(body), 0xC0) + body


def _head(length: int, offset: int) -> bytes:
    if length < 56:
        return bytes([offset + length])
    size = quantity(length)
    return bytes([offset + 55 + len(size)]) + size


def decoded(data: bytes) -> Item:
    """Raises Malformed for anything but exactly one item in its one encoding."""
    item, end = _read(data, 0, 0)
    if end != len(data):
        raise Malformed(f"{len(data) - end} bytes stand behind the RLP item")
    return item


def as_list(item: Item) -> list[Item]:
    if isinstance(item, bytes):
        raise Malformed("bytes where a list should stand")
    return item


def as_bytes(item: Item, length: int | None = None) -> bytes:
    if not isinstance(item, bytes):
        raise Malformed("a list where bytes should stand")
    if length is not None and len(item) != length:
        raise Malformed(f"{len(item)} bytes where {length} should stand")
    return item


def as_quantity(item: Item) -> int:
    raw = as_bytes(item)
    if raw[:1] == b"\0" or len(raw) > 32:
        raise Malformed("a number with leading zeros or of more than 32 bytes")
    return int.from_bytes(raw, "big")


def _read(data: bytes, at: int, depth: int) -> tuple[Item, int]:
    if at >= len(data):
        raise Malformed("the RLP ends too early")
    if depth > DEEPEST:
        raise Malformed("the RLP is nested too deep")
    first = data[at]
    if first < 0x80:
        return data[at : at + 1], at + 1
    is_list = first >= 0xC0
    short = first - (0xC0 if is_list else 0x80)
    start, length = at + 1, short
    if short > 55:
        start = at + 1 + short - 55
        size = data[at + 1 : start]
        length = int.from_bytes(size, "big")
        if len(size) != short - 55 or size[:1] == b"\0" or length < 56:
            raise Malformed("a length that is not in its shortest form")
    end = start + length
    if end > len(data):
        raise Malformed("the RLP ends too early")
    if not is_list:
        if length == 1 and data[start] < 0x80:
            raise Malformed("a byte that is not in its shortest form")
        return data[start:end], end
    items: list[Item] = []
    while start < end:
        item, start = _read(data[:end], start, depth + 1)
        items.append(item)
    return items, end
