"""Which of a chain's wallets relays a request: the least loaded that is not known to be unfit.

The choice is a fact's circumstance: whatever is chosen, the first `RelayAssigned` on the log
counts, so what this module remembers may be lost at any time and costs evenness only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from zlib import crc32

from orchestrator.core.lifecycle import RequestState, Stage
from schemas.lanes import RelayRefusal

SET_ASIDE_SECONDS = 30.0
"""So long a wallet that gave work back gets no more; then one request tries it."""

Choose = Callable[[RequestState, tuple[str, ...]], str]

_WITH_A_LANE = frozenset({Stage.RELAYING, Stage.SUBMITTED, Stage.INCLUDED})


def in_turn(state: RequestState, wallets: tuple[str, ...]) -> str:
    """By a digest of the key; after a wallet gave the work back, the one behind it."""
    if state.assigned is not None and state.assigned.wallet in wallets:
        return wallets[(wallets.index(state.assigned.wallet) + 1) % len(wallets)]
    return wallets[crc32(state.key.encode()) % len(wallets)]


def by_recipient(state: RequestState, wallets: tuple[str, ...]) -> str:
    """One wallet for all mints of a recipient; when it gave this one back, the one behind it."""
    if state.assigned is not None and state.assigned.wallet in wallets:
        return in_turn(state, wallets)
    recipient = state.received.user.lower() if state.received else ""
    return wallets[crc32(recipient.encode()) % len(wallets)]


@dataclass(slots=True)
class Pool:
    """How much is assigned and not ended per wallet, as far as this reader's requests go."""

    loads: dict[str, int] = field(default_factory=dict)
    _bearers: dict[str, tuple[str, Stage]] = field(default_factory=dict)
    _aside_until: dict[str, float] = field(default_factory=dict)

    def saw(self, state: RequestState, now_seconds: float) -> None:
        """Take in where a request stands now. Repeating it changes nothing."""
        before = self._bearers.pop(state.key, None)
        if before is not None:
            self.loads[before[0]] -= 1
        assigned = state.assigned
        if assigned is None or state.stage not in _WITH_A_LANE:
            return
        wallet = assigned.wallet
        if state.refusal is not None:
            if state.refusal.reason is RelayRefusal.WALLET_UNFIT:
                self._aside_until[wallet] = now_seconds + SET_ASIDE_SECONDS
            return
        if state.stage is Stage.SUBMITTED and before == (wallet, Stage.RELAYING):
            self._aside_until.pop(wallet, None)
        self._bear(state.key, wallet, state.stage)

    def _bear(self, key: str, wallet: str, stage: Stage) -> None:
        self._bearers[key] = (wallet, stage)
        self.loads[wallet] = self.loads.get(wallet, 0) + 1

    def choose(self, state: RequestState, wallets: tuple[str, ...], now_seconds: float) -> str:
        """A wallet for this request, which counts as its load at once. Never the one that has just
        given it back, where there is another. When all are set aside, the one that has been so for
        longest: its lane keeps the work and says why it waits."""
        last = state.assigned.wallet if state.assigned else None
        others = [wallet for wallet in wallets if wallet != last] or list(wallets)
        first = others.index(in_turn(state, tuple(others)))
        turned = others[first:] + others[:first]
        fit = [wallet for wallet in turned if self._aside_until.get(wallet, 0) <= now_seconds]
        if fit:
            chosen = min(fit, key=lambda wallet: self.loads.get(wallet, 0))
        else:
            chosen = min(turned, key=lambda wallet: self._aside_until[wallet])
        if chosen in self._aside_until:
            self._aside_until[chosen] = now_seconds + SET_ASIDE_SECONDS
        before = self._bearers.pop(state.key, None)
        if before is not None:
            self.loads[before[0]] -= 1
        self._bear(state.key, chosen, state.stage)
        return chosen


def patience_seconds(assignment: int, wallets: int) -> float:
    """How long a lane whose wallet is unfit keeps work before it gives it back: not at all while
    there are wallets that have not had it; then longer each round, so that work that no wallet can
    do moves seldom and is done soon after any of them is well again. For ever with one wallet."""
    if wallets < 2:
        return float("inf")
    rounds = (assignment - 1) // wallets + (assignment % wallets == 0)
    return 0.0 if rounds == 0 else min(3600.0, 15.0 * 2.0 ** min(rounds, 10))
