"""Lanes that the chain surprises: real node, real log."""

from __future__ import annotations

import asyncio

from orchestrator.core.fees import Fees, bumped
from schemas.lanes import (
    LaneHalted,
    LaneReconciled,
    LaneResumed,
    NonceTaken,
    RelayRefusal,
    RelayRefused,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionPrepared,
    TransactionResent,
    WalletRestored,
    WalletSetAside,
)
from schemas.topics import LANES
from tests.lanes.bench import CHAIN_ID, GWEI, Bench, LossyNode, OldNode


async def test_what_stays_out_is_replaced_at_higher_fees_and_the_mined_version_named(stack, key):
    async with Bench(stack, key) as lane:
        await lane.relay("replace-1", "replace-2", "replace-3")
        await lane.broadcast(3)
        for _ in range(4):
            await lane.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(100 * GWEI))
            await lane.mine()
        await lane.until(
            lambda: all(len(slot.versions) > 1 for slot in lane.owner.state.slots.values()),
            "replaced",
        )
        await lane.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        await lane.settled("replace-1", "replace-2", "replace-3")
        prepared = {fact.tx_hash: fact for fact in await lane.facts(TransactionPrepared)}
        later = [fact for fact in prepared.values() if fact.replaces]
        assert {fact.relay for fact in later} == {f"replace-{n}:1" for n in (1, 2, 3)}
        for fact in later:
            old = prepared[fact.replaces]
            least = bumped(
                Fees(old.max_fee_per_gas_wei, old.max_priority_fee_per_gas_wei), Fees(0, 0)
            )
            assert fact.max_fee_per_gas_wei >= least.max_fee_per_gas_wei
            assert fact.max_priority_fee_per_gas_wei >= least.max_priority_fee_per_gas_wei
            assert (fact.nonce, fact.relay) == (old.nonce, old.relay)
        included = {fact.tx_hash for fact in await lane.facts(TransactionIncluded)}
        assert included <= set(prepared)
        assert included & {fact.tx_hash for fact in later}


async def test_dropped_transactions_are_sent_again_and_the_gap_closes(stack, key):
    async with Bench(stack, key) as lane:
        await lane.relay("drop-1", "drop-2", "drop-3")
        await lane.broadcast(3)
        slots = list(lane.owner.state.slots.values())
        for slot in slots[:2]:
            await lane.chain.rpc("anvil_dropTransaction", slot.newest.tx_hash)
        dropped, resent = {slot.newest.tx_hash for slot in slots[:2]}, set()
        while not dropped <= resent:  # or the test's own time limit
            await asyncio.sleep(0.2)
            resent = {fact.tx_hash for fact in await lane.facts(TransactionResent)}
        await lane.settled("drop-1", "drop-2", "drop-3")


async def test_an_outsider_displaces_ours_with_proof_and_it_is_prepared_anew(stack, key):
    async with Bench(stack, key) as lane:
        await lane.relay("taken-1", "taken-2")
        await lane.broadcast(2)
        first = min(lane.owner.state.slots)
        await lane.outsider(first)
        await lane.mine(6)
        await lane.settled("taken-1", "taken-2")
        [taken] = await lane.facts(NonceTaken)
        assert (taken.nonce, taken.relay) == (first, "taken-1:1")
        nonces = {f.nonce for f in await lane.facts(TransactionPrepared) if f.relay == taken.relay}
        assert len(nonces) == 2


async def test_a_nonce_that_a_reorganisation_gives_back_is_healed(stack, key):
    async with Bench(stack, key) as lane:
        nonce = lane.owner.state.next_nonce
        await lane.outsider(nonce)
        await lane.mine()
        await lane.until(lambda: lane.owner.state.next_nonce == nonce + 1, "taken", mining=False)
        await lane.chain.reorganise(1)
        await lane.chain.rpc("anvil_dropAllTransactions")
        await lane.relay("healed-1")
        await lane.settled("healed-1")
        no_ops = [f for f in await lane.facts(TransactionPrepared) if f.relay is None]
        assert [fact.nonce for fact in no_ops] == [nonce]
        assert lane.owner.state.halted is None


