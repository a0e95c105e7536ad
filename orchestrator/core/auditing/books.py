"""What an audit must remember, packed: about 2.3 kB a request in all books together."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from hashlib import blake2b

from orchestrator.core.policy import amount_or_none
from schemas.base import Position
from schemas.topics import TOPICS

_TOPICS = tuple(TOPICS)
_CLAIM = struct.Struct(">QQ20s32s12s")
_EVENT = struct.Struct(">BQQQ20s32s12s16s")

EVENT_CODES = ("Minted", "RedeemRequested", "Redeemed", "RedeemedAtOnce")

COMPLETED, SEEN, GONE = 1, 2, 4
"""Flags of an event: its request completed by it, the chain has it, it was taken back."""


def digest(text: str, size: int = 12) -> bytes:
    return blake2b(text.encode("utf-8", "surrogatepass"), digest_size=size).digest()


def pack_position(position: Position | None) -> int:
    if position is None:
        return 2**64 - 1
    return _TOPICS.index(position.topic) << 60 | position.partition << 48 | position.offset


def show_position(packed: int) -> str:
    if packed == 2**64 - 1:
        return "nowhere"
    return f"{_TOPICS[packed >> 60]}/{packed >> 48 & 0xFFF}/{packed & 0xFFFF_FFFF_FFFF}"


def account_bytes(text: str) -> bytes:
    """The address; of what is none, something that no address equals."""
    try:
        raw = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        raw = b""
    return raw if len(raw) == 20 else digest(text, 20)


def amount_bytes(text: str) -> bytes:
    """Of what is no amount of a token, zero: no event has that."""
    amount = amount_or_none(text)
    return (amount if amount is not None and amount < 2**256 else 0).to_bytes(32, "big")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who is to have how much on which chain, and where the log says so."""

    position: int
    chain_id: int
    account: bytes
    amount: int
    fiat_ref: bytes

    def pack(self) -> bytes:
        amount = self.amount.to_bytes(32, "big")
        return _CLAIM.pack(self.position, self.chain_id, self.account, amount, self.fiat_ref)

    @classmethod
    def unpack(cls, packed: bytes) -> Claim:
        position, chain_id, account, amount, fiat_ref = _CLAIM.unpack(packed)
        return cls(position, chain_id, account, int.from_bytes(amount, "big"), fiat_ref)

    def same(self, other: Claim) -> bool:
        return (self.chain_id, self.account, self.amount) == (
            other.chain_id,
            other.account,
            other.amount,
        )

    def __str__(self) -> str:
        return f"{self.amount} to 0x{self.account.hex()} on {self.chain_id}"


@dataclass(frozen=True, slots=True)
class Event:
    """A contract event of the log. `content` is a digest of all that the chain can confirm."""

    name: str
    position: int
    block_number: int
    at_seconds: int
    account: bytes
    amount: int
    request: bytes
    content: bytes


@dataclass(slots=True)
class EventBook:
    """One chain's events of the log, by seat (block hash and log index)."""

    rows: list[bytes] = field(default_factory=list)
    flags: bytearray = field(default_factory=bytearray)
    by_seat: dict[bytes, int] = field(default_factory=dict)

    def add(self, seat: bytes, event: Event) -> int:
        self.by_seat[seat] = len(self.rows)
        self.rows.append(
            _EVENT.pack(
                EVENT_CODES.index(event.name),
                event.position,
                event.block_number,
                event.at_seconds,
                event.account,
                event.amount.to_bytes(32, "big"),
                event.request,
                event.content,
            )
        )
        self.flags.append(0)
        return len(self.rows) - 1

    def event(self, index: int) -> Event:
        code, position, block, at, account, amount, request, content = _EVENT.unpack(
            self.rows[index]
        )
        amount = int.from_bytes(amount, "big")
        return Event(EVENT_CODES[code], position, block, at, account, amount, request, content)

    def standing(self) -> list[int]:
        return [index for index, flag in enumerate(self.flags) if not flag & GONE]


def seat_of(block_hash: str, log_index: int) -> bytes:
    return bytes.fromhex(block_hash[2:34]) + log_index.to_bytes(8, "big")


def content_of(
    name: str, request_id: str, account: str, amount: int, tx_hash: str, block_number: int
) -> bytes:
    """All that an event tells, as a digest: log and chain must agree on it."""
    return digest(f"{name}|{request_id}|{account.lower()}|{amount}|{tx_hash}|{block_number}", 16)


@dataclass(slots=True)
class ChainBook:
    """One chain as the log tells it. `cursor` is the newest followed block, `wanted` a block that
    the audit is to stop at."""

    events: EventBook = field(default_factory=EventBook)
    first_block: int | None = None
    cursor: int | None = None
    cursor_hash: str = ""
    wanted: int | None = None
    later: int = 0


@dataclass(slots=True)
class Supply:
    """Base units at the final block. None: not asked for."""

    minted_on_log: int = 0
    burnt_on_log: int = 0
    minted_by_facts: int = 0
    burnt_by_facts: int = 0
    pending_minted: int = 0
    pending_burnt: int = 0
    minted_on_chain: int | None = None
    burnt_on_chain: int | None = None
    total_supply: int | None = None

    @property
    def on_log(self) -> int:
        return self.minted_on_log - self.burnt_on_log

    @property
    def by_facts(self) -> int:
        """Facts, with what is so new that it may still be on its way."""
        pending = self.pending_minted - self.pending_burnt
        return self.minted_by_facts - self.burnt_by_facts + pending
