"""What the live parts of the write side tell at a scrape. Read from them, never kept: a chain or
lane that another process owns now is not told of here."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable
from typing import Any

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.adapters.postgres_guard import PostgresGuard
from orchestrator.metrics import Sample, watch
from streams.books import Book
from streams.conserving import Gate
from streams.controls import Controls
from streams.following import ChainFollower
from streams.listening import KuroListener
from streams.relaying import Relayer
from streams.signing import SigningDesk

Job = Callable[[], Coroutine[Any, Any, None]]


def measured(run: Job, read: Callable[[], Iterable[Sample]]) -> Job:
    """The job, told of while it runs."""

    async def job() -> None:
        with watch(read):
            await run()

    return job


def of_follower(follower: ChainFollower) -> Iterable[Sample]:
    chain = (follower.chain_id,)
    head = follower.head_timestamp
    age = None if head is None else max(0.0, time.time() - head)
    yield "chain_head_block", chain, follower.head_block
    yield "chain_head_age_seconds", chain, age
    yield "chain_head_lag_blocks", chain, follower.head_lag
    yield "follower_stuck", chain, float(follower.reason is not None)
    watch = follower.supply
    if watch is not None:
        book = watch.book
        known = book.compared is not None
        yield "supply_units", chain, book.compared.total_supply if book.compared else None
        yield "supply_unexplained_units", chain, book.unexplained if known else None
        yield "supply_untold", chain, float(watch.problem is not None)


def of_node(role: str, node: EvmNode) -> Iterable[Sample]:
    """Each role has a node of its own for a chain, and one process may have both roles."""
    for sight in node.sights:
        url = (role, node.chain_id, sight.name)
        age = None if sight.timestamp is None else max(0.0, time.time() - sight.timestamp)
        yield "rpc_url_head_block", url, sight.block
        yield "rpc_url_head_age_seconds", url, age
        yield "rpc_url_set_back", url, float(sight.set_back)


def of_listener(listener: KuroListener) -> Iterable[Sample]:
    health, now = listener.source.health, time.time()
    heard, listed = health.last_message_at, health.last_list_at
    yield "kuro_connected", (), float(health.connected_since is not None)
    yield "kuro_silence_seconds", (), None if heard is None else max(0.0, now - heard)
    yield "kuro_list_age_seconds", (), None if listed is None else max(0.0, now - listed)


def of_book(role: str, book: Book) -> Iterable[Sample]:
    """Both places are told of: what `STATE_DIR` should hold and this process holds is seen."""
    yield "book_awake_requests", (role,), book.awake
    found = list(book.resting())
    for place, on_disk in (("disk", True), ("memory", False)):
        here = [held for held in found if held.on_disk is on_disk]
        yield "book_resting_requests", (role, place), sum(held.requests for held in here)
        yield "book_resting_bytes", (role, place), sum(held.size_bytes for held in here)
        yield "book_partitions", (role, place), len(here)


def of_guard(desk: SigningDesk, guard: PostgresGuard | None) -> Iterable[Sample]:
    yield "signing_guard_on", (), float(guard is not None)
    up = None if guard is None or guard.up is None else float(guard.up)
    yield "signing_guard_up", (), up
    yield "signing_guard_refused", (), len(desk.refused)


def of_gate(desk: SigningDesk, gate: Gate) -> Iterable[Sample]:
    yield "gate_refused", (), len(desk.objected)
    yield "gate_read_age_seconds", (), gate.unread_seconds
    ledger, doubts = gate.ledger, Counter(doubt.chain_id for doubt in gate.unsettled)
    for chain_id in sorted({*gate.chains, *ledger.covered, *ledger.minted, *ledger.approved}):
        chain = (chain_id,)
        yield "gate_doubts", chain, doubts[chain_id]
        yield "gate_compared_age_seconds", chain, gate.unproven_seconds(chain_id)
        yield "gate_awaits_comparison", chain, float(gate.awaits_comparison(chain_id))
        yield "gate_covered_units", chain, ledger.covered.get(chain_id, 0)
        yield "gate_minted_units", chain, ledger.minted.get(chain_id, 0)
        yield "gate_approved_units", chain, ledger.approved.get(chain_id, 0)


def of_sequences(relayer: Relayer) -> Iterable[Sample]:
    for owner in relayer.sequence_owners:
        chain = (owner.state.chain_id,)
        yield "sequence_waiting", chain, owner.state.unserved
        yield "sequence_granted", chain, len(owner.state.live)
        yield "sequence_stuck", chain, float(owner.reason is not None)


def of_policies(relayer: Relayer) -> Iterable[Sample]:
    now = asyncio.get_running_loop().time()
    for owner in relayer.policy_owners:
        yield "policy_waiting", (), len(owner.state.asked)
        yield "policy_stuck", (), float(owner.reason is not None)
        for chain_id, unasked in owner.unasked.items():
            yield "registry_unasked_seconds", (chain_id,), max(0.0, now - unasked.since)


def of_controls(controls: Controls) -> Iterable[Sample]:
    if controls.read:
        applied = controls.state.policy
        version = "none" if applied is None else applied.version[:10]
        yield "policy_in_force", (version,), 1.0


def of_lanes(relayer: Relayer) -> Iterable[Sample]:
    for owner in relayer.lane_owners:
        state = owner.state
        lane = (state.chain_id, state.wallet)
        chain_nonce, balance_wei = owner.seen
        known = state.next_nonce is not None and chain_nonce is not None
        gap = (state.next_nonce or 0) - (chain_nonce or 0) if known else None
        yield "lane_waiting", lane, len(state.waiting)
        yield "lane_set_aside", lane, float(state.set_aside is not None)
        yield "lane_next_nonce", lane, state.next_nonce
        yield "lane_chain_nonce", lane, chain_nonce
        yield "lane_nonce_gap", lane, gap
        yield "lane_balance_wei", lane, balance_wei
