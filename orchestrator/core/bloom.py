"""A block's bloom filter of its logs: which contracts and topics may be in it, and which are not.

Source: the Ethereum Yellow Paper, section "Transaction Receipt", the function M3:2048. Each
logger's address and each topic sets three bits: keccak256 of its bytes, the first three pairs of
bytes, each modulo 2048. Bits count from the least significant one of the 256 bytes read as a
big-endian number.

A filter never hides what is in the block; it may show what is not (a false positive).
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from functools import reduce
from operator import or_

from orchestrator.core.hashing import keccak

BLOOM_BITS = 2048


def bits_of(item: str) -> int:
    """The bits that an address (20 bytes) or a topic (32 bytes), 0x hex, sets."""
    digest = keccak(bytes.fromhex(item[2:]))
    numbers = (int.from_bytes(digest[at : at + 2], "big") % BLOOM_BITS for at in (0, 2, 4))
    return reduce(or_, (1 << number for number in numbers))


def bloom_of(logs: Iterable[tuple[str, Collection[str]]]) -> int:
    """The filter of a block with these logs, each an address and its topics."""
    items = {item.lower() for address, topics in logs for item in (address, *topics)}
    return reduce(or_, (bits_of(item) for item in items), 0)


def masks_of(contract: str, topics: Iterable[str]) -> Mapping[str, int]:
    """For each topic the bits that a log of `contract` with it sets."""
    address = bits_of(contract)
    return {topic: address | bits_of(topic) for topic in topics}


def may_hold(bloom: int, mask: int) -> bool:
    """False only when no log with these bits is in the block."""
    return bloom & mask == mask
