"""What nodes' answers to a broadcast mean for a lane. Decides nothing about requests: a refused
transaction stays prepared; when its nonce is spent, the next look at the chain says by what."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import structlog

from orchestrator.core.lanes import LaneState
from orchestrator.errors import RETRYABLE, RpcError, RpcProblem
from schemas.lanes import (
    LaneFact,
    TransactionBroadcast,
    TransactionPrepared,
    TransactionResent,
)

_UNDERPRICED = frozenset({RpcProblem.UNDERPRICED, RpcProblem.REPLACEMENT_UNDERPRICED})
_GAS = frozenset({RpcProblem.GAS_TOO_LOW, RpcProblem.GAS_TOO_HIGH})


@dataclass(slots=True)
class Outcome:
    """`facts` to append; `refused` by hash, to be sent again later; what to replace at once."""

    facts: list[LaneFact] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    underpriced: list[TransactionPrepared] = field(default_factory=list)
    wrong_gas: list[TransactionPrepared] = field(default_factory=list)
    spent: bool = False
    spent_only: bool = False
    gap: bool = False
    poor: bool = False
    trouble: str | None = None

    @property
    def taken_again(self) -> int:
        return sum(isinstance(fact, TransactionResent) for fact in self.facts)


def weigh(
    state: LaneState,
    transactions: Sequence[TransactionPrepared],
    answers: Sequence[str | RpcError],
    block_number: int,
) -> Outcome:
    """A hash and "already known" both mean that a node has the bytes. A hash for what a node had
    taken before means that it was lost. Nothing is known after a node's own trouble."""
    found, too_low = Outcome(), 0
    for transaction, answer in zip(transactions, answers, strict=True):
        problem = answer.problem if isinstance(answer, RpcError) else None
        if problem is None or problem is RpcProblem.ALREADY_KNOWN:
            fact = _taken(state, transaction, problem is None, block_number)
            found.facts += [fact] if fact else []
            continue
        text = f"nonce {transaction.nonce}: {answer}"
        if problem in RETRYABLE:
            found.trouble = found.trouble or text
            continue
        found.refused[transaction.tx_hash] = text
        if problem in _UNDERPRICED:
            found.underpriced.append(transaction)
        elif problem in _GAS:
            found.wrong_gas.append(transaction)
        found.spent |= problem is RpcProblem.NONCE_TOO_LOW
        found.gap |= problem is RpcProblem.NONCE_TOO_HIGH
        found.poor |= problem is RpcProblem.INSUFFICIENT_FUNDS
        too_low += problem is RpcProblem.NONCE_TOO_LOW
    found.spent_only = too_low == len(found.refused)
    return found


def tell_refusals(
    log: structlog.stdlib.BoundLogger,
    transactions: Sequence[TransactionPrepared],
    outcome: Outcome,
) -> None:
    """One line, about the first. A nonce that is spent was mined since the last look, as a rule,
    and the next look says by what: that alone is nobody's business."""
    if not outcome.refused:
        return
    tx_hash, reason = next(iter(outcome.refused.items()))
    first = next(item for item in transactions if item.tx_hash == tx_hash)
    about = {"count": len(outcome.refused), "tx_hash": tx_hash, "nonce": first.nonce}
    tell = log.info if outcome.spent_only else log.warning
    tell("transactions not taken", **about, relay=first.relay, reason=reason)


def _taken(
    state: LaneState, transaction: TransactionPrepared, fresh: bool, block_number: int
) -> LaneFact | None:
    """None for what tells nothing that the log does not hold."""
    slot = state.slots.get(transaction.nonce)
    if slot is None:
        return None
    about = {
        "chain_id": transaction.chain_id,
        "wallet": transaction.wallet,
        "nonce": transaction.nonce,
        "relay": transaction.relay,
        "tx_hash": transaction.tx_hash,
    }
    if transaction.tx_hash not in slot.broadcast:
        return TransactionBroadcast(**about, block_number=block_number)
    return TransactionResent(**about, block_number=block_number) if fresh else None
