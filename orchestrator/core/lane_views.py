"""What one look at the chain means for a lane: the facts that follow, what to replace, what to
heal, and whether the wallet is fit for new work. Decides from the fold and the view alone."""

from __future__ import annotations

from collections.abc import Collection

from orchestrator.core.chain import ChainView, Receipt
from orchestrator.core.lanes import LaneState, Slot
from schemas.lanes import (
    LaneFact,
    LaneHalted,
    LaneReconciled,
    NonceTaken,
    TransactionFinal,
    TransactionIncluded,
    TransactionOrphaned,
    TransactionPrepared,
)

REPLACED_AT_ONCE = 128
MOST_REOPENED = 512
"""So many nonces at most are filled by no-ops after a person let a halted lane go on."""
STUCK_AFTER_REPLACEMENTS = 4
"""Without any progress for so many times the blocks of a replacement, the wallet is stuck."""


def in_question(
    state: LaneState, chain_nonce: int, standing: Collection[str] = frozenset()
) -> list[str]:
    """Hashes whose receipts tell the lane something: the chain has spent their nonces. Not of slots
    whose mined version is among `standing`, in a block that is the chain's still."""
    return [
        version.tx_hash
        for slot in state.slots.values()
        if slot.nonce < chain_nonce or slot.inclusion is not None
        if slot.inclusion is None or slot.inclusion.tx_hash not in standing
        for version in slot.versions
    ]


def lags(state: LaneState, view: ChainView) -> bool:
    """True when the node is behind what the log has seen final: nothing may be concluded."""
    return view.final.number < state.final_block


def was_reset(state: LaneState, view: ChainView) -> bool:
    """True for a chain that is lower than what the log has seen final and yet younger: blocks of
    one chain never grow older as they grow higher, so this one is another. A node that only lags
    shows an old block."""
    known = state.final_timestamp
    return view.head.number < state.final_block and 0 < known < view.head.timestamp


def conclude(
    state: LaneState, view: ChainView, suspected: Collection[int] | None = None
) -> list[LaneFact]:
    """The facts that follow from one look at the chain. Empty from a node that lags.

    Work is displaced from its nonce only when that nonce is among `suspected`, where given: those
    that `displaceable` named at an earlier head. One node's answer may mix the states of two.
    """
    if state.next_nonce is None or state.halted is not None:
        return []
    if was_reset(state, view):
        return [_reset(state, view)]
    if lags(state, view):
        return []
    if view.final_nonce < state.spent and view.nonce < state.spent:
        return [_reset(state, view)] if view.final.number >= state.spent_since else []
    facts: list[LaneFact] = []
    for slot in state.slots.values():
        facts += _of_slot(state, slot, view)
        sure = suspected is None or slot.nonce in suspected
        if sure and _is_displaced(slot, view):
            facts.append(_nonce_taken(state, slot.nonce, slot.relay, view))
    facts += [
        _nonce_taken(state, nonce, None, view) for nonce in range(state.next_nonce, view.nonce)
    ]
    return facts


def displaceable(state: LaneState, view: ChainView) -> set[int]:
    """Open nonces that are spent at final depth although none of their versions has a receipt."""
    return {slot.nonce for slot in state.slots.values() if _is_displaced(slot, view)}


def _reset(state: LaneState, view: ChainView) -> LaneHalted:
    return halt(
        state,
        view.nonce,
        f"the chain counts {view.nonce} transactions of this wallet at block {view.head.number}; "
        f"the log holds final ones up to nonce {state.spent - 1}: the chain was reset, or these "
        "nodes serve another one",
    )


def halt(state: LaneState, chain_nonce: int, reason: str) -> LaneHalted:
    return LaneHalted(
        chain_id=state.chain_id,
        wallet=state.wallet,
        number=state.times_halted + 1,
        reason=reason,
        chain_nonce=chain_nonce,
        log_nonce=state.spent,
    )


def reconcile(state: LaneState, view: ChainView) -> LaneReconciled | LaneHalted:
    """For a halted lane that a person let go on: what the chain shows now counts, unless it is a
    chain that this lane never was on, or so much of its past is gone that a new wallet is better.

    The nonces that are open again carry no request's call: what had them either comes back by
    itself, or is asked for anew under the same approval once its evidence was retracted."""
    assert state.halted is not None
    if view.nonce < state.first_nonce:
        return halt(
            state,
            view.nonce,
            f"the chain counts {view.nonce} transactions of this wallet, and the lane began at "
            f"nonce {state.first_nonce}: another chain than the lane's; give it another wallet",
        )
    reopened = sum(n not in state.slots for n in range(view.nonce, state.next_nonce or 0))
    if reopened > MOST_REOPENED:
        return halt(
            state,
            view.nonce,
            f"{reopened} nonces from {view.nonce} on would have to be filled, more than "
            f"{MOST_REOPENED}: most of the lane's past is gone; give the chain another wallet",
        )
    return LaneReconciled(
        chain_id=state.chain_id,
        wallet=state.wallet,
        halt=state.halted.id,
        spent=view.final_nonce,
        block_number=view.final.number,
        block_hash=view.final.hash,
        block_timestamp=view.final.timestamp,
    )


def _receipt_of(slot: Slot, view: ChainView) -> Receipt | None:
    """Of whichever version was mined; the one whose inclusion is known first."""
    held = slot.inclusion
    if held is not None and view.receipts.get(held.tx_hash) is not None:
        return view.receipts[held.tx_hash]
    known = (view.receipts.get(version.tx_hash) for version in slot.versions)
    return next((found for found in known if found is not None), None)


