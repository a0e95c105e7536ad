"""The tries whose roots stand in a block's header: of its transactions, and of their receipts.

Key: RLP of the index within the block; value: the transaction's, or the receipt's, EIP-2718 bytes.
Source: Ethereum Yellow Paper, appendix D (modified Merkle Patricia tree); a node shorter than 32
bytes stands inside its parent instead of being named by its hash. Both tries are built whole from a
block, never changed; so there is no insertion here, only the trie of given pairs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from orchestrator.core.certificates_rlp import (
    Item,
    Malformed,
    as_bytes,
    as_list,
    decoded,
    encoded,
    quantity,
)
from orchestrator.core.hashing import keccak

EMPTY_ROOT = keccak(b"\x80")

Nibbles = tuple[int, ...]


def index_key(index: int) -> bytes:
    return encoded(quantity(index))


def root_of(values: Mapping[bytes, bytes]) -> bytes:
    """The root of the trie that holds these; values may not be empty."""
    return keccak(encoded(_node(_pairs(values)))) if values else EMPTY_ROOT


def proof_of(values: Mapping[bytes, bytes], key: bytes) -> list[bytes]:
    """The nodes from the root to `key`, each RLP; what stands inside its parent is not repeated.
    Raises KeyError when the trie does not hold it."""
    if key not in values:
        raise KeyError(key.hex())
    path, pairs = _nibbles(key), _pairs(values)
    nodes: list[bytes] = []
    depth = 0
    while True:
        raw = encoded(_node(pairs, depth))
        if depth == 0 or len(raw) >= 32:
            nodes.append(raw)
        if len(pairs) == 1:
            return nodes
        shared = _shared(pairs, depth)
        if shared > depth:
            branch = encoded(_branch(pairs, shared))
            if len(branch) >= 32:
                nodes.append(branch)
            depth = shared
        if len(path) == depth:
            return nodes
        pairs = {at: value for at, value in pairs.items() if at[: depth + 1] == path[: depth + 1]}
        depth += 1


def proved(root: bytes, key: bytes, nodes: Sequence[bytes]) -> bytes:
    """The value that the trie with this root holds at `key`, by a proof. Raises Malformed when the
    nodes do not lead from the root to a value, or more are given than lead there."""
    path, given = _nibbles(key), list(nodes)
    reference: Item = root
    while True:
        node = _resolved(reference, given)
        if len(node) == 17:
            if not path:
                return _ended(node[16], given)
            reference, path = node[path[0]], path[1:]
        elif len(node) == 2:
            part, is_leaf = _unpacked(as_bytes(node[0]))
            if path[: len(part)] != part or (is_leaf and len(path) != len(part)):
                raise Malformed("the proof leads to another key")
            path = path[len(part) :]
            if is_leaf:
                return _ended(node[1], given)
            reference = node[1]
        else:
            raise Malformed(f"a node of {len(node)} items")


def _resolved(reference: Item, given: list[bytes]) -> list[Item]:
    if isinstance(reference, list):
        return reference
    if len(reference) != 32:
        raise Malformed("the trie holds nothing at this key")
    if not given:
        raise Malformed("the proof ends too early")
    raw = given.pop(0)
    if keccak(raw) != reference:
        raise Malformed("a node of the proof is not the one that its parent, or the root, names")
    return as_list(decoded(raw))


def _ended(value: Item, given: list[bytes]) -> bytes:
    if given:
        raise Malformed("the proof holds nodes that lead nowhere")
    found = as_bytes(value)
    if not found:
        raise Malformed("the trie holds nothing at this key")
    return found


def _nibbles(key: bytes) -> Nibbles:
    return tuple(nibble for byte in key for nibble in (byte >> 4, byte & 15))


def _pairs(values: Mapping[bytes, bytes]) -> dict[Nibbles, bytes]:
    return {_nibbles(key): value for key, value in values.items()}


def _shared(pairs: Mapping[Nibbles, bytes], depth: int) -> int:
    """Up to which nibble all keys agree."""
    low, high = min(pairs), max(pairs)
    while depth < min(len(low), len(high)) and low[depth] == high[depth]:
        depth += 1
    return depth


def _node(pairs: Mapping[Nibbles, bytes], depth: int = 0) -> list[Item]:
    if len(pairs) == 1:
        [(path, value)] = pairs.items()
        return [_packed(path[depth:], is_leaf=True), value]
    shared = _shared(pairs, depth)
    if shared == depth:
        return _branch(pairs, depth)
    return [_packed(_path(pairs)[depth:shared], is_leaf=False), _reference(_branch(pairs, shared))]


def _path(pairs: Mapping[Nibbles, bytes]) -> Nibbles:
    return next(iter(pairs))


def _branch(pairs: Mapping[Nibbles, bytes], depth: int) -> list[Item]:
    items: list[Item] = []
    for nibble in range(16):
        below = {at: value for at, value in pairs.items() if at[depth : depth + 1] == (nibble,)}
        items.append(_reference(_node(below, depth + 1)) if below else b"")
    ending = [value for path, value in pairs.items() if len(path) == depth]
    return [*items, ending[0] if ending else b""]


def _reference(node: list[Item]) -> Item:
    raw = encoded(node)
    return keccak(raw) if len(raw) >= 32 else node


def _packed(path: Nibbles, *, is_leaf: bool) -> bytes:
    """Hex-prefix encoding (Yellow Paper, appendix C)."""
    odd = len(path) % 2
    flag = 2 * is_leaf + odd
    nibbles = (flag, *path) if odd else (flag, 0, *path)
    return bytes(16 * high + low for high, low in zip(nibbles[::2], nibbles[1::2], strict=True))


def _unpacked(packed: bytes) -> tuple[Nibbles, bool]:
    nibbles = _nibbles(packed)
    if not nibbles or nibbles[0] > 3 or (nibbles[0] % 2 == 0 and nibbles[1] != 0):
        raise Malformed("a path that is not in its one form")
    return nibbles[1 if nibbles[0] % 2 else 2 :], nibbles[0] >= 2
