"""What the agents need from the outside, as Protocols. Each has a real adapter and a working model
for the simulation; both pass one contract suite."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from orchestrator.core.chain import Head, Receipt
from orchestrator.core.contract import Approval
from orchestrator.core.guarding import Entry, Refusal
from orchestrator.core.sealing.growing import Seat
from orchestrator.core.sealing.hashing import Logged
from orchestrator.core.stages import RequestState
from orchestrator.errors import RpcError
from schemas.base import Fact, Record
from schemas.dead_letters import DeadLetter
from schemas.topics import Topic


@dataclass(frozen=True, slots=True)
class Log:
    """A contract log as `eth_getLogs` gives it; `topics` and `data` are 0x hex."""

    address: str
    topics: tuple[str, ...]
    data: str
    block_number: int
    block_hash: str
    tx_hash: str
    log_index: int


@dataclass(frozen=True, slots=True)
class Call:
    """A call to simulate. `data` is 0x hex, `sender` and `to` are addresses."""

    sender: str
    to: str
    data: str


class ChainNode(Protocol):
    """One EVM chain through its nodes. Every method raises RpcError; batches are one round trip,
    and a single item's failure stands in its place of the answer instead of being raised."""

    chain_id: int

    def pinned(self) -> ChainNode:
        """The same chain through one node: whichever answers first. What is proved by several
        answers is asked so: those of two nodes may be of two branches. It is not to be closed."""

    async def check_chain(self) -> None:
        """Raises StartRefused when a node serves another chain id."""

    async def head(self) -> Head:
        """The newest block."""

    async def block(self, number: int) -> Head | None: ...

    async def headers(self, first: int, last: int) -> list[Head]:
        """Every block from `first` to `last` inclusive, in order. Raises UNAVAILABLE when one of
        them is not there."""

    async def has_block(self, number: int, block_hash: str) -> bool:
        """True when any node has this very block, False when none has and one shows another block
        in its place; nodes of another chain do not count. Raises UNAVAILABLE otherwise."""

    async def logs(
        self, contract: str, topics: Sequence[str], first: int, last: int, *, again: int = 0
    ) -> list[Log]:
        """Logs of `contract` with a topic0 of `topics`, blocks `first` to `last` inclusive.

        `again` counts how often this was asked before: each time another node comes first.
        """

    async def logs_by_receipts(
        self, contract: str, topics: Sequence[str], block: Head
    ) -> list[Log]:
        """The same for one block, read from its receipts, which agree with its `logs_bloom`: sure
        to be all of them. Raises UNAVAILABLE when no node can show that."""

    async def transaction_count(self, address: str, block: int | None = None) -> int:
        """The account's nonce at a block, or at the newest."""

    async def estimate_gas(self, calls: Sequence[Call]) -> list[int | RpcError]: ...

    async def send_raw(self, raws: Sequence[str]) -> list[str | RpcError]:
        """Broadcast signed transactions; each answer is the hash or the node's refusal."""

    async def receipts(self, tx_hashes: Sequence[str]) -> list[Receipt | None]: ...

    async def call(self, call: Call, block: int | None = None) -> str:
        """`eth_call`, 0x hex; raises RpcError(REVERTED) with the reason."""

    async def priority_fee(self) -> int:
        """A usual priority fee, wei, by fee history."""

    async def gas_price(self) -> int:
        """What the node suggests as a gas price, wei; for chains without a base fee."""

    async def balance(self, address: str) -> int: ...

    async def close(self) -> None: ...


class BlockSource(Protocol):
    """Whole blocks of one chain, for certificates; what it answers is checked by who asks."""

    async def whole_block(self, block_hash: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        """The block as eth_getBlockByHash tells it with whole transactions, and all its receipts.
        Raises RpcError."""

    async def close(self) -> None: ...


class ApprovalSigner(Protocol):
    """The issuer's key, which never leaves its vault."""

    async def address(self) -> str:
        """Checksummed. Raises StartRefused for a key that cannot sign approvals."""

    async def sign(self, digest: str) -> str:
        """65 bytes r, s, v as 0x hex: low s, verified against `address`. Raises SigningError."""

    async def close(self) -> None: ...


class SigningGuard(Protocol):
    """A durable record of every digest ever sent for signing, which the log does not hold up."""

    async def claim(self, entry: Entry) -> Refusal | None:
        """Record the intent before its effect. None once it is committed, or was before: it may be
        signed. Otherwise why not. Raises GuardUnavailable: then nothing may be signed."""

    async def entries(self) -> list[Entry]:
        """The whole record."""

    async def merge(self, given: Sequence[Entry]) -> list[str]:
        """Take in another record, all of it or, where entries conflict, nothing: each is told."""


@dataclass(frozen=True, slots=True)
class UnsignedTransaction:
    """A call without value. Fees in wei. EIP-1559, or of the type before it for a chain without a
    base fee (`legacy`, replay-protected by EIP-155): then `max_fee_per_gas_wei` is its gas price.
    """

    chain_id: int
    nonce: int
    to: str
    data: str
    gas_limit: int
    max_fee_per_gas_wei: int
    max_priority_fee_per_gas_wei: int
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class SignedTransaction:
    raw: str
    tx_hash: str


class Wallet(Protocol):
    """A hot wallet that only pays gas."""

    address: str

    def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """Deterministic (RFC 6979): the same transaction gives the same bytes."""


class Message(Protocol):
    """A record as the log delivers it, undecoded."""

    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


class LogWriter(Protocol):
    """Appends facts, at least once, without owning anything."""

    async def append(self, topic: Topic, facts: Sequence[Fact]) -> list[Record]:
        """Each as it stands on the log, once all are acknowledged by all in-sync replicas. Raises
        LogUnavailable; then some of the facts may stand on the log."""


class OwnedLog(Protocol):
    """Appends facts as the one owner of a lane or source; a later owner fences this one."""

    async def start(self) -> None:
        """Fence every earlier owner. Raises Fenced, LogUnavailable."""

    async def append(
        self, topic: Topic, facts: Sequence[Fact], letters: Sequence[DeadLetter] = ()
    ) -> None:
        """All or none, in one Kafka transaction. Raises Fenced; LogUnavailable leaves the outcome
        unknown."""

    async def close(self) -> None: ...


class LogReader(Protocol):
    def replay(
        self, topic: Topic, starts: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, Sequence[Message]]]:
        """Committed records per partition, from each start to what is the end when the call begins.
        Raises LogUnavailable."""

    def tail(
        self, topic: Topic, partition: int, start: int
    ) -> AsyncGenerator[Sequence[Message], None]:
        """Committed records of one partition from `start` on, for ever, as they come.

        An empty batch, several times in ten seconds, says that all that stood there when it was
        asked for has been given. Raises LogUnavailable."""