async def test_a_reorganisation_sends_the_same_bytes_again(stack, key):
    async with Bench(stack, key) as lane:
        await lane.relay("reorg-1", "reorg-2")
        await lane.broadcast(2)
        await lane.mine()
        await lane.until(
            lambda: all(slot.inclusion for slot in lane.owner.state.slots.values()), "included"
        )
        await lane.chain.reorganise(1)
        await lane.mine()
        await lane.settled("reorg-1", "reorg-2")
        kinds = [fact.kind for fact in await lane.facts()]
        assert kinds.count("TransactionOrphaned") == 2
        assert kinds.count("TransactionPrepared") == 2


async def test_lost_answers_double_nothing(stack, key):
    async with Bench(stack, key, LossyNode) as lane:
        lane.node.lost = 1
        await lane.relay("lost-1")
        await lane.broadcast(1)
        lane.node.on_lost = lane.mine
        lane.node.lost = 1
        await lane.relay("lost-2")
        await lane.settled("lost-1", "lost-2")
        assert len(await lane.facts(TransactionPrepared)) == 2


async def test_a_new_owner_goes_on_where_the_former_was_stopped(stack, key):
    async with Bench(stack, key) as lane:
        await lane.relay("owner-1", "owner-2")
        await lane.broadcast(2)
        hashes = {slot.newest.tx_hash for slot in lane.owner.state.slots.values()}
        await lane.stop()
        await lane.chain.rpc("anvil_dropAllTransactions")
        await lane.start()
        await lane.settled("owner-1", "owner-2")
        assert {fact.tx_hash for fact in await lane.facts(TransactionFinal)} == hashes


