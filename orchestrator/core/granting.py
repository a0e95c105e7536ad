"""What a chain's sequences owe: grants, and what is told of mints.

`due` follows from the log alone; `questions` is what only the chain can tell, `conclude` what
follows from its answer. Pure; nothing here changes the fold (`sequences.py`): only facts do.
"""

from __future__ import annotations

from collections.abc import Iterator

from orchestrator.core.chain import Head
from orchestrator.core.sequences import Sequences
from schemas.sequences import (
    MintAttributed,
    MintSeen,
    MintUnattributed,
    NonceFreed,
    NonceGranted,
    NoncesCounted,
    SequenceFact,
)


def due(state: Sequences) -> list[SequenceFact]:
    """What the owner owes now, from the log alone."""
    facts: list[SequenceFact] = [*state.misnamed.values(), *state.detached.values()]
    for seat, key in state.attributable.items():
        facts.append(_attributed(state.mints[seat], key))
    for seat in state.untold:
        mint = state.mints[seat]
        if seat not in state.attributable:
            facts.append(
                MintUnattributed(
                    chain_id=mint.chain_id,
                    recipient=mint.recipient,
                    seat=seat,
                    contract_id=mint.contract_id,
                )
            )
    return facts + _grants(state)


def _attributed(mint: MintSeen, request_key: str) -> MintAttributed:
    return MintAttributed(
        chain_id=mint.chain_id,
        recipient=mint.recipient,
        seat=mint.seat,
        request_key=request_key,
        amount=mint.amount,
        tx_hash=mint.tx_hash,
        block_number=mint.block_number,
        block_hash=mint.block_hash,
        log_index=mint.log_index,
    )


def _grants(state: Sequences) -> list[SequenceFact]:
    """A nonce for each waiting attempt, in log order. None for a request whose earlier grant may
    still be used, for one that is minted already, and before the chain was asked for the first."""
    facts: list[SequenceFact] = []
    free: dict[str, Iterator[int]] = {}
    for asked in state.waiting.values():
        sequence = state.of(asked.recipient)
        if sequence.floor is None or asked.request_key in state.live:
            continue
        if asked.contract_id in state.minted:
            continue
        nonces = free.setdefault(asked.recipient, sequence.free())
        facts.append(
            NonceGranted(
                chain_id=asked.chain_id,
                recipient=asked.recipient,
                request_key=asked.request_key,
                attempt=asked.attempt,
                contract_id=asked.contract_id,
                nonce=next(nonces),
                deadline=asked.deadline,
            )
        )
    return facts


def questions(state: Sequences, final_timestamp: int) -> list[str]:
    """Recipients whose count the chain must tell: of whom nothing is known, whose request comes
    back although its grant may still be used, and who hold what a final block has outlived."""
    asking: dict[str, None] = {}
    for asked in state.waiting.values():
        if state.of(asked.recipient).floor is None or asked.request_key in state.live:
            asking[asked.recipient] = None
    for grants in state.live.values():
        for grant in grants.values():
            if final_timestamp > grant.deadline:
                asking[grant.recipient] = None
    return list(asking)


def conclude(state: Sequences, recipient: str, counted: int, final: Head) -> list[SequenceFact]:
    """What follows from the contract's `nonces(recipient)` at a final block. Nothing from a node
    that is behind what the log has seen.

    A grant whose deadline is before this block's time and whose nonce is unused here was not
    executed up to it and cannot be after it: blocks grow no younger.
    """
    sequence = state.of(recipient)
    known, floor = sequence.counted, sequence.floor
    if counted < sequence.used:
        return []
    fewer = known is not None and floor is not None and counted < known.count
    if fewer and known is not None and final.number <= known.block_number:
        return []
    facts: list[SequenceFact] = []
    if floor is None or fewer or counted > floor:
        facts.append(
            NoncesCounted(
                chain_id=state.chain_id,
                recipient=recipient,
                count=counted,
                block_number=final.number,
                retractions=sequence.retractions or None,
            )
        )
    for grants in sequence.held.values():
        for grant in grants.values():
            if grant.nonce >= counted and final.timestamp > grant.deadline:
                facts.append(
                    NonceFreed(
                        chain_id=state.chain_id,
                        recipient=recipient,
                        request_key=grant.request_key,
                        attempt=grant.attempt,
                        nonce=grant.nonce,
                        block_number=final.number,
                        block_timestamp=final.timestamp,
                    )
                )
    return facts
