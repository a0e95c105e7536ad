"""Why a request is where it is: what it waits for, since when, whose turn it is, what helps. Pure.

Read from top to bottom, the first situation that holds is told: an end, a pause, what already lies
with the decider, a stopped chain or lane, then where the work stands in its lane. The codes are a
closed set; a situation without one would be a defect, and a test goes through all of them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from orchestrator.core.controls import Pause
from orchestrator.core.lifecycle import RequestState, Stage
from projections.explaining_words import Action, Code, Turn, actions_of, words_of
from projections.holds import told
from projections.lane_shapes import LaneView, Slot
from projections.lanes import TransactionState, Work, WorkState
from projections.rows import rfc3339
from projections.text import moment
from projections.usual import Duration, Usual
from schemas.lanes import RelayRefusal

NOT_SEEN_SECONDS = 60.0
"""A chain without a followed block for so long lags, or its follower does."""
LATE_SECONDS = 30.0
"""At least so long a step of our own takes before it is called late."""
LATE_TIMES = 3
"""And at least so many times what 95 % of the others took."""


@dataclass(frozen=True, slots=True)
class Head:
    """A chain as far as it was followed. `block` is final: `depth` below the newest."""

    block: int | None = None
    block_at: datetime | None = None
    followed_at: datetime | None = None
    halted_reason: str | None = None
    halted_at: datetime | None = None
    block_seconds: float | None = None
    supply_at: datetime | None = None
    depth: int = 0


@dataclass(frozen=True, slots=True)
class Circumstances:
    """What stands around a request at `now`. `work` is its current piece of work in its lane; None
    for a lane or work that the log does not know yet. `head` is None where the past is asked for
    and heads are not kept, and for a chain that nobody follows yet."""

    now: datetime
    lane: LaneView | None = None
    work: Work | None = None
    head: Head | None = None
    pause: Pause | None = None
    usual: Usual = field(default_factory=dict)
    served_chains: Collection[int] = ()
    replace_after_blocks: int = 5
    compared_within_seconds: float = 0
    """What the gate demands before a signature; 0 is nothing."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """`waiting_for` is None at an end. `next_attempt_at` is None where the log cannot know it."""

    code: Code
    turn: Turn
    summary: str
    waiting_for: str | None
    since: str
    next_attempt_at: datetime | None
    usual: Duration | None
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class _Found:
    """A situation: its code, since when, and what its words need."""

    code: Code
    since: str | None = None
    next_at: datetime | None = None
    facts: dict[str, object] = field(default_factory=dict)


def explain(state: RequestState, around: Circumstances) -> Explanation:
    found = _situation(state, around)
    wallet = state.assigned.wallet if state.assigned else None
    chain_id = state.received.chain_id if state.received else None
    facts = {"key": state.key, "chain": chain_id, "wallet": wallet, **found.facts}
    turn, waiting_for, summary = words_of(found.code, facts)
    return Explanation(
        code=found.code,
        turn=turn,
        summary=summary,
        waiting_for=waiting_for,
        since=found.since or state.changed_at,
        next_attempt_at=found.next_at,
        usual=around.usual.get(state.stage),
        actions=actions_of(found.code, facts),
    )


def _situation(state: RequestState, around: Circumstances) -> _Found:
    return (
        _ended(state)
        or _paused(around)
        or _held(state)
        or _to_be_decided(state, around)
        or _stopped_chain(state, around)
        or _uncompared(state, around)
        or _own_step(state, around)
        or _in_lane(state, around)
    )


_ENDS = {
    Stage.UNBACKED: Code.EXECUTED_WITHOUT_FACT,
    Stage.COMPLETED: Code.COMPLETED,
    Stage.REJECTED: Code.REJECTED,
    Stage.RETRACTED: Code.RETRACTED,
}


def _ended(state: RequestState) -> _Found | None:
    ending = state.ending
    detail = {"detail": getattr(ending, "detail", ""), "reason": getattr(ending, "reason", "")}
    if state.stage in _ENDS:
        return _Found(_ENDS[state.stage], facts=detail)
    if state.stage is Stage.FAILED:
        reason = str(detail["reason"])
        code = {
            "CONTRACT_REVERTED": Code.FAILED_REVERTED,
            "EVIDENCE_MISMATCH": Code.FAILED_MISMATCH,
            "CANCELLED": Code.FAILED_CANCELLED,
        }.get(reason, Code.FAILED)
        return _Found(code, facts=detail)
    return None


def _paused(around: Circumstances) -> _Found | None:
    pause = around.pause
    if pause is None:
        return None
    facts: dict[str, object] = {"scope": pause.scope, "who": pause.who, "why": pause.why}
    return _Found(Code.PAUSED, pause.since, facts=facts)


def _held(state: RequestState) -> _Found | None:
    """By a policy, unless something else is decided first."""
    held = state.standing_hold
    if state.stage is not Stage.HELD or held is None or state.evidence is not None:
        return None
    if state.cancelling is not None or state.origin_retracted:
        return None
    by = state.approved_by
    facts: dict[str, object] = {
        "breaches": "; ".join(told(breach) for breach in held.breaches),
        "needed": held.approvals_needed,
        "given": len(by),
        "who": ", ".join(by) or "nobody",
    }
    if not held.approvals_needed:
        return _Found(Code.HELD_FOR_GOOD, facts=facts)
    if len(by) >= held.approvals_needed:
        return _Found(Code.RELEASE_TO_BE_JUDGED, facts=facts)
    if held.until is None:
        return _Found(Code.HELD, facts=facts)
    until = datetime.fromtimestamp(held.until, UTC)
    facts["until"] = rfc3339(until)
    return _Found(Code.HELD_UNTIL, next_at=until, facts=facts)


def _to_be_decided(state: RequestState, around: Circumstances) -> _Found | None:
    """What the log already holds and the decider has yet to take in."""
    if state.evidence is not None:
        return _Found(Code.EVIDENCE_TO_BE_JUDGED, state.updated_at)
    if state.origin_retracted:
        return _Found(Code.RETRACTION_TO_BE_RECORDED, state.updated_at)
    refusal = state.refusal
    lane_stages = (Stage.RELAYING, Stage.SUBMITTED, Stage.INCLUDED)
    if state.stage in lane_stages and refusal is not None:
        facts: dict[str, object] = {"detail": refusal.detail}
        if state.cancelling is not None and refusal.reason is not RelayRefusal.ALREADY_PROCESSED:
            return _Found(Code.CANCELLATION_TO_BE_RECORDED, state.updated_at, facts=facts)
        code = {
            RelayRefusal.REVERTED: Code.REVERT_TO_BE_RECORDED,
            RelayRefusal.EXPIRED: Code.EXPIRY_TO_BE_RECORDED,
            RelayRefusal.ALREADY_PROCESSED: Code.PROCESSED_AWAITING_EVIDENCE,
            RelayRefusal.WALLET_UNFIT: Code.TO_BE_REASSIGNED,
            RelayRefusal.CANCELLED: Code.CANCELLATION_TO_BE_RECORDED,
        }[refusal.reason]
        return _Found(code, state.updated_at, facts=facts)
    if state.cancelling is not None and state.stage not in lane_stages:
        facts = {"who": state.cancelling.who, "why": state.cancelling.why}
        return _Found(Code.CANCELLATION_TO_BE_RECORDED, state.updated_at, facts=facts)
    return None


def _stopped_chain(state: RequestState, around: Circumstances) -> _Found | None:
    """Only from where on the chain matters: what is received is drafted and signed without it."""
    if state.stage in (Stage.RECEIVED, Stage.HELD, Stage.DRAFTED):
        return None
    chain_id = state.received.chain_id if state.received else None
    if around.served_chains and chain_id not in around.served_chains:
        return _Found(Code.CHAIN_NOT_SERVED)
    head = around.head
    if head is None or state.stage in (Stage.SIGNED, Stage.EXPIRED):
        return None
    if head.halted_reason is not None:
        since = rfc3339(head.halted_at) if head.halted_at else None
        return _Found(Code.CHAIN_HALTED, since, facts={"detail": head.halted_reason})
    if head.followed_at is not None:
        quiet = (around.now - head.followed_at).total_seconds()
        if quiet > max(NOT_SEEN_SECONDS, 10 * (head.block_seconds or 0)):
            facts: dict[str, object] = {"block": head.block, "seconds": round(quiet)}
            return _Found(Code.CHAIN_NOT_SEEN, rfc3339(head.followed_at), facts=facts)
    return None


def _uncompared(state: RequestState, around: Circumstances) -> _Found | None:
    """A signature that the gate does not give before somebody asked the chain for its supply."""
    within, head = around.compared_within_seconds, around.head
    if state.stage is not Stage.DRAFTED or within <= 0 or head is None:
        return None
    if head.supply_at is not None and (around.now - head.supply_at).total_seconds() <= within:
        return None
    since = rfc3339(head.supply_at) if head.supply_at else None
    told = f"since {since}" if since else "yet"
    return _Found(Code.SUPPLY_NOT_COMPARED, since, facts={"told": told, "within": f"{within:g}"})


_STEPS = {
    Stage.RECEIVED: (Code.TO_BE_DRAFTED, Code.DRAFTING_LATE),
    Stage.HELD: (Code.TO_BE_DRAFTED, Code.DRAFTING_LATE),
    Stage.DRAFTED: (Code.TO_BE_SIGNED, Code.SIGNING_LATE),
    Stage.SIGNED: (Code.TO_BE_ASSIGNED, Code.ASSIGNING_LATE),
    Stage.EXPIRED: (Code.TO_BE_REDRAFTED, Code.DRAFTING_LATE),
}


def _own_step(state: RequestState, around: Circumstances) -> _Found | None:
    """A step that needs no chain. What makes it late does not stand on the log: KMS, or a role
    that does not run."""
    if state.stage not in _STEPS:
        return None
    usual, late = _STEPS[state.stage]
    waits = (around.now - moment(state.changed_at)).total_seconds()
    p95 = around.usual[state.stage].p95_seconds if state.stage in around.usual else 0.0
    is_late = waits > max(LATE_SECONDS, LATE_TIMES * p95)
    if state.stage is Stage.RECEIVED and state.drafted is not None and not is_late:
        return _Found(Code.TO_BE_DRAFTED_AGAIN)
    return _Found(late if is_late else usual, facts={"seconds": round(waits)})


def _in_lane(state: RequestState, around: Circumstances) -> _Found:
    lane, work = around.lane, around.work
    if work is None:
        return _Found(Code.TO_BE_HANDED_OVER)
    if lane is not None and lane.lane.halted_reason is not None:
        halted_at = lane.lane.halted_at
        facts: dict[str, object] = {"detail": lane.lane.halted_reason}
        return _Found(Code.LANE_HALTED, rfc3339(halted_at) if halted_at else None, facts=facts)
    since = rfc3339(work.changed_at)
    match work.state:
        case WorkState.REFUSED:
            return _Found(Code.REFUSAL_TO_BE_CARRIED, since)
        case WorkState.DONE:
            return _Found(Code.AWAITING_EVIDENCE, since)
        case WorkState.REVERTED:
            return _Found(Code.REVERT_BEING_STUDIED, since)
        case WorkState.WORKING if lane is not None:
            slot = lane.slot_of(work.relay)
            if slot is not None:
                return _with_nonce(state, around, lane, slot)
            return _Found(Code.AWAITING_EVIDENCE, since)
    return _waiting(state, around, work)


def _waiting(state: RequestState, around: Circumstances, work: Work) -> _Found:
    """In its lane, without a nonce."""
    lane, since = around.lane, rfc3339(work.changed_at)
    if state.cancelling is not None:
        return _Found(Code.CANCELLATION_IN_LANE, since)
    if lane is None or lane.lane.next_nonce is None:
        return _Found(Code.LANE_NOT_OPEN, since)
    ahead = sum(other.requested_at < work.requested_at for other in lane.waiting)
    facts: dict[str, object] = {"ahead": ahead, "in_flight": len(lane.open_slots)}
    if lane.stuck:
        facts["nonce"], facts["blocks"] = lane.stuck[0].nonce, lane.stuck[0].blocks
        return _Found(Code.WAITING_BEHIND_STUCK_NONCE, since, facts=facts)
    if lane.lane.set_aside_reason is not None:
        facts["detail"] = lane.lane.set_aside_reason
        aside_at = lane.lane.set_aside_at
        return _Found(Code.WALLET_SET_ASIDE, rfc3339(aside_at) if aside_at else since, facts=facts)
    soon = _next_block(around)
    granted = state.granted
    if granted is not None and state.drafted is not None and granted.attempt == state.attempt:
        facts["approval_nonce"] = granted.approval_nonce
        facts["deadline"] = rfc3339(datetime.fromtimestamp(granted.deadline, UTC))
        return _Found(Code.WAITING_FOR_TURN, since, facts=facts)
    if work.changed_at > work.requested_at:
        return _Found(Code.WAITING_FOR_ANOTHER_NONCE, since, soon, facts)
    return _Found(Code.WAITING_FOR_NONCE, since, soon, facts)


def _with_nonce(state: RequestState, around: Circumstances, lane: LaneView, slot: Slot) -> _Found:
    since = rfc3339(slot.since)
    facts: dict[str, object] = {
        "nonce": slot.nonce,
        "blocks": slot.blocks,
        "versions": len(slot.versions),
        "tx_hash": slot.current.tx_hash,
        "block": slot.current.block_number,
        "depth": around.head.depth if around.head else None,
    }
    if slot.state is TransactionState.INCLUDED:
        return _mined(around, slot, facts)
    if state.cancelling is not None:
        return _Found(Code.CANCELLATION_IN_LANE, since, facts=facts)
    if slot in lane.stuck:
        code = Code.NONCE_STUCK if slot is lane.lowest else Code.BEHIND_STUCK_NONCE
        facts["lowest"] = lane.lowest.nonce if lane.lowest else slot.nonce
        return _Found(code, since, facts=facts)
    if slot.state is TransactionState.ORPHANED:
        return _Found(Code.TO_BE_SENT_AGAIN, since, _next_block(around), facts)
    if slot.state is TransactionState.PREPARED:
        code = Code.TO_BE_BROADCAST
        if slot.blocks is not None and slot.blocks >= around.replace_after_blocks:
            code = Code.NOT_TAKEN_BY_NODES
        return _Found(code, since, _next_block(around), facts)
    lowest = lane.lowest
    if lowest is not None and lowest.nonce < slot.nonce:
        facts["lowest"], facts["lowest_blocks"] = lowest.nonce, lowest.blocks
        code = Code.BEHIND_STUCK_NONCE if lane.stuck else Code.BEHIND_NONCE
        return _Found(code, since, facts=facts)
    left = around.replace_after_blocks - (slot.blocks or 0)
    if slot.blocks is not None and left <= 0:
        return _Found(Code.REPLACEMENT_DUE, since, _next_block(around), facts)
    facts["left"] = left
    return _Found(Code.TO_BE_MINED, since, _in_blocks(around, left), facts)


def _mined(around: Circumstances, slot: Slot, facts: dict[str, object]) -> _Found:
    since = rfc3339(slot.since)
    if slot.current.succeeded is False:
        return _Found(Code.FAILED_IN_BLOCK, since, facts=facts)
    head, block = around.head, slot.current.block_number
    if head is None or head.block is None or block is None:
        return _Found(Code.CONFIRMING, since, facts=facts)
    if head.block >= block:
        return _Found(Code.AWAITING_EVIDENCE, since, _next_block(around), facts)
    facts["left"] = block - head.block
    return _Found(Code.CONFIRMING, since, _in_blocks(around, block - head.block), facts)


def _next_block(around: Circumstances) -> datetime | None:
    return _in_blocks(around, 1)


def _in_blocks(around: Circumstances, blocks: int) -> datetime | None:
    """When the chain will be so many blocks further at its present pace; never before now."""
    head = around.head
    if head is None or head.followed_at is None or not head.block_seconds:
        return None
    due = head.followed_at + timedelta(seconds=blocks * head.block_seconds)
    return max(due, around.now).astimezone(UTC)
