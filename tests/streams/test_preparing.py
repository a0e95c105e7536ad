"""How much one pass prepares, and that what waits keeps nothing else waiting."""

from __future__ import annotations

import pytest
from pydantic import SecretStr

from orchestrator.adapters.wallets import LocalWallet
from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import ChainView, Head
from orchestrator.core.lanes import LaneState, evolve
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.errors import RpcError, RpcProblem
from schemas.lanes import LaneOpened, RelayRequested
from streams.judging import Judging
from streams.preparing import ESTIMATED_AT_ONCE, Preparing
from tests.core.facts import CHAIN, CONTRACT, word

SECRET = "0x" + "11" * 32
WALLET = LocalWallet(SECRET)
HEAD = Head(9, word(9), word(8), 1_000, 10**9)
VIEW = ChainView(HEAD, HEAD, 0, 0, {})


class Node:
    """Estimates calls; says it is busy about those whose data it is told to."""

    def __init__(self) -> None:
        self.busy_with: set[str] = set()
        self.asked: list[int] = []

    async def estimate_gas(self, calls):
        self.asked.append(len(calls))
        busy = RpcError(RpcProblem.UNAVAILABLE, "busy")
        return [busy if call.data in self.busy_with else 50_000 for call in calls]

    async def priority_fee(self):
        return 10**9


def item(number: int) -> RelayRequested:
    return RelayRequested(
        chain_id=CHAIN,
        wallet=WALLET.address,
        request_key=f"r-{number:03d}",
        request_id=f"r-{number:03d}",
        attempt=1,
        contract=CONTRACT,
        data=f"0x{number:08x}",
        deadline=2_000,
    )


@pytest.fixture
def made() -> tuple[Preparing, Node, LaneState]:
    config = ChainConfig(
        CHAIN, (), CONTRACT, (WALLET.address,), 0, 0, (SecretStr(SECRET),), ORCHESTRATOR
    )
    node = Node()
    judging = Judging(WALLET.address, node, ORCHESTRATOR)
    preparing = Preparing(config, WALLET, node, Settings(), judging)
    preparing.saw(VIEW)
    state = LaneState(CHAIN, WALLET.address)
    evolve(state, LaneOpened(chain_id=CHAIN, wallet=WALLET.address, first_nonce=0, block_number=9))
    for number in range(100):
        evolve(state, item(number))
    return preparing, node, state


async def one_pass(preparing: Preparing, state: LaneState) -> list[str]:
    facts = await preparing.prepare(state, preparing.choose(state, 512, lambda _: False))
    for fact in facts:
        evolve(state, fact)
    return [fact.relay for fact in facts]


async def test_a_pass_asks_for_so_many_estimates_and_the_next_goes_on(made):
    preparing, node, state = made
    first = await one_pass(preparing, state)
    assert len(first) == ESTIMATED_AT_ONCE and preparing.unfinished
    second = await one_pass(preparing, state)
    assert not preparing.unfinished
    assert first + second == [item(number).relay for number in range(100)]
    assert node.asked == [ESTIMATED_AT_ONCE, 100 - ESTIMATED_AT_ONCE]
    assert list(state.slots) == list(range(100))


async def test_what_cannot_be_estimated_lets_the_others_pass_until_the_next_head(made):
    preparing, node, state = made
    node.busy_with = {item(number).data for number in range(ESTIMATED_AT_ONCE)}
    assert await one_pass(preparing, state) == []
    others = [item(number).relay for number in range(ESTIMATED_AT_ONCE, 100)]
    assert await one_pass(preparing, state) == others
    node.busy_with.clear()
    preparing.saw(VIEW)
    assert len(await one_pass(preparing, state)) == ESTIMATED_AT_ONCE
    assert not state.waiting
