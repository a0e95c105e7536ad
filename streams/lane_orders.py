"""What operators' orders mean for one lane: what it may not begin, what it gives up, what leaves it
in place of a call that is not to be made any more."""

from __future__ import annotations

from collections.abc import Sequence

import structlog

from orchestrator.core.chain import ChainView
from orchestrator.core.lanes import LaneState, Slot
from schemas.lanes import (
    LaneFact,
    RelayRefusal,
    RelayRefused,
    RelayRequested,
    TransactionPrepared,
)
from streams.controls import Controls

log = structlog.get_logger(__name__)


class LaneOrders:
    """Of one lane. A pause lets nothing out that carries a request's call: what nodes have already
    may be mined, and is followed to its end; no-ops go on, for they only free nonces."""

    def __init__(self, controls: Controls, chain_id: int, wallet: str) -> None:
        self._controls = controls
        self._chain_id = chain_id
        self._wallet = wallet
        self._told: str | None = None
        self.held_until_block = 0
        """The head when a pause was last seen: what waited because of it is not late."""
        self.lifted = False
        """Set when the lane goes on again; whoever sends again what waited clears it."""
        self._log = log.bind(lane=f"{chain_id}:{wallet}")

    def held(self, view: ChainView | None) -> str | None:
        """Why the lane begins nothing new, if so. Asked right before whatever would be new."""
        reason = self._controls.holds(self._chain_id, self._wallet)
        if reason is not None and view is not None:
            self.held_until_block = view.head.number
        if (reason is None) != (self._told is None):
            told = {"reason": reason} if reason else {"was": self._told}
            self._log.warning("lane is held" if reason else "lane goes on", **told)
            self.lifted = reason is None
        self._told = reason
        return reason

    @property
    def only_this_wallet(self) -> bool:
        """True when this very wallet is paused, so that another one may have what it has not
        begun."""
        pause = self._controls.pause(self._chain_id, self._wallet)
        return pause is not None and pause.scope.startswith("wallet:")

    def withheld(self, item: RelayRequested) -> bool:
        """Nothing new may begin for this request."""
        return self._controls.holds(self._chain_id, self._wallet, item.request_key) is not None

    def void(self, state: LaneState, item: RelayRequested) -> bool:
        """This call is not to go out again: a replacement of it is a no-op."""
        return item.relay in state.cancelled or self._alone(item)

    def _alone(self, item: RelayRequested) -> bool:
        """The request is paused by itself, so that its lane goes on."""
        pause = self._controls.pause(self._chain_id, self._wallet, item.request_key)
        return pause is not None and pause.scope.startswith("request:")

    def overruled(self, state: LaneState) -> list[TransactionPrepared]:
        """Calls that no-ops are to replace on their nonces: those whose work is given up, and those
        of paused requests that never left (a nonce cannot wait while others stand behind it)."""
        return [slot.newest for slot in state.slots.values() if self._is_overruled(state, slot)]

    def _is_overruled(self, state: LaneState, slot: Slot) -> bool:
        relay = slot.newest.relay
        if relay is None or slot.inclusion is not None:
            return False
        return relay in state.cancelled or self._never_to_leave(state, slot.newest, relay)

    def sendable(
        self, state: LaneState, transactions: Sequence[TransactionPrepared], view: ChainView | None
    ) -> list[TransactionPrepared]:
        """Those that may go out now: no-ops always; calls while the lane is not held, unless a
        no-op is to take their place before any node has them."""
        held = self.held(view) is not None
        return [
            transaction
            for transaction in transactions
            if transaction.relay is None
            or not (held or self._never_to_leave(state, transaction, transaction.relay))
        ]

    def _never_to_leave(
        self, state: LaneState, transaction: TransactionPrepared, relay: str
    ) -> bool:
        slot, item = state.slots.get(transaction.nonce), state.working.get(relay)
        if slot is None or item is None or transaction.tx_hash in slot.broadcast:
            return False
        return self.void(state, item)

    def replaceable(
        self, state: LaneState, versions: Sequence[TransactionPrepared], view: ChainView
    ) -> list[TransactionPrepared]:
        """Those that may have a replacement now: while the lane is held, those whose replacement is
        a no-op."""
        if self.held(view) is None:
            return list(versions)
        works = [(version, state.working.get(version.relay or "")) for version in versions]
        return [version for version, item in works if item is None or self.void(state, item)]

    def given_up(self, state: LaneState, view: ChainView | None) -> list[LaneFact]:
        """Refusals of work that was cancelled and holds no nonce: none of its transactions can be
        mined any more. The work itself may not even have arrived."""
        return [
            RelayRefused(
                chain_id=state.chain_id,
                wallet=state.wallet,
                relay=relay,
                reason=RelayRefusal.CANCELLED,
                detail="an operator cancelled it, and no transaction of it can be mined here",
                block_number=view.final.number if view else 0,
                block_timestamp=view.final.timestamp if view else 0,
            )
            for relay in state.cancelled
            if relay not in state.working
        ]
