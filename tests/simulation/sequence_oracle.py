"""What must hold of the sequences: a nonce belongs to one approval that may still execute."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable

from orchestrator.core.sequences import Sequences, evolve
from orchestrator.core.stages import Verdict
from schemas.sequences import MintAttributed, NonceFreed, NonceGranted, SequenceFact
from tests.simulation.chain import Chain

Complain = Callable[..., None]


class SequenceOracle:
    """Of one chain. `deep` says whether finality holds no more there."""

    def __init__(self, chain: Chain, complain: Complain, deep: Callable[[], bool]) -> None:
        self.state = Sequences(chain.chain_id)
        self._chain = chain
        self._complain = complain
        self._deep = deep
        self._grants: dict[tuple[str, int], list[NonceGranted]] = defaultdict(list)

    def witness(self, fact: SequenceFact) -> None:
        verdict = evolve(self.state, fact)
        if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
            self._complain(f"the sequence's fold says {verdict}", id=fact.id)
        if verdict is not Verdict.APPLIED or self._deep():
            return
        match fact:
            case NonceGranted():
                held = self._grants[fact.recipient, fact.nonce]
                for earlier in held:
                    if not self.is_dead(earlier.contract_id, earlier.deadline, earlier):
                        self._complain("one nonce, two live approvals", id=fact.id)
                held.append(fact)
            case NonceFreed():
                used = self._chain.final.state.approvals.get(fact.recipient, 0)
                deadline = self.state.granted[f"granted:{fact.request_key}:{fact.attempt}"].deadline
                if fact.nonce < used and deadline >= self._chain.final.head.timestamp:
                    self._complain("freed while it may be used", id=fact.id)
            case MintAttributed() if self.state.names.get(self._id_at(fact)) != fact.request_key:
                self._complain("attributed to another request", id=fact.id)

    def compare(self, held: Sequences) -> None:
        """What an owner goes by is what the log says."""
        if held != self.state:
            self._complain("an owner's sequences differ from the log", chain=held.chain_id)

    def _id_at(self, fact: MintAttributed) -> str:
        return self.state.mints[fact.seat].contract_id

    def is_dead(self, contract_id: str, deadline: int, grant: NonceGranted) -> bool:
        """In truth, at the newest final block: it cannot execute any more."""
        final = self._chain.final
        used = final.state.approvals.get(grant.recipient, 0) > grant.nonce
        return used or final.head.timestamp > deadline or contract_id in final.state.processed
