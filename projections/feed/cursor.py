"""A position on the whole log: the next offset of every partition, as one opaque text.

The text holds all topics whatever is filtered, so that a resuming reader may change its filters and
still misses nothing. It says nothing of this process: any replica goes on from it.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable, Mapping

from projections.kafka import FOLLOWED
from projections.queries import InvalidQuery
from schemas.topics import TOPICS

Seat = tuple[str, int]
"""Topic and partition."""

VERSION = 1
SEATS: tuple[Seat, ...] = tuple(
    (topic.name, number) for topic in FOLLOWED for number in range(topic.partitions)
)
_NOT_OURS = "not one of ours; pass the `id` of an event, or `cursor`, unchanged"


class Cursor:
    """Next offsets by seat; a seat that is missing stands at 0: a topic that came later begins at
    its beginning."""

    def __init__(self, positions: Mapping[Seat, int] | None = None) -> None:
        self._offsets: dict[str, list[int]] = {
            topic.name: [0] * topic.partitions for topic in FOLLOWED
        }
        self._encoded: dict[str, bytes] = {}
        self.advance(positions or {})

    def __getitem__(self, seat: Seat) -> int:
        return self._offsets[seat[0]][seat[1]]

    def positions(self, topics: Iterable[str]) -> dict[Seat, int]:
        return {
            (topic, number): offset
            for topic in topics
            for number, offset in enumerate(self._offsets[topic])
        }

    def advance(self, positions: Mapping[Seat, int]) -> None:
        """Never backwards: a reader that lags behind another does not undo what was passed."""
        for (topic, number), offset in positions.items():
            held = self._offsets[topic]
            if offset > held[number]:
                held[number] = offset
                self._encoded.pop(topic, None)

    def __str__(self) -> str:
        """URL-safe base64 of: version, then per topic its name and offsets, then a CRC-16."""
        for topic, offsets in self._offsets.items():
            if topic not in self._encoded:
                name = topic.encode()
                parts = [bytes([len(name)]), name, _varint(len(offsets)), *map(_varint, offsets)]
                self._encoded[topic] = b"".join(parts)
        body = bytes([VERSION]) + b"".join(self._encoded[topic] for topic in self._offsets)
        sealed = body + binascii.crc_hqx(body, 0).to_bytes(2, "big")
        return base64.urlsafe_b64encode(sealed).decode().rstrip("=")

    @classmethod
    def decode(cls, text: str, parameter: str = "from") -> Cursor:
        """Raises InvalidQuery, naming the parameter."""
        try:
            sealed = base64.b64decode(text + "=" * (-len(text) % 4), b"-_", validate=True)
            body, check = sealed[:-2], sealed[-2:]
            if binascii.crc_hqx(body, 0).to_bytes(2, "big") != check or body[0] != VERSION:
                raise ValueError
            return cls(_positions(body[1:]))
        except (ValueError, IndexError, KeyError):
            raise InvalidQuery(f"{parameter}: {_NOT_OURS}") from None


def _positions(body: bytes) -> dict[Seat, int]:
    """Raises ValueError, IndexError, KeyError for what `Cursor.__str__` never wrote."""
    positions: dict[Seat, int] = {}
    at = 0
    while at < len(body):
        end = at + 1 + body[at]
        topic = TOPICS[body[at + 1 : end].decode()]
        count, at = _read_varint(body, end)
        if count != topic.partitions:
            raise ValueError("another partition count")
        for number in range(count):
            offset, at = _read_varint(body, at)
            positions[topic.name, number] = offset
    known = {topic.name for topic in FOLLOWED}
    return {seat: offset for seat, offset in positions.items() if seat[0] in known}


def _varint(number: int) -> bytes:
    """LEB128: seven bits a byte, the lowest first."""
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _read_varint(body: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        byte = body[at]
        number |= (byte & 0x7F) << shift
        at += 1
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise ValueError("no offset is that large")
