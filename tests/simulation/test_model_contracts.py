"""The working models of chains and of KMS pass the suites of the real adapters."""

from __future__ import annotations

import time
from dataclasses import dataclass
from random import Random

import pytest

from orchestrator.adapters.wallets import LocalWallet
from orchestrator.core.contract import Approval
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, approval_nonce
from schemas.base import RequestType
from tests.adapters.chain_contract import ChainNodeContract
from tests.adapters.guard_contract import MARGIN_SECONDS, GuardContract
from tests.adapters.signer_contract import SignerContract
from tests.simulation.chain import Chain
from tests.simulation.contract import Stablecoin
from tests.simulation.guard import SimulatedGuard
from tests.simulation.node import Manners, SimulatedNode
from tests.simulation.outside import APPROVER, SimulatedKms
from tests.simulation.wire import QuietWire

CHAIN_ID = 5920
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"
HOLDER = "0x00000000000000000000000000000000000A11CE"


@dataclass
class SimulatedWorld:
    node: SimulatedNode
    contract: str
    wallet: LocalWallet
    pauper: LocalWallet
    chain: Chain
    signer: SimulatedKms

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.chain.mine()

    async def reorganise(self, depth: int) -> None:
        self.chain.reorganise(depth, kept=0.0, share=0.0, longer=0)

    async def approved_mint(self, request_id: str, amount: int = 5) -> str:
        approval = Approval(
            type=RequestType.MINT,
            chain_id=CHAIN_ID,
            contract=self.contract,
            request_id=request_id,
            account=HOLDER,
            amount=amount,
            nonce=approval_nonce(request_id),
            deadline=int(time.time()) + 86_400,
        )
        return ORCHESTRATOR.calldata(
            approval, await self.signer.sign(ORCHESTRATOR.digest(approval))
        )


def kms() -> SimulatedKms:
    return SimulatedKms(QuietWire(), lambda _: None)


class TestSimulatedNode(ChainNodeContract):
    @pytest.fixture
    async def world(self) -> SimulatedWorld:
        chain = Chain(Stablecoin(CHAIN_ID, CONTRACT, APPROVER), Random(1), time.time, 6)
        wallet, pauper = (LocalWallet("0x" + digit * 64) for digit in ("1", "5"))
        chain.funds[wallet.address] = 10**24
        for _ in range(3):
            chain.mine()
        node = SimulatedNode(chain, QuietWire(), Manners(), lambda _: None)
        return SimulatedWorld(node, CONTRACT, wallet, pauper, chain, kms())


class TestSimulatedGuard(GuardContract):
    @pytest.fixture
    def now(self) -> int:
        return 1_900_000_000

    @pytest.fixture
    def guard(self, now: int) -> SimulatedGuard:
        return SimulatedGuard(QuietWire(), MARGIN_SECONDS, lambda: now)

    @pytest.fixture
    def another(self, now: int) -> SimulatedGuard:
        return SimulatedGuard(QuietWire(), MARGIN_SECONDS, lambda: now)


class TestSimulatedKms(SignerContract):
    @pytest.fixture
    def signer(self) -> SimulatedKms:
        return kms()
