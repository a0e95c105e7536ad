"""Whether a wallet is fit for new work, and what becomes of work that it cannot take.

The balance is asked for beside the head, never on the way of the work.
"""

from __future__ import annotations

import structlog

from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import ChainView
from orchestrator.core.lane_views import affordable, stuck
from orchestrator.core.lanes import LaneState, unstarted
from orchestrator.core.pool import patience_seconds
from schemas.lanes import LaneFact, RelayRefusal, WalletRestored, WalletSetAside
from streams.judging import refused
from streams.preparing import Preparing
from streams.retrying import loop_seconds

WATCHED_EVERY_SECONDS = 10.0
DOUBTED_EVERY_SECONDS = 1.0

log = structlog.get_logger(__name__)


class Funds:
    """`balance_wei` is None before the first answer."""

    def __init__(self, lane: str, low_wei: int) -> None:
        self.balance_wei: int | None = None
        self._lane = lane
        self._low_wei = low_wei
        self._asked_at = float("-inf")
        self._doubted = False
        self._warned = False

    def doubt(self) -> None:
        """A node says that funds do not suffice, or they nearly do not: ask soon, and often."""
        self._doubted = True

    def due(self) -> bool:
        pause = DOUBTED_EVERY_SECONDS if self._doubted else WATCHED_EVERY_SECONDS
        return loop_seconds() - self._asked_at >= pause

    def saw(self, balance_wei: int) -> None:
        self.balance_wei, self._asked_at, self._doubted = balance_wei, loop_seconds(), False
        low = balance_wei < self._low_wei
        if low and not self._warned:
            log.warning(
                "wallet is low on funds: send it some of the chain's currency",
                lane=self._lane,
                balance_wei=str(balance_wei),
                wallet_low_wei=str(self._low_wei),
            )
        self._warned = low


class Fitness:
    """Of one lane's wallet, in one run of its owner."""

    def __init__(self, chain: ChainConfig, settings: Settings, preparing: Preparing) -> None:
        self.funds = Funds(f"{chain.chain_id}:{preparing.wallet}", settings.wallet_low_wei)
        self._chain = chain
        self._settings = settings
        self._preparing = preparing
        self._kept_since: dict[str, float] = {}
        self._log = log.bind(lane=f"{chain.chain_id}:{preparing.wallet}")

    def judge(
        self, state: LaneState, view: ChainView | None, held_until: int = 0
    ) -> list[LaneFact]:
        """The wallet set aside, or taken back, as the newest view and balance say. What an operator
        held until a block is not stuck."""
        if state.halted is not None or view is None:
            return []
        reason = self._unfit(state, view, held_until)
        aside = state.set_aside
        lane = {"chain_id": state.chain_id, "wallet": state.wallet}
        if reason is not None and aside is None:
            self._log.error("wallet set aside", reason=reason)
            return [WalletSetAside(**lane, number=state.times_aside + 1, reason=reason)]
        if reason is None and aside is not None:
            self._log.info("wallet takes work again", was=aside.reason)
            self._kept_since.clear()
            return [WalletRestored(**lane, number=aside.number)]
        return []

    def _unfit(self, state: LaneState, view: ChainView, held_until: int) -> str | None:
        balance, cost = self.funds.balance_wei, self._preparing.one_costs_wei()
        if balance is not None and balance < cost:
            self.funds.doubt()
            return (
                f"the wallet holds {balance} wei, one transaction may cost {cost}: "
                "send it some of the chain's currency"
            )
        return stuck(state, view, self._settings.replace_after_blocks, held_until)

    def room(self, state: LaneState) -> int | None:
        """How many more transactions the balance covers; None while it is not known."""
        balance = self.funds.balance_wei
        if balance is None or not state.waiting:
            return None
        room = affordable(state, balance, self._preparing.one_costs_wei())
        if room < self._settings.lane_in_flight_limit:
            self.funds.doubt()
        return room

    def give_back(self, state: LaneState, reason: str, view: ChainView | None) -> list[LaneFact]:
        """What has never had a nonce here, for other wallets: the refusal on this lane's own log
        settles it here for ever, before anybody can assign it anew."""
        wallets, now = len(self._chain.wallets), loop_seconds()
        facts: list[LaneFact] = [
            refused(item, RelayRefusal.WALLET_UNFIT, reason, view)
            for item in unstarted(state)
            if now - self._kept_since.setdefault(item.relay, now)
            >= patience_seconds(item.assignment, wallets)
        ]
        if facts:
            self._log.warning("work given back for other wallets", requests=len(facts))
        return facts
