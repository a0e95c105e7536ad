"""Operators' orders and a lane: real node, real log."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.errors import RpcError, RpcProblem
from schemas.controls import WorkPaused, WorkResumed, request_scope, wallet_scope
from schemas.lanes import (
    CancellationRequested,
    RelayRefusal,
    RelayRefused,
    TransactionBroadcast,
    TransactionPrepared,
)
from schemas.topics import CONTROLS, LANES
from tests.lanes.bench import CHAIN_ID, Bench

BY = {"who": "ann", "why": "a test"}


async def cancel(lane: Bench, name: str) -> None:
    fact = CancellationRequested(
        chain_id=CHAIN_ID,
        wallet=lane.wallet.address,
        request_key=name,
        attempt=1,
        order=f"c-{name}",
    )
    await lane.writer.append(LANES, [fact])
    lane.owner.offer(fact)


def refused(lane: Bench, name: str):
    return lambda: f"{name}:1" in lane.owner.state.settled


async def test_a_paused_wallet_begins_nothing_and_goes_on_when_resumed(stack, key):
    async with Bench(stack, key) as lane:
        scope = wallet_scope(CHAIN_ID, lane.wallet.address)
        await lane.writer.append(CONTROLS, [WorkPaused(order="lane-p", **BY, scope=scope)])
        await lane.until(
            lambda: "paused by ann" in (lane.owner.reason or ""), "paused", mining=True
        )
        await lane.relay("pause-1", "pause-2")
        await cancel(lane, "pause-2")
        await lane.until(refused(lane, "pause-2"), "given up while paused")
        await lane.stop()
        await lane.start()
        await lane.mine(5)
        assert await lane.facts(TransactionPrepared) == []
        assert list(lane.owner.state.waiting) == ["pause-1:1"]
        await lane.writer.append(CONTROLS, [WorkResumed(order="lane-r", **BY, scope=scope)])
        await lane.settled("pause-1")
        [fact] = await lane.facts(RelayRefused)
        assert (fact.relay, fact.reason) == ("pause-2:1", RelayRefusal.CANCELLED)


async def test_what_is_out_stays_out_while_paused_and_no_longer(stack, key):
    """No replacement, no sending again: what nodes have may be mined, and is followed."""
    async with Bench(stack, key) as lane:
        await lane.relay("out-1", "out-2")
        await lane.broadcast(2)
        scope = wallet_scope(CHAIN_ID, lane.wallet.address)
        await lane.writer.append(CONTROLS, [WorkPaused(order="lane-p2", **BY, scope=scope)])
        await lane.until(lambda: "paused" in (lane.owner.reason or ""), "paused")
        await lane.chain.rpc("anvil_dropAllTransactions")
        await lane.mine(8)
        assert len(await lane.facts(TransactionPrepared)) == 2
        assert len(lane.owner.state.slots) == 2
        assert lane.owner.state.set_aside is None, "a held lane is not stuck"
        await lane.writer.append(CONTROLS, [WorkResumed(order="lane-r2", **BY, scope=scope)])
        await lane.settled("out-1", "out-2")


async def test_what_is_cancelled_with_a_nonce_makes_room_for_a_no_op(stack, key):
    async with Bench(stack, key) as lane:
        await lane.relay("void-1", "void-2", "void-3")
        await lane.broadcast(3)
        await cancel(lane, "void-2")
        await lane.until(lambda: lane.owner.state.slots[1].newest.relay is None, "a no-op")
        await lane.until(refused(lane, "void-2"), "given back", mining=True)
        await lane.settled("void-1", "void-3")
        [no_op] = [fact for fact in await lane.facts(TransactionPrepared) if fact.relay is None]
        assert no_op.nonce == 1 and no_op.replaces is not None
        [fact] = await lane.facts(RelayRefused)
        assert (fact.relay, fact.reason) == ("void-2:1", RelayRefusal.CANCELLED)
        await not_minted(lane, "void-2")


class BehindNode(EvmNode):
    """Takes every nonce for used, while it is told to."""

    refusing = True

    async def send_raw(self, raws: Sequence[str]) -> list[str | RpcError]:
        if self.refusing:
            return [RpcError(RpcProblem.NONCE_TOO_LOW, "nonce too low") for _ in raws]
        return await super().send_raw(raws)


async def test_what_a_node_refused_makes_room_for_a_no_op_as_well(stack, key):
    """Cancelled, it is never sent again: its nonce would be nobody's, and the lane would stand."""
    async with Bench(stack, key, node=BehindNode) as lane:
        await lane.relay("refused-1", "refused-2")
        await lane.until(lambda: "too low" in (lane.owner.reason or ""), "refused", mining=True)
        await cancel(lane, "refused-1")
        await lane.until(lambda: lane.owner.state.slots[0].newest.relay is None, "a no-op")
        lane.node.refusing = False
        await lane.until(refused(lane, "refused-1"), "given back", mining=True)
        await lane.settled("refused-2")
        await not_minted(lane, "refused-1")


