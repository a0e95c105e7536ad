"""The words of every situation: whose turn it is, what is waited for, what a person can do."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum

from projections.explaining_actions import COMMANDS, Facts, scope_option


class Turn(StrEnum):
    """Who acts next. `chain` stands for its blocks, and for the follower that reads them."""

    KURO = "kuro"
    DECIDER = "decider"
    SIGNER = "signer"
    RELAYER = "relayer"
    CHAIN = "chain"
    OPERATOR = "operator"
    NOBODY = "nobody"


class Code(StrEnum):
    """Every situation that a request can be in."""

    COMPLETED = "COMPLETED"
    REJECTED = "REJECTED"
    RETRACTED = "RETRACTED"
    EXECUTED_WITHOUT_FACT = "EXECUTED_WITHOUT_FACT"
    FAILED_REVERTED = "FAILED_REVERTED"
    FAILED_MISMATCH = "FAILED_MISMATCH"
    FAILED_CANCELLED = "FAILED_CANCELLED"
    FAILED = "FAILED"
    PAUSED = "PAUSED"
    HELD = "HELD"
    HELD_UNTIL = "HELD_UNTIL"
    HELD_FOR_GOOD = "HELD_FOR_GOOD"
    RELEASE_TO_BE_JUDGED = "RELEASE_TO_BE_JUDGED"
    EVIDENCE_TO_BE_JUDGED = "EVIDENCE_TO_BE_JUDGED"
    RETRACTION_TO_BE_RECORDED = "RETRACTION_TO_BE_RECORDED"
    CANCELLATION_TO_BE_RECORDED = "CANCELLATION_TO_BE_RECORDED"
    REVERT_TO_BE_RECORDED = "REVERT_TO_BE_RECORDED"
    EXPIRY_TO_BE_RECORDED = "EXPIRY_TO_BE_RECORDED"
    PROCESSED_AWAITING_EVIDENCE = "PROCESSED_AWAITING_EVIDENCE"
    TO_BE_REASSIGNED = "TO_BE_REASSIGNED"
    CHAIN_NOT_SERVED = "CHAIN_NOT_SERVED"
    CHAIN_HALTED = "CHAIN_HALTED"
    CHAIN_NOT_SEEN = "CHAIN_NOT_SEEN"
    TO_BE_DRAFTED = "TO_BE_DRAFTED"
    TO_BE_DRAFTED_AGAIN = "TO_BE_DRAFTED_AGAIN"
    TO_BE_REDRAFTED = "TO_BE_REDRAFTED"
    DRAFTING_LATE = "DRAFTING_LATE"
    SUPPLY_NOT_COMPARED = "SUPPLY_NOT_COMPARED"
    TO_BE_SIGNED = "TO_BE_SIGNED"
    SIGNING_LATE = "SIGNING_LATE"
    TO_BE_ASSIGNED = "TO_BE_ASSIGNED"
    ASSIGNING_LATE = "ASSIGNING_LATE"
    TO_BE_HANDED_OVER = "TO_BE_HANDED_OVER"
    LANE_NOT_OPEN = "LANE_NOT_OPEN"
    LANE_HALTED = "LANE_HALTED"
    WALLET_SET_ASIDE = "WALLET_SET_ASIDE"
    WAITING_FOR_NONCE = "WAITING_FOR_NONCE"
    WAITING_FOR_ANOTHER_NONCE = "WAITING_FOR_ANOTHER_NONCE"
    WAITING_FOR_TURN = "WAITING_FOR_TURN"
    WAITING_BEHIND_STUCK_NONCE = "WAITING_BEHIND_STUCK_NONCE"
    CANCELLATION_IN_LANE = "CANCELLATION_IN_LANE"
    REFUSAL_TO_BE_CARRIED = "REFUSAL_TO_BE_CARRIED"
    REVERT_BEING_STUDIED = "REVERT_BEING_STUDIED"
    TO_BE_BROADCAST = "TO_BE_BROADCAST"
    NOT_TAKEN_BY_NODES = "NOT_TAKEN_BY_NODES"
    TO_BE_SENT_AGAIN = "TO_BE_SENT_AGAIN"
    TO_BE_MINED = "TO_BE_MINED"
    BEHIND_NONCE = "BEHIND_NONCE"
    BEHIND_STUCK_NONCE = "BEHIND_STUCK_NONCE"
    REPLACEMENT_DUE = "REPLACEMENT_DUE"
    NONCE_STUCK = "NONCE_STUCK"
    FAILED_IN_BLOCK = "FAILED_IN_BLOCK"
    CONFIRMING = "CONFIRMING"
    AWAITING_EVIDENCE = "AWAITING_EVIDENCE"


@dataclass(frozen=True, slots=True)
class Action:
    """Something that a person can do; `command` is ready for a shell."""

    action: str
    command: str
    text: str


@dataclass(frozen=True, slots=True)
class _Words:
    turn: Turn
    waiting_for: str | None
    summary: str
    actions: tuple[str, ...] = ()


_D, _S, _R, _C = Turn.DECIDER, Turn.SIGNER, Turn.RELAYER, Turn.CHAIN
_O, _N = Turn.OPERATOR, Turn.NOBODY
_WAIT = ("pause", "cancel")

WORDS: Mapping[Code, _Words] = {
    Code.COMPLETED: _Words(_N, None, "Completed: the contract's own event is final on its chain."),
    Code.REJECTED: _Words(
        _N, None, "Rejected before anything was drafted: {detail}. Whoever sent it must mend it."
    ),
    Code.RETRACTED: _Words(
        _N,
        None,
        "Taken back: a reorganisation removed the event that this request came from. If the chain "
        "has it in another block, it begins anew by itself.",
    ),
    Code.EXECUTED_WITHOUT_FACT: _Words(
        _O,
        "the fact that allows it",
        "Alarm: the contract executed this request, but no fact allows it. Find out who signed; if "
        "the fact was only late, it becomes a normal request by itself.",
        ("pause-all", "doctor"),
    ),
    Code.FAILED_REVERTED: _Words(
        _O,
        None,
        "Failed: the contract refuses the call ({detail}). Once its reason is gone it can be tried "
        "again.",
        ("retry",),
    ),
    Code.FAILED_MISMATCH: _Words(
        _O,
        None,
        "Failed: the contract executed something else under this id ({detail}). A person must find "
        "out who signed that.",
        ("pause-all",),
    ),
    Code.FAILED_CANCELLED: _Words(_N, None, "Given up by an operator: {detail}.", ("retry",)),
    Code.FAILED: _Words(_O, None, "Failed ({reason}): {detail}.", ("retry",)),
    Code.PAUSED: _Words(
        _O,
        "the end of the pause",
        "Paused by {who} ({scope}): {why}. What is already out is still watched.",
        ("resume", "cancel"),
    ),
    Code.HELD: _Words(
        _O,
        "approvals by {needed} distinct operators ({given} so far)",
        "Held by the policy: {breaches}. Approved so far by {who}.",
        ("approve", "cancel"),
    ),
    Code.HELD_UNTIL: _Words(
        _R,
        "time to pass, or {needed} distinct operators ({given} so far)",
        "Held by the policy: {breaches}. It is judged again by itself at {until}.",
        ("approve", "cancel"),
    ),
    Code.HELD_FOR_GOOD: _Words(
        _O,
        "another policy",
        "Held by the policy: {breaches}. No approval releases it: change the policy, or cancel it.",
        ("policy", "cancel"),
    ),
    Code.RELEASE_TO_BE_JUDGED: _Words(
        _R, "the owner of the policies", "Approved by {who}; its release is judged next."
    ),
    Code.EVIDENCE_TO_BE_JUDGED: _Words(
        _D, "the decision", "The contract's event is final; it is about to be judged."
    ),
    Code.RETRACTION_TO_BE_RECORDED: _Words(
        _D,
        "the decision",
        "A reorganisation took back the event that this request came from; that is about to be "
        "recorded.",
    ),
    Code.CANCELLATION_TO_BE_RECORDED: _Words(
        _D, "the decision", "An operator gave it up; nothing of ours is out, its end is next."
    ),
    Code.REVERT_TO_BE_RECORDED: _Words(
        _D, "the decision", "The contract refuses the call ({detail}); its failure is next."
    ),
    Code.EXPIRY_TO_BE_RECORDED: _Words(
        _D,
        "the decision",
        "The approval's deadline has passed in a final block, unused; a fresh one comes next.",
    ),
    Code.PROCESSED_AWAITING_EVIDENCE: _Words(
        _C,
        "the contract's event at final depth",
        "The contract says that it is processed; its event is not final yet. If that lasts, the "
        "nodes contradict each other.",
        ("retry", "doctor"),
    ),
    Code.TO_BE_REASSIGNED: _Words(
        _D, "another wallet", "Its wallet gave it back unstarted ({detail}); another one is next."
    ),
    Code.CHAIN_NOT_SERVED: _Words(
        _O,
        "the chain's configuration",
        "Chain {chain} is not among CHAIN_IDS here: it waits until the chain is configured again.",
        ("doctor",),
    ),
    Code.CHAIN_HALTED: _Words(
        _O,
        "a person's word on the halt",
        "The follower of chain {chain} stopped: {detail}",
        ("release-chain", "doctor"),
    ),
    Code.CHAIN_NOT_SEEN: _Words(
        _O,
        "new blocks of the chain",
        "No block of chain {chain} was followed for {seconds} s, the last is {block}: its nodes "
        "lag or are down, or no follower runs. Nothing can be concluded meanwhile.",
        ("doctor",),
    ),
    Code.TO_BE_DRAFTED: _Words(_D, "the draft", "Just received; its approval is drafted next."),
    Code.TO_BE_DRAFTED_AGAIN: _Words(
        _D, "the draft", "It begins anew under the same approval, which may still execute."
    ),
    Code.TO_BE_REDRAFTED: _Words(
        _D, "a fresh draft", "Its approval expired unused; a fresh one is drafted next.", _WAIT
    ),
    Code.DRAFTING_LATE: _Words(
        _D,
        "the draft",
        "Nothing was drafted for {seconds} s, far longer than usual: does a worker with the role "
        "`decide` run, and does it get through?",
        ("doctor", "cancel"),
    ),
    Code.SUPPLY_NOT_COMPARED: _Words(
        _C,
        "a comparison of the contract's totalSupply",
        "Not signed before: chain {chain}'s totalSupply was not compared with the log {told}, and "
        "SUPPLY_COMPARED_WITHIN_SECONDS is {within}. No node tells it, or nobody follows.",
        ("doctor", "cancel"),
    ),
    Code.TO_BE_SIGNED: _Words(
        _S, "KMS's signature", "Drafted; its digest is recorded, then KMS signs it.", _WAIT
    ),
    Code.SIGNING_LATE: _Words(
        _S,
        "KMS's signature",
        "Not signed for {seconds} s, far longer than usual: KMS refuses, throttles or cannot be "
        "reached, the guard or the conservation gate refuses or waits, another policy is in force "
        "than the one that cleared it and no worker with the role `decide` takes the draft back, "
        "or none with the role `sign` runs. It is tried again; the signer's log and metrics say "
        "why (signing_guard_refused, gate_refused, kms_errors_total; `orchestrator guard show`).",
        ("doctor", "cancel"),
    ),
    Code.TO_BE_ASSIGNED: _Words(_D, "a wallet", "Signed; a wallet is chosen next.", _WAIT),
    Code.ASSIGNING_LATE: _Words(
        _D,
        "a wallet",
        "No wallet was chosen for {seconds} s, far longer than usual: no wallet of chain {chain} "
        "is configured, or no worker with the role `decide` runs.",
        ("doctor", "cancel"),
    ),
    Code.TO_BE_HANDED_OVER: _Words(
        _D, "its lane", "Wallet {wallet} was chosen; the work is handed to its lane next.", _WAIT
    ),
    Code.LANE_NOT_OPEN: _Words(
        _R,
        "the lane's owner",
        "The lane of wallet {wallet} was never opened: no worker with the role `relay` owns it, or "
        "it cannot reach a node of chain {chain}.",
        ("doctor", "cancel"),
    ),
    Code.LANE_HALTED: _Words(
        _O,
        "a person's word on the halt",
        "The lane of wallet {wallet} stopped: {detail}",
        ("release-lane",),
    ),
    Code.WALLET_SET_ASIDE: _Words(
        _R,
        "another wallet, or this one's recovery",
        "Wallet {wallet} is set aside ({detail}); what has no nonce goes to another wallet of the "
        "chain, if there is a fit one.",
        ("cancel",),
    ),
    Code.WAITING_FOR_NONCE: _Words(
        _R,
        "a nonce",
        "Waits in the lane of wallet {wallet} with {ahead} before it; {in_flight} transactions are "
        "out. It gets a nonce as soon as there is room.",
        ("cancel",),
    ),
    Code.WAITING_FOR_ANOTHER_NONCE: _Words(
        _R,
        "another nonce",
        "Its nonce was spent without it (by someone else's transaction, a no-op, or too low a gas "
        "limit); proved unprocessed, it waits for another one, {ahead} before it.",
        ("cancel",),
    ),
    Code.WAITING_FOR_TURN: _Words(
        _R,
        "its turn among its recipient's mints",
        "The contract takes a recipient's mints in the order of their approvals, and this one has "
        "number {approval_nonce}: those before it come first. If one of them was given up, the "
        "recipient's next new mint takes its place, or this one asks for a number anew after its "
        "approval has ended, at {deadline}.",
        ("cancel",),
    ),
    Code.WAITING_BEHIND_STUCK_NONCE: _Words(
        _R,
        "the stuck nonce {nonce}",
        "Waits in a lane that is stuck: nonce {nonce} has not moved for {blocks} blocks although "
        "replacements went out.",
        ("cancel",),
    ),
    Code.CANCELLATION_IN_LANE: _Words(
        _R, "its lane", "An operator gave it up; its lane is taking it back, by a no-op if need be."
    ),
    Code.REFUSAL_TO_BE_CARRIED: _Words(
        _D, "the report of its lane", "Its lane gave it back; the decider reads why next."
    ),
    Code.REVERT_BEING_STUDIED: _Words(
        _R,
        "the reason of the revert",
        "It was mined as a failure, final; the lane asks the contract why, and whether it may be "
        "tried again.",
    ),
    Code.TO_BE_BROADCAST: _Words(
        _R, "a node", "Its transaction stands on the log at nonce {nonce}; it is sent out next."
    ),
    Code.NOT_TAKEN_BY_NODES: _Words(
        _R,
        "a node that takes it",
        "No node of chain {chain} has taken its transaction at nonce {nonce} for {blocks} blocks; "
        "the same bytes are sent at each new block.",
        ("doctor",),
    ),
    Code.TO_BE_SENT_AGAIN: _Words(
        _R, "a node", "A reorganisation removed its block; the same bytes are sent again."
    ),
    Code.TO_BE_MINED: _Words(
        _C,
        "a block",
        "Its transaction is out at nonce {nonce}, the next one of its wallet; if no block takes "
        "it, it is replaced at a higher fee in {left} blocks.",
    ),
    Code.BEHIND_NONCE: _Words(
        _C,
        "nonce {lowest}",
        "Its transaction is out at nonce {nonce}; nonce {lowest} of its wallet must be mined "
        "first.",
    ),
    Code.BEHIND_STUCK_NONCE: _Words(
        _R,
        "the stuck nonce {lowest}",
        "Its transaction is out at nonce {nonce}, behind nonce {lowest}, which is stuck.",
    ),
    Code.REPLACEMENT_DUE: _Words(
        _R,
        "a higher fee",
        "Its transaction has been out for {blocks} blocks in {versions} version(s); a higher fee "
        "goes out with the next block.",
    ),
    Code.NONCE_STUCK: _Words(
        _O,
        "the stuck nonce {nonce}",
        "Its own nonce {nonce} is stuck: out for {blocks} blocks in {versions} version(s), and "
        "nothing moves. Look at the chain's fees, the nodes' pools and FEE_CAP_WEI.",
        ("doctor", "cancel"),
    ),
    Code.FAILED_IN_BLOCK: _Words(
        _C,
        "finality of the failure",
        "Block {block} holds its transaction as a failure; once that is final, its lane finds out "
        "why and whether it may be tried again.",
    ),
    Code.CONFIRMING: _Words(
        _C,
        "the block's finality",
        "Block {block} holds its transaction; it counts as final at depth {depth}.",
    ),
    Code.AWAITING_EVIDENCE: _Words(
        _C,
        "the contract's event",
        "Its transaction is final; the contract's own event is about to be read from the chain.",
    ),
}


def words_of(code: Code, facts: Mapping[str, object]) -> tuple[Turn, str | None, str]:
    """Turn, what is waited for, and the summary."""
    words = WORDS[code]
    known = Facts({name: "?" if value is None else value for name, value in facts.items()})
    waiting = None if words.waiting_for is None else words.waiting_for.format_map(known)
    return words.turn, waiting, words.summary.format_map(known)


def actions_of(code: Code, facts: Mapping[str, object]) -> tuple[Action, ...]:
    quoted = Facts(
        {name: shlex.quote(str(value)) for name, value in facts.items() if value is not None}
    )
    quoted["scope_option"] = scope_option(str(facts.get("scope", "all")))
    return tuple(
        Action(name, COMMANDS[name][0].format_map(quoted), COMMANDS[name][1])
        for name in WORDS[code].actions
    )
