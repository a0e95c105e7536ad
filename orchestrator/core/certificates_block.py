"""A block's header, transactions and receipts: their bytes from what a node tells of them in JSON,
and back what a certificate needs.

Sources: Yellow Paper (section 4.3 and 4.2); EIP-155, EIP-2718, EIP-2930, EIP-1559, EIP-4844,
EIP-7702 (transactions and receipts); EIP-1559, EIP-4895, EIP-4844, EIP-4788, EIP-7685 (header).
Nothing here trusts the node: what is built must hash to the hashes and roots of the block.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.core.certificates_rlp import (
    Item,
    Malformed,
    as_bytes,
    as_list,
    as_quantity,
    decoded,
    encoded,
    quantity,
)

Json = Mapping[str, Any]


def raw_of(text: str) -> bytes:
    """0x hex to bytes."""
    if not text.startswith("0x"):
        raise Malformed("not 0x hex")
    return bytes.fromhex(text[2:])


def _number(text: str) -> bytes:
    return quantity(int(text, 16))


Reader = Callable[[str], bytes]

HEADER: tuple[tuple[str, Reader], ...] = (
    ("parentHash", raw_of),
    ("sha3Uncles", raw_of),
    ("miner", raw_of),
    ("stateRoot", raw_of),
    ("transactionsRoot", raw_of),
    ("receiptsRoot", raw_of),
    ("logsBloom", raw_of),
    ("difficulty", _number),
    ("number", _number),
    ("gasLimit", _number),
    ("gasUsed", _number),
    ("timestamp", _number),
    ("extraData", raw_of),
    ("mixHash", raw_of),
    ("nonce", raw_of),
)
LATER: tuple[tuple[str, Reader], ...] = (
    ("baseFeePerGas", _number),
    ("withdrawalsRoot", raw_of),
    ("blobGasUsed", _number),
    ("excessBlobGas", _number),
    ("parentBeaconBlockRoot", raw_of),
    ("requestsHash", raw_of),
)
"""Fields that hard forks added, in this order: a block has the first so many of them."""


def header_bytes(block: Json) -> bytes:
    """RLP of the header; its keccak256 is the block's hash. Raises KeyError, Malformed."""
    fields = [reader(block[name]) for name, reader in HEADER]
    present = [block.get(name) is not None for name, _ in LATER]
    count = sum(present)
    if not all(present[:count]):
        missing = LATER[present.index(False)][0]
        raise Malformed(f"the header has no {missing}, but fields that came after it")
    return encoded(fields + [reader(block[name]) for name, reader in LATER[:count]])


@dataclass(frozen=True, slots=True)
class Header:
    """`timestamp` in Unix seconds."""

    transactions_root: bytes
    receipts_root: bytes
    number: int
    timestamp: int


def read_header(raw: bytes) -> Header:
    """Raises Malformed. Fields of future hard forks are allowed: they stand behind these."""
    items = as_list(decoded(raw))
    if len(items) < len(HEADER):
        raise Malformed(f"a header of {len(items)} fields")
    return Header(
        transactions_root=as_bytes(items[4], 32),
        receipts_root=as_bytes(items[5], 32),
        number=as_quantity(items[8]),
        timestamp=as_quantity(items[11]),
    )


def _type_of(told: Json) -> int:
    return int(told.get("type") or "0x0", 16)


def _envelope(kind: int, fields: Sequence[object]) -> bytes:
    return (bytes([kind]) if kind else b"") + encoded(fields)


def receipt_bytes(told: Json) -> bytes:
    """As it stands in the receipts' trie."""
    status = told.get("status")
    first = raw_of(told["root"]) if status is None else _number(status)
    logs = [
        [raw_of(log["address"]), [raw_of(topic) for topic in log["topics"]], raw_of(log["data"])]
        for log in told["logs"]
    ]
    fields = [first, _number(told["cumulativeGasUsed"]), raw_of(told["logsBloom"]), logs]
    return _envelope(_type_of(told), fields)


@dataclass(frozen=True, slots=True)
class ReceiptLog:
    address: bytes
    topics: tuple[str, ...]
    data: str