async def test_a_cancellation_that_comes_too_late_changes_nothing(stack, key):
    async with Bench(stack, key) as lane:
        await lane.relay("late-1")
        await lane.broadcast(1)
        await lane.chain.rpc("evm_mine")
        await lane.until(lambda: lane.owner.state.slots[0].inclusion is not None, "in a block")
        await cancel(lane, "late-1")
        await lane.settled("late-1")
        assert await lane.facts(RelayRefused) == []
        await cancel(lane, "late-1")
        await asyncio.sleep(0.3)
        assert lane.owner.state.cancelled == {}


async def test_work_that_was_cancelled_before_it_came_is_never_begun(stack, key):
    async with Bench(stack, key) as lane:
        await cancel(lane, "early-1")
        await lane.until(refused(lane, "early-1"), "refused")
        await lane.relay("early-1", "early-2")
        await lane.settled("early-2")
        assert {fact.relay for fact in await lane.facts(TransactionPrepared)} == {"early-2:1"}
        await not_minted(lane, "early-1")


async def test_a_paused_request_frees_its_nonce_for_those_behind_it(stack, key):
    """Prepared, and nodes are away: its call never leaves, a no-op does."""
    async with Bench(stack, key) as lane:
        send, lane.node.send_raw = lane.node.send_raw, unavailable
        await lane.relay("alone-1", "alone-2")
        await lane.until(lambda: len(lane.owner.state.slots) == 2, "prepared")
        scope = request_scope("alone-1")
        await lane.writer.append(CONTROLS, [WorkPaused(order="alone-p", **BY, scope=scope)])
        await lane.until(lambda: lane.owner.state.slots[0].newest.relay is None, "a no-op")
        lane.node.send_raw = send
        await lane.until(lambda: "alone-2:1" in lane.owner.state.settled, "mined", mining=True)
        await lane.until(lambda: "alone-1:1" in lane.owner.state.waiting, "waits", mining=True)
        await not_minted(lane, "alone-1")
        sent = {fact.tx_hash for fact in await lane.facts(TransactionBroadcast)}
        [call] = [f for f in await lane.facts(TransactionPrepared) if f.relay == "alone-1:1"]
        assert call.tx_hash not in sent
        await lane.writer.append(CONTROLS, [WorkResumed(order="alone-r", **BY, scope=scope)])
        await lane.settled("alone-1", "alone-2")


async def unavailable(raws):
    return [RpcError(RpcProblem.UNAVAILABLE, "no answer")] * len(raws)


async def not_minted(lane: Bench, name: str) -> None:
    last = (await lane.node.head()).number
    logs = await lane.node.logs(lane.config.contract, list(ORCHESTRATOR.event_topics), 0, last)
    told = [ORCHESTRATOR.decode_event(log.topics, log.data, "").request_id for log in logs]
    assert name not in told
