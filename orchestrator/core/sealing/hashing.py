"""The hashes of a seal. docs/seals.md defines them for those who want to compute them elsewhere.

Every hash is SHA-256 over a list of parts, the first of which names the purpose; so what was hashed
for one purpose is never the hash of another, and no two lists give the same bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple

FORMAT = "stablecoin-orchestrator seal 1"
_ABSENT = b"\xff" * 8
_START, _RECORD, _CHAIN, _PARTITION, _NODE = (
    f"{FORMAT}: {purpose}" for purpose in ("start", "record", "chain", "partition", "node")
)

Part = str | bytes | int | None


class Logged(NamedTuple):
    """A committed record as it stands on the log, bytes as they are."""

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]


def digest(*parts: Part) -> bytes:
    """SHA-256 of the parts, each behind its length as eight bytes, most significant first. Text is
    UTF-8, a number is decimal text, and what is absent is the length 2**64 - 1 alone."""
    pieces: list[bytes] = []
    for part in parts:
        if part is None:
            pieces.append(_ABSENT)
            continue
        raw = part if isinstance(part, bytes) else str(part).encode()
        pieces.append(len(raw).to_bytes(8, "big"))
        pieces.append(raw)
    return hashlib.sha256(b"".join(pieces)).digest()


def record_digest(record: Logged) -> bytes:
    """All that a record is: its place, time, key, value and headers, in their order."""
    headers = [part for header in record.headers for part in header]
    return digest(_RECORD, *record[:6], *headers)


def chain_start(topic: str, partition: int) -> bytes:
    """The chain of a partition before its first record."""
    return digest(_START, topic, partition)


def chained(before: bytes, record: bytes) -> bytes:
    """The chain after one more record, given by its digest."""
    return digest(_CHAIN, before, record)


def partition_leaf(
    topic: str,
    partition: int,
    bounds: tuple[int, int],
    records: int,
    chain: bytes,
    checkpoints: Sequence[tuple[int, bytes]],
) -> bytes:
    """What a day's tree holds of one partition."""
    within = [part for checkpoint in checkpoints for part in checkpoint]
    return digest(_PARTITION, topic, partition, *bounds, records, chain, *within)


def merkle_root(leaves: Sequence[bytes]) -> bytes:
    """The root over leaves in their order: the left side of each node is the largest power of two
    that leaves something for the right one (the shape of RFC 6962, section 2.1)."""
    if len(leaves) == 1:
        return leaves[0]
    split = _split(len(leaves))
    return digest(_NODE, merkle_root(leaves[:split]), merkle_root(leaves[split:]))


def merkle_path(leaves: Sequence[bytes], index: int) -> list[tuple[str, bytes]]:
    """From a leaf to the root: each sibling, and on which side it stands."""
    if len(leaves) == 1:
        return []
    split = _split(len(leaves))
    if index < split:
        sibling = ("right", merkle_root(leaves[split:]))
        return [*merkle_path(leaves[:split], index), sibling]
    sibling = ("left", merkle_root(leaves[:split]))
    return [*merkle_path(leaves[split:], index - split), sibling]


def climbed(leaf: bytes, path: Sequence[tuple[str, bytes]]) -> bytes:
    """The root that a leaf and its siblings give."""
    for side, sibling in path:
        pair = (sibling, leaf) if side == "left" else (leaf, sibling)
        leaf = digest(_NODE, *pair)
    return leaf


def _split(count: int) -> int:
    assert count > 1
    return 1 << ((count - 1).bit_length() - 1)