def read_receipt(raw: bytes) -> tuple[bool, list[ReceiptLog]]:
    """Whether the transaction succeeded, and its logs. Raises Malformed."""
    fields = as_list(decoded(_payload(raw)))
    if len(fields) != 4:
        raise Malformed(f"a receipt of {len(fields)} fields")
    logs = []
    for item in as_list(fields[3]):
        parts = as_list(item)
        if len(parts) != 3:
            raise Malformed(f"a log of {len(parts)} fields")
        topics = tuple("0x" + as_bytes(topic, 32).hex() for topic in as_list(parts[1]))
        logs.append(ReceiptLog(as_bytes(parts[0], 20), topics, "0x" + as_bytes(parts[2]).hex()))
    return as_bytes(fields[0]) == b"\x01", logs


_FEES: Mapping[int, tuple[str, ...]] = {
    0: ("gasPrice",),
    1: ("gasPrice",),
    2: ("maxPriorityFeePerGas", "maxFeePerGas"),
    3: ("maxPriorityFeePerGas", "maxFeePerGas"),
    4: ("maxPriorityFeePerGas", "maxFeePerGas"),
}
"""By the type of a transaction."""


def transaction_bytes(told: Json) -> bytes:
    """The signed transaction as it was sent; its keccak256 is its hash.

    Raises KeyError, Malformed.
    """
    kind = _type_of(told)
    if kind not in _FEES:
        raise Malformed(f"transactions of type {kind} are not known here")
    call = [
        _number(told["gas"]),
        raw_of(told["to"]) if told.get("to") else b"",
        _number(told["value"]),
        raw_of(told["input"]),
    ]
    fields: list[object] = [_number(told["nonce"]), *(_number(told[name]) for name in _FEES[kind])]
    fields += call
    if kind:
        access = [
            [raw_of(one["address"]), [raw_of(key) for key in one["storageKeys"]]]
            for one in told.get("accessList") or []
        ]
        fields = [_number(told["chainId"]), *fields, access]
    if kind == 3:
        hashes = [raw_of(text) for text in told["blobVersionedHashes"]]
        fields += [_number(told["maxFeePerBlobGas"]), hashes]
    if kind == 4:
        fields.append([_authorization(one) for one in told["authorizationList"]])
    parity = told["v"] if kind == 0 else told.get("yParity") or told["v"]
    fields += [_number(parity), _number(told["r"]), _number(told["s"])]
    return _envelope(kind, fields)


def _authorization(told: Json) -> list[bytes]:
    place = [_number(told["chainId"]), raw_of(told["address"]), _number(told["nonce"])]
    return [*place, *(_number(told[name]) for name in ("yParity", "r", "s"))]


@dataclass(frozen=True, slots=True)
class Transaction:
    """`chain_id` is None where the transaction names none: it could be sent on any chain."""

    chain_id: int | None
    to: bytes
    data: bytes


_PLACES: Mapping[int, tuple[int, int, int]] = {
    0: (9, 3, 5),
    1: (11, 4, 6),
    2: (12, 5, 7),
    3: (14, 5, 7),
    4: (13, 5, 7),
}
"""By type: how many fields, where the recipient stands, where the data."""


def read_transaction(raw: bytes) -> Transaction:
    """Raises Malformed."""
    kind = raw[0] if raw and raw[0] < 0x80 else 0
    if kind not in _PLACES:
        raise Malformed(f"transactions of type {kind} are not known here")
    fields: list[Item] = as_list(decoded(_payload(raw)))
    count, to, data = _PLACES[kind]
    if len(fields) != count:
        raise Malformed(f"a transaction of type {kind} with {len(fields)} fields")
    if kind:
        chain_id: int | None = as_quantity(fields[0])
    else:
        v = as_quantity(fields[6])
        chain_id = (v - 35) // 2 if v >= 35 else None
    return Transaction(chain_id, as_bytes(fields[to]), as_bytes(fields[data]))


def _payload(raw: bytes) -> bytes:
    return raw[1:] if raw and raw[0] < 0x80 else raw