def _asked(slot: Slot, view: ChainView) -> bool:
    return all(version.tx_hash in view.receipts for version in slot.versions)


def _is_displaced(slot: Slot, view: ChainView) -> bool:
    spent = slot.nonce < view.final_nonce and slot.nonce < view.nonce
    return spent and _asked(slot, view) and _receipt_of(slot, view) is None


def _of_slot(state: LaneState, slot: Slot, view: ChainView) -> list[LaneFact]:
    facts: list[LaneFact] = []
    lane = {"chain_id": state.chain_id, "wallet": state.wallet, "nonce": slot.nonce}
    receipt = _receipt_of(slot, view)
    held = slot.inclusion
    gone = receipt is None or (held is not None and receipt.block_hash != held.block_hash)
    if held is not None and gone and _asked(slot, view):
        facts.append(
            TransactionOrphaned(
                **lane, relay=held.relay, tx_hash=held.tx_hash, block_hash=held.block_hash
            )
        )
        held = None
    if receipt is None:
        return facts
    version = slot.version(receipt.tx_hash)
    mined = {
        **lane,
        "relay": version.relay if version else None,
        "tx_hash": receipt.tx_hash,
        "block_number": receipt.block_number,
        "block_hash": receipt.block_hash,
        "succeeded": receipt.succeeded,
    }
    if held is None:
        facts.append(TransactionIncluded(**mined, gas_used=receipt.gas_used))
    if receipt.block_number <= view.final.number:
        facts.append(TransactionFinal(**mined, final_timestamp=view.final.timestamp))
    return facts


def _nonce_taken(state: LaneState, nonce: int, relay: str | None, view: ChainView) -> NonceTaken:
    return NonceTaken(
        chain_id=state.chain_id,
        wallet=state.wallet,
        nonce=nonce,
        relay=relay,
        block_number=view.final.number,
    )


def holes(state: LaneState, view: ChainView) -> list[int]:
    """Nonces that were someone else's until a reorganisation took those transactions back: nothing
    behind them can be mined. They are healed by no-ops, never by a request's call: the other
    transaction may come back, and would displace the request again.

    Only from a view that shows everything spent: a node that lags has no holes to show."""
    if lags(state, view) or state.next_nonce is None or state.halted is not None:
        return []
    if view.nonce < state.spent:
        return []
    return [nonce for nonce in range(view.nonce, state.next_nonce) if nonce not in state.slots]


def _waits_since(state: LaneState, slot: Slot) -> int:
    """The block since which nothing of ours stands before this slot: its predecessor's."""
    before = state.slots.get(slot.nonce - 1)
    if before is not None and before.inclusion is not None:
        return before.inclusion.block_number
    return state.final_block


def _out_since(slot: Slot) -> int:
    """The block since which the newest version can have been mined: what a reorganisation orphaned
    goes out again, and gets its time again before it is replaced."""
    return max(slot.newest.block_number or 0, slot.out_since)


def overdue(
    state: LaneState, view: ChainView, after_blocks: int, held_until: int = 0
) -> list[TransactionPrepared]:
    """What is to be replaced: the transaction of the lowest unmined nonce when it has been out for
    so many blocks as the lowest, and those behind it that are as old: nothing of ours moved in all
    that time, whether their fees or a node's pool are to blame. Anvil 1.7.1 does not mine what
    waited behind a replaced transaction until it is replaced too (seen: one nonce each N blocks).

    A transaction deep in a queue that moves is not late. What no node has taken is sent again, not
    replaced. Nor is what waited because the lane was held until a block."""
    lowest = state.slots.get(view.nonce)
    if lowest is None or lowest.inclusion is not None:
        return []
    head, newest = view.head.number, lowest.newest
    since = max(_out_since(lowest), _waits_since(state, lowest), held_until)
    if head - since < after_blocks or newest.tx_hash not in lowest.broadcast:
        return []
    found = [newest]
    for slot in state.slots.values():
        version = slot.newest
        if len(found) == REPLACED_AT_ONCE:
            break
        if slot.nonce <= lowest.nonce or slot.inclusion is not None:
            continue
        old = head - max(_out_since(slot), held_until) >= after_blocks
        if old and version.tx_hash in slot.broadcast:
            found.append(version)
    return found


def stuck(state: LaneState, view: ChainView, after_blocks: int, held_until: int = 0) -> str | None:
    """Why nothing moves although replacements went out; None when it moves."""
    lowest = state.slots.get(view.nonce)
    if lowest is None or lowest.inclusion is not None:
        return None
    since = max(lowest.versions[0].block_number or 0, _waits_since(state, lowest), held_until)
    blocks = view.head.number - since
    if blocks < after_blocks * STUCK_AFTER_REPLACEMENTS:
        return None
    return (
        f"nonce {lowest.nonce} has been out for {blocks} blocks in {len(lowest.versions)} "
        "versions: look at the chain's fees, at the nodes' pools and at FEE_CAP_WEI"
    )


def cost_wei(version: TransactionPrepared) -> int:
    """The most that a transaction can cost; nodes want the balance to cover it."""
    return version.gas_limit * version.max_fee_per_gas_wei


def affordable(state: LaneState, balance_wei: int, one_costs_wei: int) -> int:
    """How many more transactions the balance covers beside all that are out."""
    bound = sum(cost_wei(slot.newest) for slot in state.slots.values() if slot.inclusion is None)
    return max(0, balance_wei - bound) // max(1, one_costs_wei)
