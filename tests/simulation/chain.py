"""A working model of a chain: blocks with their own states, a pool, reorganisations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import lru_cache
from random import Random

import rlp
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.core.bloom import bloom_of
from orchestrator.core.chain import Head, Receipt
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Log
from tests.simulation.contract import (
    GAS_OF,
    INTRINSIC_GAS,
    NOBODY,
    Happened,
    Reverted,
    Stablecoin,
    State,
    moved,
    signer_of,
)
from tests.simulation.launchpad import LaunchpadStableCoin
from tests.simulation.outside import HOLDERS
from tests.simulation.registry import SimulatedRegistry

Contract = Stablecoin | LaunchpadStableCoin
GWEI = 10**9
BLOCK_CAPACITY = 400


@dataclass(frozen=True)
class Transaction:
    """A decoded EIP-1559 transaction."""

    tx_hash: str
    sender: str
    nonce: int
    to: str
    data: str
    gas_limit: int
    max_fee: int
    tip: int


@lru_cache(maxsize=20_000)
def read_transaction(raw: str) -> Transaction:
    """From the signed bytes; the sender by recovery."""
    content = bytes.fromhex(raw[2:])
    fields = rlp.decode(content[1:])
    _, nonce, tip, max_fee, gas, to, _, data, _, parity, r, s = fields
    message = "0x" + keccak(b"\x02" + rlp.encode(fields[:9])).hex()
    signature = r.rjust(32, b"\0") + s.rjust(32, b"\0") + bytes([27 + _int(parity)])
    return Transaction(
        "0x" + keccak(content).hex(),
        signer_of(message, signature),
        _int(nonce),
        str(to_checksum_address(to)),
        "0x" + data.hex(),
        _int(gas),
        _int(max_fee),
        _int(tip),
    )


_bloom_of = lru_cache(maxsize=20_000)(bloom_of)


def _int(value: bytes) -> int:
    return int.from_bytes(value, "big")


@dataclass
class Block:
    head: Head
    state: State
    receipts: dict[str, Receipt] = field(default_factory=dict)
    logs: list[Log] = field(default_factory=list)
    transactions: list[Transaction] = field(default_factory=list)


@dataclass(frozen=True)
class View:
    """A chain as one node sees it: a branch up to a height."""

    branch: list[Block]
    height: int

    @property
    def tip(self) -> Block:
        return self.branch[self.height]

    def block(self, number: int) -> Block | None:
        return self.branch[number] if 0 <= number <= self.height else None


class Chain:
    """One chain with our contract, and its pool. Blocks come when `mine` is called."""

    def __init__(
        self, contract: Contract, rng: Random, now: Callable[[], float], deepest: int
    ) -> None:
        self.contract = contract
        self.chain_id = contract.chain_id
        self.registry = SimulatedRegistry({HOLDERS[2].lower()})
        self._rng = rng
        self._now = now
        self._salt = 0
        self.confirmations = deepest
        self.funds: dict[str, int] = {}
        self.pool: dict[str, dict[int, Transaction]] = {}
        self.version = 0
        self.dearer = 0
        """Gas that a call takes when it is mined, and that no estimate tells."""
        self.base_fee = GWEI
        self.given = 0
        """Minted in blocks by somebody whose mints have no event of ours."""
        self._gift: tuple[str, int] | None = None
        start = Head(0, self._hash("genesis"), "0x" + "0" * 64, int(now()), self.base_fee)
        self.blocks = [Block(start, State())]
        self.seen: list[View] = [View(self.blocks, 0)]
        """What nodes may still show: the newest view last."""
        self.where: dict[str, list[Block]] = {}

    def _hash(self, *parts: object) -> str:
        self._salt += 1
        text = ":".join(str(part) for part in (self.chain_id, self._salt, *parts))
        return "0x" + hashlib.sha256(text.encode()).hexdigest()

    @property
    def view(self) -> View:
        return self.seen[-1]

    @property
    def final(self) -> Block:
        """The newest block of the configured depth, in truth."""
        return self.blocks[max(0, len(self.blocks) - 1 - self.confirmations)]

    def holds(self, tx_hash: str) -> Block | None:
        """The block of the canonical branch that holds a transaction."""
        for block in self.where.get(tx_hash, ()):
            number = block.head.number
            if number < len(self.blocks) and self.blocks[number] is block:
                return block
        return None

    def submit(self, transaction: Transaction) -> str:
        """Into the pool. Raises RpcError with a node's refusal."""
        spent = self.view.tip.state.nonces.get(transaction.sender, 0)
        mine = self.pool.setdefault(transaction.sender, {})
        held = mine.get(transaction.nonce)
        if held is not None and held.tx_hash == transaction.tx_hash:
            raise RpcError(RpcProblem.ALREADY_KNOWN, "already known")
        if transaction.nonce < spent:
            raise RpcError(RpcProblem.NONCE_TOO_LOW, "nonce too low")
        if transaction.gas_limit < INTRINSIC_GAS:
            raise RpcError(RpcProblem.GAS_TOO_LOW, "intrinsic gas too low")
        if transaction.max_fee < GWEI // 1000:
            raise RpcError(RpcProblem.UNDERPRICED, "transaction underpriced")
        if self.funds.get(transaction.sender, 0) < transaction.gas_limit * transaction.max_fee:
            raise RpcError(RpcProblem.INSUFFICIENT_FUNDS, "insufficient funds")
        if held is not None and not (
            transaction.max_fee * 10 >= held.max_fee * 11 and transaction.tip * 10 >= held.tip * 11
        ):
            raise RpcError(RpcProblem.REPLACEMENT_UNDERPRICED, "replacement underpriced")
        mine[transaction.nonce] = transaction
        self.version += 1
        return transaction.tx_hash

    def drop(self, probability: float) -> int:
        """The pool forgets transactions, as full pools and restarted nodes do."""
        dropped = 0
        for mine in self.pool.values():
            for nonce in [nonce for nonce in mine if self._rng.random() < probability]:
                del mine[nonce]
                dropped += 1
        self.version += dropped
        return dropped

    def apply(
        self, state: State, transaction: Transaction, timestamp: int
    ) -> tuple[bool, list[Happened], int]:
        """Execute in place: success, events, gas used."""
        state.nonces[transaction.sender] = transaction.nonce + 1
        gas = GAS_OF.get(transaction.data[:10], INTRINSIC_GAS + 500) + self.dearer
        if transaction.to != self.contract.address:
            return True, [], INTRINSIC_GAS
        if transaction.gas_limit < gas:
            return False, [], transaction.gas_limit
        try:
            happened = self.contract.execute(state, transaction.sender, transaction.data, timestamp)
        except Reverted:
            return False, [], min(gas, 45_000)
        return True, happened, gas

    def gift(self, to: str, amount: int) -> None:
        """With the next block, by whoever may mint in this contract without an approval."""
        self._gift = to, amount

    def _give(self, block: Block) -> None:
        assert self._gift is not None
        (to, amount), self._gift = self._gift, None
        block.state.supply += amount
        block.state.balances[to] = block.state.balances.get(to, 0) + amount
        self.given += amount
        event, head = moved(NOBODY, to, amount), block.head
        place = (head.number, head.hash, self._hash("gift"), len(block.logs))
        block.logs.append(Log(self.contract.address, event.topics, event.data, *place))

    def mine(self, share: float = 1.0, timestamp: int | None = None) -> Block:
        """One block with about this share of what could be in it."""
        parent = self.blocks[-1]
        number = parent.head.number + 1
        stamp = max(parent.head.timestamp + 1, int(self._now()) if timestamp is None else timestamp)
        chosen = self._executable(parent.state, share)
        block_hash = self._hash(number, parent.head.hash)
        head = Head(number, block_hash, parent.head.hash, stamp, self.base_fee)
        changes = chosen or self._gift
        block = Block(head, parent.state.copy() if changes else parent.state)
        for transaction in chosen:
            self._include(block, transaction)
        if self._gift is not None:
            self._give(block)
        if block.logs:
            bloom = _bloom_of(tuple((log.address, log.topics) for log in block.logs))
            block.head = replace(head, logs_bloom=bloom)
        self.blocks.append(block)
        self.seen.append(View(self.blocks, number))
        del self.seen[:-30]
        self.version += 1
        return block

    def _executable(self, state: State, share: float) -> list[Transaction]:
        chosen: list[Transaction] = []
        for sender, mine in self.pool.items():
            nonce = state.nonces.get(sender, 0)
            for stale in [old for old in mine if old < nonce]:
                del mine[stale]
            while nonce in mine and len(chosen) < BLOCK_CAPACITY:
                if mine[nonce].max_fee < self.base_fee or self._rng.random() > share:
                    break
                chosen.append(mine.pop(nonce))
                nonce += 1
        return chosen

    def _include(self, block: Block, transaction: Transaction) -> None:
        head = block.head
        succeeded, happened, gas = self.apply(block.state, transaction, head.timestamp)
        block.transactions.append(transaction)
        block.receipts[transaction.tx_hash] = Receipt(
            transaction.tx_hash, head.number, head.hash, succeeded, gas
        )
        self.where.setdefault(transaction.tx_hash, []).append(block)
        for event in happened:
            place = len(block.logs)
            block.logs.append(
                Log(
                    self.contract.address,
                    event.topics,
                    event.data,
                    head.number,
                    head.hash,
                    transaction.tx_hash,
                    place,
                )
            )

    def reorganise(self, depth: int, kept: float, share: float, longer: int = 1) -> None:
        """Replace the newest `depth` blocks by others, and `longer` more. Of what was in them, each
        transaction returns to the pool with probability `kept`."""
        depth = min(depth, len(self.blocks) - 1)
        gone = self.blocks[len(self.blocks) - depth :] if depth else []
        self.blocks = self.blocks[: len(self.blocks) - depth]
        for block in gone:
            for transaction in block.transactions:
                if self._rng.random() < kept:
                    mine = self.pool.setdefault(transaction.sender, {})
                    mine.setdefault(transaction.nonce, transaction)
        times = [block.head.timestamp for block in gone]
        for step in range(depth + longer):
            self.mine(share, times[step] if step < len(times) else None)
        elsewhere = [view for view in self.seen if view.branch is not self.blocks]
        self.seen = [*elsewhere[-30:], self.seen[-1]]
        self.version += 1

    def pending(self) -> tuple[State, int]:
        """The newest state with what the pool would add, and the next block's time."""
        parent = self.view.tip
        stamp = max(parent.head.timestamp + 1, int(self._now()))
        state = parent.state.copy()
        for sender, mine in self.pool.items():
            nonce = state.nonces.get(sender, 0)
            while nonce in mine:
                self.apply(state, mine[nonce], stamp)
                nonce += 1
        return state, stamp
