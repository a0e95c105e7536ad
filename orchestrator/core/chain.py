"""What a chain shows, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Head:
    """A block's header. `timestamp` in Unix seconds; `base_fee_wei` is None before EIP-1559.

    `logs_bloom` is the filter of the block's logs as a number (`core.bloom`); None where a node or
    a model gives none, and then nothing can be checked against it.
    """

    number: int
    hash: str
    parent_hash: str
    timestamp: int
    base_fee_wei: int | None
    logs_bloom: int | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Receipt:
    tx_hash: str
    block_number: int
    block_hash: str
    succeeded: bool
    gas_used: int


@dataclass(frozen=True, slots=True)
class ChainView:
    """One look at a chain from one wallet's side, all of it asked for at the same head.

    `nonce` is the account's count at `head`; `final_nonce` is its count at `final`, the newest
    block of the configured depth. `receipts` holds an entry for each transaction asked about;
    None where the chain has no receipt.
    """

    head: Head
    final: Head
    nonce: int
    final_nonce: int
    receipts: Mapping[str, Receipt | None]