class LogEnds(Protocol):
    async def end(self, topic: Topic, partition: int) -> int:
        """The offset behind the last committed record, as it is while this is asked. Raises
        LogUnavailable."""


class TopicsReader(Protocol):
    def follow(
        self, topics: Sequence[Topic], places: Mapping[tuple[str, int], int]
    ) -> AsyncGenerator[Sequence[Message], None]:
        """Committed records of every partition of these topics, as they come, each partition from
        its place (by topic and number; 0 where none is given) on, for ever.

        An empty batch, at least every second or so, says that all that stood there when the empty
        batch before it was given has been given. Raises LogUnavailable."""


class FactLog(LogReader, Protocol):
    """The log, as owners of lanes and sources take it."""

    def owned(self, name: str) -> OwnedLog:
        """A writer that owns `name`: a lane or a source."""


class SealKey(Protocol):
    """The key on P-256 that signs seals and nothing else."""

    async def public_key(self) -> bytes:
        """DER SubjectPublicKeyInfo. Raises StartRefused for a key that cannot sign seals, and
        SigningError for trouble that passes."""

    async def sign(self, text: bytes) -> bytes:
        """DER signature over the text's SHA-256. Raises SigningError."""

    async def close(self) -> None: ...


class SealAnchor(Protocol):
    """Where seals are kept outside the log: added to, never changed. One document a day.

    Every method raises AnchorUnavailable.
    """

    name: str

    async def days(self) -> list[str]:
        """Every day that has a seal, in order. Raises SealRefused for what cannot be read."""

    async def read(self, day: str) -> bytes | None: ...

    async def newest(self) -> tuple[str, bytes] | None:
        """The newest day that anything stands for, and what stands there, readable or not: what
        may be asked every minute. Raises SealRefused for what bears no day."""

    async def everything(self) -> list[tuple[str, bytes]]:
        """All that stands there, readable or not, each with its place in words."""

    async def put(self, day: str, document: bytes) -> bytes:
        """What stands there for the day afterwards, durably: `document`, or another one that stood
        there before, which is left as it is."""

    async def close(self) -> None: ...


class SealableLog(Protocol):
    """The committed records of every partition, live or from an archive."""

    async def bounds(self) -> dict[Seat, tuple[int, int]]:
        """The first offset of each partition, and one above the last (holes included). Raises
        LogUnavailable."""

    def records(
        self, starts: Mapping[Seat, int], ends: Mapping[Seat, int], finished: set[Seat]
    ) -> AsyncIterator[tuple[Seat, list[Logged]]]:
        """Batches between, in the order of offsets within each partition, of partitions that the
        reader has not put into `finished` yet. Raises LogUnavailable."""


@dataclass(frozen=True, slots=True)
class Saved:
    """A fold of the first `next_offset` records of a partition, as an archive took it in.

    `changed` are the states that moved since it was saved before; loaded, those that are not at
    rest. `last_digest` is that of the value of the record before `next_offset`: the log must still
    say the same there. `refused` are dead letters by offset, not yet known to be delivered.
    """

    next_offset: int
    last_digest: bytes
    changed: Mapping[str, RequestState]
    refused: Mapping[int, DeadLetter]


@dataclass(frozen=True, slots=True)
class Resting:
    """What an archive holds: so many requests, in so many bytes, on disk or in this process."""

    requests: int
    size_bytes: int
    on_disk: bool


class Archive(Protocol):
    """Where a partition's states rest that owe nothing, out of the way until a fact asks for them:
    a cache of the fold, never more. Whatever is wrong with it, the log is replayed instead."""

    every: int
    """After how many facts it likes to be given what changed,"""
    every_seconds: float
    """and after what time, when there are fewer."""

    async def load(self) -> Saved | None:
        """What an earlier process left, if it can be relied on. Raises ArchiveUnavailable
        when it cannot be used at all."""

    def find(self, key: str) -> RequestState | None:
        """A state that was saved. Raises ArchiveUnavailable: then nothing of it counts."""

    def approvals(self) -> Iterator[Sequence[tuple[str, Approval]]]:
        """What the states at rest have signatures of, by request key, some at a time; nothing is to
        be saved meanwhile. Raises ArchiveUnavailable: then some were left out."""

    async def save(self, saved: Saved) -> None:
        """All of it or nothing. Raises ArchiveUnavailable; what was saved before still stands."""

    def resting(self) -> Resting: ...

    def wipe(self) -> None:
        """Forget everything. Raises ArchiveUnavailable."""

    def close(self) -> None: ...
