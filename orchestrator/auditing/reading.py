"""Feeding an audit: every topic from zero, then each chain at its final block.

Records stream through; what is kept of them is in the audit's own books. Each partition is read to
the end that it has when its turn comes, in the order that `core.auditing.checking` asks for.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import orjson

from orchestrator.core.auditing.checking import NEEDED, Audit
from orchestrator.core.auditing.findings import Kind
from orchestrator.core.auditing.lanes import Mined
from orchestrator.core.auditing.profile import TOTAL_SUPPLY
from orchestrator.core.chain import Head
from orchestrator.errors import OrchestratorError, RpcError, RpcProblem, StartRefused
from orchestrator.ports import Call, Log, LogReader, Message
from schemas.base import Position, UnreadableRecord
from schemas.topics import TOPICS

Tell = Callable[[str, int, int], None]
"""Step, done, total (0: not known)."""

FIRST_RANGE, LARGEST_RANGE, SMALLER_FROM_LOGS = 2_000, 50_000, 5_000
TRANSACTIONS_AT_ONCE = 1_000
ATTEMPTS = 6
FIRST_DELAY_SECONDS = 0.5


class AuditedChain(Protocol):
    """What an audit asks of a chain; a part of `ports.ChainNode`, and transactions by hash."""

    chain_id: int

    async def check_chain(self) -> None: ...

    async def block(self, number: int) -> Head | None: ...

    async def logs(
        self, contract: str, topics: Sequence[str], first: int, last: int, *, again: int = 0
    ) -> list[Log]: ...

    async def transaction_count(self, address: str, block: int | None = None) -> int: ...

    async def transactions(self, tx_hashes: Sequence[str]) -> list[Mined | None]: ...

    async def call(self, call: Call, block: int | None = None) -> str: ...

    async def close(self) -> None: ...


@dataclass(frozen=True, slots=True)
class ChainToAudit:
    """A chain of the configuration. `node` is None when only the log is judged."""

    chain_id: int
    contract: str
    wallets: tuple[str, ...]
    start_block: int
    node: AuditedChain | None = None


@dataclass(slots=True)
class Standing:
    """What a chain was judged at. `problem` says why it was not judged to the end."""

    chain_id: int
    block_number: int | None = None
    block_hash: str | None = None
    block_time: int | None = None
    events_on_chain: int | None = None
    transactions: int = 0
    problem: str | None = None


@dataclass(slots=True)
class Run:
    """What an audit came to, beside its findings."""

    standings: dict[int, Standing] = field(default_factory=dict)
    records: dict[str, int] = field(default_factory=dict)
    decoded: int = 0

    @property
    def problems(self) -> list[str]:
        found = sorted(self.standings.values(), key=lambda item: item.chain_id)
        return [f"chain {item.chain_id}: {item.problem}" for item in found if item.problem]


async def read_log(audit: Audit, log: LogReader, run: Run, tell: Tell) -> None:
    """Every topic from offset zero. Raises LogUnavailable."""
    for name, kinds in NEEDED.items():
        topic, count = TOPICS[name], 0
        for number in range(topic.partitions):
            audit.requests.turn_page()
            async for _, messages in log.replay(topic, {number: 0}):
                run.decoded += feed(audit, messages, kinds)
                count += len(messages)
                tell(name, count, 0)
                await asyncio.sleep(0)
        run.records[name] = count
        tell(name, count, count)
    audit.match()


def feed(audit: Audit, messages: Sequence[Message], kinds: set[str]) -> int:
    """Decode what matters; how many that were."""
    decoded = 0
    for message in messages:
        topic = TOPICS[message.topic]
        if _kind(message.value) in topic.kinds.keys() - kinds:
            continue
        position = Position(message.topic, message.partition, message.offset)
        try:
            record = topic.decode(message.value, position)
        except UnreadableRecord as error:
            audit.unreadable(str(position), str(error)[:300])
            continue
        decoded += 1
        audit.feed(record)
    return decoded


def _kind(value: bytes | None) -> str | None:
    """The kind that a record says it is of. None for one that says none: decoding tells why."""
    try:
        kind = orjson.loads(value or b"").get("kind")
    except (orjson.JSONDecodeError, AttributeError):
        return None
    return kind if isinstance(kind, str) else None


async def read_chains(
    audit: Audit, chains: Mapping[int, ChainToAudit], run: Run, tell: Tell
) -> None:
    """Judge every chain at its final block; what keeps one from that is its `problem`."""
    for chain_id in sorted(set(chains) | set(audit.chains) - set(audit.ways)):
        standing = run.standings[chain_id] = Standing(chain_id)
        chain = chains.get(chain_id)
        if chain is None:
            standing.problem = "the log holds events of it, and CHAIN_IDS does not name it"
            continue
        final = audit.final_block(chain_id)
        if final is None:
            standing.problem = _not_there(audit, chain_id)
            continue
        standing.block_number = final
        if chain.node is None:
            book = audit.chain(chain_id)
            standing.block_hash = book.cursor_hash if final == book.cursor else None
            audit.judge_supply(chain_id, None)
            continue
        try:
            await _read_chain(audit, chain, chain.node, standing, tell)
        except (RpcError, StartRefused) as error:
            standing.problem = str(error)


def _not_there(audit: Audit, chain_id: int) -> str | None:
    book = audit.chains.get(chain_id)
    if book is None or book.cursor is None:
        return "the log has not followed it"
    return f"the log follows it to block {book.cursor} only"


async def _read_chain(
    audit: Audit, chain: ChainToAudit, node: AuditedChain, standing: Standing, tell: Tell
) -> None:
    final = standing.block_number
    assert final is not None
    await _patiently(node.check_chain)
    block = await _patiently(lambda: node.block(final))
    if block is None:
        raise RpcError(RpcProblem.UNAVAILABLE, f"no node has block {final}")
    standing.block_hash, standing.block_time = block.hash, block.timestamp
    audit.judge_block(chain.chain_id, final, block.hash)
    standing.events_on_chain = await _read_events(audit, chain, node, final, tell)
    supply = await _patiently(
        lambda: node.call(Call(chain.contract, chain.contract, TOTAL_SUPPLY), final)
    )
    audit.judge_supply(chain.chain_id, int(supply, 16))
    lanes = {wallet for held, wallet in audit.lanes.first if held == chain.chain_id}
    for wallet in sorted(lanes | set(chain.wallets)):
        standing.transactions += await _read_wallet(audit, node, wallet, final, tell)


async def _read_events(
    audit: Audit, chain: ChainToAudit, node: AuditedChain, final: int, tell: Tell
) -> int:
    """All logs in ranges that adapt to the provider. What the log has and an answer had not is
    asked for once more, of another node first, before anything is concluded."""
    step, size, at = f"chain {chain.chain_id}", FIRST_RANGE, chain.start_block
    seen: set[tuple[str, int]] = set()
    first = chain.start_block
    while at <= final:
        last = min(final, at + size - 1)
        try:
            logs = await _logs(chain, node, audit, at, last)
        except RpcError as error:
            if error.problem is not RpcProblem.RANGE_TOO_LARGE or at == last:
                raise
            size = max(1, (last - at + 1) // 2)
            continue
        _see(audit, chain.chain_id, logs, seen)
        size = max(1, size // 2) if len(logs) > SMALLER_FROM_LOGS else min(size * 2, LARGEST_RANGE)
        at = last + 1
        tell(step, at - first, final - first + 1)
    for number in sorted({event.block_number for event in audit.unseen(chain.chain_id)}):
        _see(audit, chain.chain_id, await _logs(chain, node, audit, number, number, 1), seen)
    audit.judge_unseen(chain.chain_id)
    return len(seen)


async def _logs(
    chain: ChainToAudit, node: AuditedChain, audit: Audit, first: int, last: int, again: int = 0
) -> list[Log]:
    topics = audit.ways[chain.chain_id].topics
    found: list[Log] = await _patiently(
        lambda: node.logs(chain.contract, topics, first, last, again=again)
    )
    return found


def _see(audit: Audit, chain_id: int, logs: Sequence[Log], seen: set[tuple[str, int]]) -> None:
    ways = audit.ways[chain_id]
    for entry in logs:
        seat = (entry.block_hash, entry.log_index)
        if seat in seen:
            continue
        seen.add(seat)
        place = f"{entry.tx_hash}:{entry.log_index}"
        try:
            told = ways.event(entry.topics, entry.data, place)
        except ValueError as error:
            audit.findings.add(
                Kind.EVENT_NOT_ON_LOG, chain_id, place, f"a log that does not decode: {error}"
            )
            continue
        block = (entry.block_number, entry.block_hash)
        audit.see(chain_id, block, entry.tx_hash, entry.log_index, told)


async def _read_wallet(
    audit: Audit, node: AuditedChain, wallet: str, final: int, tell: Tell
) -> int:
    """Every nonce that the chain has spent, against the log's versions of it."""
    lane = (node.chain_id, wallet)
    count = await _patiently(lambda: node.transaction_count(wallet, final))
    audit.lanes.unused(node.chain_id, wallet, count)
    audit.lanes.judge_unspent(lane, count, final)
    spent = list(audit.lanes.spent(lane, count))
    for at in range(0, len(spent), TRANSACTIONS_AT_ONCE):
        part = spent[at : at + TRANSACTIONS_AT_ONCE]
        asked = [(slot.versions if slot else ()) for _, slot in part]
        hashes = [tx_hash for versions in asked for tx_hash in versions]
        found = iter(await _patiently(lambda hashes=hashes: node.transactions(hashes)))  # type: ignore[misc]
        for (nonce, slot), versions in zip(part, asked, strict=True):
            audit.lanes.judge(lane, nonce, slot, [next(found) for _ in versions])
        tell(f"nonces {node.chain_id}", at + len(part), len(spent))
    return len(spent)


async def _patiently(ask: Callable[[], Any]) -> Any:
    """What passes is asked again a few times, with longer and longer pauses."""
    delay = FIRST_DELAY_SECONDS
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return await ask()
        except RpcError as error:
            passing = error.problem in (RpcProblem.UNAVAILABLE, RpcProblem.RATE_LIMITED)
            if not passing or attempt == ATTEMPTS:
                raise
        await asyncio.sleep(delay)
        delay *= 2
    raise AssertionError("every attempt answers or raises")


FAILURES: tuple[type[Exception], ...] = (OrchestratorError, OSError)
"""What `read_log` raises when the log cannot be read."""
