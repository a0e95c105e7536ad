"""What the conservation gate promises, judged from outside: at each question to KMS, what was
minted, what was approved and what is asked for stay within what Kuro allowed; and the gate doubts
nothing that is in order. By sums of its own, without the gate's ledger."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping

from schemas.base import RequestType
from schemas.controls import WorkPaused
from schemas.kuro import MintOk
from schemas.requests import RequestReceived
from tests.simulation.chain import Chain

Violated = Callable[..., None]


class Conservation:
    def __init__(self, violated: Violated, chains: Mapping[int, Chain]) -> None:
        self._violated = violated
        self._chains = chains
        self._first: dict[str, tuple[int, int]] = {}
        """Chain and amount of the first fact of each id."""
        self._promised: dict[tuple[int, str], int] = {}
        """Minted or asked for, by chain and the contract's name."""

    def allows(self, fact: MintOk) -> None:
        amount = int(fact.amount) if fact.amount.isascii() and fact.amount.isdigit() else 0
        self._first.setdefault(fact.request_id, (fact.chain_id, amount))

    def mints(self, chain: Chain, name: str, amount: int) -> None:
        """In some block, which a reorganisation may take away: then it may come again."""
        self._promised[chain.chain_id, name] = amount

    def asks(self, received: RequestReceived) -> None:
        if received.type is not RequestType.MINT:
            return
        chain_id = received.chain_id
        name = self._chains[chain_id].contract.profile.contract_id(received.request_id)
        self._promised[chain_id, name] = int(received.amount)
        covered: dict[int, int] = defaultdict(int)
        for chain, amount in self._first.values():
            covered[chain] += amount
        wanted = sum(value for (chain, _), value in self._promised.items() if chain == chain_id)
        if wanted > covered[chain_id]:
            self._violated(
                "asked for more than facts cover",
                request=received.request_key,
                wanted=wanted,
                covered=covered[chain_id],
            )

    def doubted(self, pause: WorkPaused, *, deep: bool) -> None:
        """Other signers' mints and what `Chain.gift` makes are the only ground that there is; where
        a chain was reorganised beyond its depth, log and chain do differ."""
        kind = pause.order.partition(".")[0]
        chain = self._chains[int(pause.scope.partition(":")[2])]
        grounds = {
            "unbacked": bool(getattr(chain.contract, "foreign", ())),
            "supply": bool(chain.given),
        }
        if not grounds.get(kind, False) and not deep:
            self._violated("doubted without a ground", order=pause.order, why=pause.why)
