"""What operators may rely on: a pause that readers can see is obeyed by everybody soon after."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.controls import ControlState, canonical, covering, evolve
from orchestrator.core.stages import Verdict
from schemas.base import Record
from schemas.controls import OrderFact, WorkPaused
from schemas.lanes import TransactionPrepared
from schemas.requests import ApprovalDrafted
from streams.controls import STALE_SECONDS
from tests.simulation.story import Story

APPENDING_SECONDS = 8.0
"""What was decided before a pause was seen may reach the log so much later: late arrivals."""


class Overseer:
    """Knows which pauses readers can see, since when, and what each effect is for."""

    def __init__(self, story: Story, now: Callable[[], float]) -> None:
        self._story = story
        self._now = now
        self._controls = ControlState()
        self._since: dict[str, float] = {}
        self._approvals: dict[str, tuple[int, str]] = {}
        self._calls: dict[str, TransactionPrepared] = {}
        self._sent: set[str] = set()

    def order(self, record: Record) -> None:
        fact = record.fact
        assert isinstance(fact, OrderFact)
        before = set(self._controls.pauses)
        if evolve(self._controls, record) is not Verdict.APPLIED:
            return
        if isinstance(fact, WorkPaused) and canonical(fact.scope) not in before:
            self._since[canonical(fact.scope)] = self._now()

    def drafted(self, fact: ApprovalDrafted, chain_id: int) -> None:
        self._approvals[fact.digest] = (chain_id, fact.request_key)
        self._check("drafted", fact.id, chain_id, None, fact.request_key, APPENDING_SECONDS)

    def committed(self, fact: TransactionPrepared) -> None:
        self._calls[fact.raw] = fact

    def prepared(self, fact: TransactionPrepared) -> None:
        if fact.relay is not None and fact.replaces is None:
            key = fact.relay.rpartition(":")[0]
            wallet = fact.wallet
            self._check("prepared", fact.id, fact.chain_id, wallet, key, APPENDING_SECONDS)

    def asks_kms(self, digest: str) -> None:
        """A process asks now; on the way it may take longer."""
        chain_id, key = self._approvals.get(digest, (0, ""))
        self._check("sent to KMS", digest, chain_id, None, key)

    def sends(self, raw: str) -> None:
        """A process sends now. What is already out and belongs to a request that is paused by
        itself may be sent again: others wait behind its nonce."""
        call = self._calls.get(raw)
        if call is None or call.relay is None:
            return
        first = raw not in self._sent
        self._sent.add(raw)
        key = call.relay.rpartition(":")[0] if first else None
        self._check("sent to a node", call.id, call.chain_id, call.wallet, key)

    def _check(
        self,
        what: str,
        which: str,
        chain_id: int,
        wallet: str | None,
        key: str | None,
        grace: float = 0.0,
    ) -> None:
        pause = covering(self._controls, chain_id, wallet, key)
        if pause is None:
            return
        late = self._now() - self._since[canonical(pause.scope)]
        if late > STALE_SECONDS + grace:
            self._story.violated(
                f"{what} while paused", which=which, scope=pause.scope, seconds=round(late, 2)
            )