async def test_a_wallet_without_funds_gives_back_what_it_has_not_begun(stack, key):
    other = "0x" + "22" * 20
    async with Bench(stack, key, others=[other]) as lane:
        address = lane.wallet.address
        await lane.relay("funds-0")
        await lane.settled("funds-0")
        cost = lane.owner._preparing.one_costs_wei()
        await lane.chain.rpc("anvil_setBalance", address, hex(cost * 5 // 2))
        lane.owner._fitness.funds.doubt()
        await asyncio.sleep(1.2)
        names = [f"funds-{number}" for number in range(1, 9)]
        await lane.relay(*names)
        await lane.until(lambda: len(lane.owner.state.settled) >= 2, "work", mining=True)
        await lane.chain.rpc("anvil_setBalance", address, hex(cost // 2))
        lane.owner._fitness.funds.doubt()
        await lane.until(
            lambda: lane.owner.state.set_aside is not None and not lane.owner.state.waiting,
            "set aside",
        )
        refused = await lane.facts(RelayRefused)
        assert refused and {fact.reason for fact in refused} == {RelayRefusal.WALLET_UNFIT}
        started = {fact.relay for fact in await lane.facts(TransactionPrepared)}
        assert not started & {fact.relay for fact in refused}
        assert "send it" in lane.owner.reason
        await lane.chain.rpc("anvil_setBalance", address, hex(10**20))
        await lane.until(lambda: lane.owner.state.set_aside is None, "restored", mining=True)
        await lane.until(lambda: not lane.owner.state.slots, "all final", mining=True)
        kinds = [type(f) for f in await lane.facts() if "Wallet" in f.kind]
        assert kinds == [WalletSetAside, WalletRestored]
        given_back = {fact.relay.partition(":")[0] for fact in refused}
        await lane.minted_once(*(name for name in names if name not in given_back))


async def test_fees_stop_at_the_cap_with_a_reason_and_nothing_is_blocked_for_ever(stack, key):
    async with Bench(stack, key, fee_cap_wei=40 * GWEI) as lane:
        await lane.relay("cap-1")
        await lane.broadcast(1)
        for _ in range(40):
            await lane.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(90 * GWEI))
            await lane.mine()
            if "stands at the cap" in (lane.owner.reason or ""):
                break
        assert "FEE_CAP_WEI" in (lane.owner.reason or "")
        versions = await lane.facts(TransactionPrepared)
        assert all(fact.max_fee_per_gas_wei <= 40 * GWEI for fact in versions)
        assert len(versions) >= 2
        await lane.chain.rpc("anvil_setNextBlockBaseFeePerGas", hex(GWEI))
        await lane.settled("cap-1")
        await lane.mine()
        await lane.until(lambda: lane.owner.reason is None, "no reason left", mining=True)


async def test_a_chain_without_base_fee_gets_legacy_transactions(stack, key):
    async with Bench(stack, key, OldNode) as lane:
        await lane.relay("legacy-1", "legacy-2")
        await lane.settled("legacy-1", "legacy-2")
        for fact in await lane.facts(TransactionPrepared):
            assert not fact.raw.startswith("0x02")
            assert fact.max_fee_per_gas_wei == fact.max_priority_fee_per_gas_wei
        assert len(await lane.facts(TransactionBroadcast)) == 2


async def test_a_burst_with_learnt_gas_limits(stack, key):
    """One call of the kind is tried on each head, none is estimated; and while the head refuses the
    one that is tried, each is estimated: what would fail is refused before gas is paid for it."""
    async with Bench(stack, key) as lane:
        first = [f"learn-{number:03d}" for number in range(20)]
        [done_before, *_] = await lane.relay(*first)
        await lane.settled(*first)
        second = [f"learn-{number:03d}" for number in range(20, 60)]
        asked = []
        estimate = lane.node.estimate_gas

        async def counting(calls):
            asked.extend(calls)
            return await estimate(calls)

        lane.node.estimate_gas = counting
        await lane.relay(*second)
        await lane.settled(*second)
        assert not asked
        again = done_before.model_copy(update={"attempt": 2})
        third = [f"learn-{number:03d}" for number in range(60, 70)]
        await lane.writer.append(LANES, [again])
        lane.owner.offer(again)
        await lane.relay(*third)
        await lane.settled(*third)
        await lane.until(lambda: again.relay in lane.owner.state.settled, "refused")
        [refused] = await lane.facts(RelayRefused)
        assert (refused.relay, refused.reason) == (again.relay, RelayRefusal.ALREADY_PROCESSED)
        assert any(call.data == again.data for call in asked)
        state = lane.owner.state
        assert state.next_nonce - state.first_nonce == len(first + second + third)


async def test_z_a_chain_that_was_reset_halts_the_lane_until_a_person_lets_it_go_on(stack, key):
    """Last in this file: it takes the chain away from the others."""
    async with Bench(stack, key) as lane:
        snapshot = await lane.chain.rpc("evm_snapshot")
        await lane.relay("reset-1")
        await lane.settled("reset-1")
        await lane.chain.rpc("evm_revert", snapshot)
        await lane.chain.rpc("evm_increaseTime", hex(3600))
        await lane.chain.rpc("evm_mine")
        await lane.until(lambda: lane.owner.state.halted is not None, "halted")
        [halted] = await lane.facts(LaneHalted)
        assert "reset" in halted.reason
        assert lane.owner.reason == halted.reason
        await lane.relay("reset-2", seconds=10**6)
        await lane.stop()
        await lane.start()
        await lane.mine(3)
        assert lane.owner.state.halted == halted
        lost = lane.owner.state.next_nonce - 1
        about = {"chain_id": CHAIN_ID, "wallet": lane.wallet.address}
        word = {**about, "order": "l-1", "who": "ann", "why": "the chain was wound back"}
        for halt in ("halted:another", halted.id):
            fact = LaneResumed(**word, halt=halt)
            await lane.writer.append(LANES, [fact])
            lane.owner.offer(fact)
        await lane.settled("reset-2")
        [reconciled] = await lane.facts(LaneReconciled)
        assert (reconciled.halt, reconciled.spent) == (halted.id, lost)
        prepared = {fact.nonce: fact.relay for fact in await lane.facts(TransactionPrepared)}
        assert prepared == {lost: None, lost + 1: "reset-2:1"}
