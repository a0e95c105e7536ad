"""`EvmNode` on a real node (anvil) passes the contract suite."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.adapters.kms import KmsSigner
from orchestrator.adapters.wallets import LocalWallet
from orchestrator.core.contract import Approval
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, approval_nonce
from orchestrator.dev.chains import Chain
from orchestrator.dev.stack import REGION, EmbeddedStack
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Wallet
from schemas.base import RequestType

from .chain_contract import ChainNodeContract, signed
from .conftest import CHAIN_ID

HOLDER = "0x00000000000000000000000000000000000A11CE"


@dataclass
class AnvilWorld:
    node: EvmNode
    contract: str
    wallet: Wallet
    pauper: Wallet
    chain: Chain
    signer: KmsSigner

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.chain.rpc("evm_mine")

    async def reorganise(self, depth: int) -> None:
        await self.chain.reorganise(depth)

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


@pytest.fixture(scope="module")
async def anvil(stack: EmbeddedStack) -> AsyncIterator[AnvilWorld]:
    """Interval mining is off while this module runs: blocks come by `mine`."""
    chain = stack.chains[CHAIN_ID]
    key = stack.wallets.relayers[CHAIN_ID][0]
    world = AnvilWorld(
        node=EvmNode(CHAIN_ID, [chain.rpc_url]),
        contract=chain.contract_address,
        wallet=LocalWallet(key),
        pauper=LocalWallet("0x" + "51" * 32),
        chain=chain,
        signer=KmsSigner(stack.kms.key_id, REGION, endpoint_url=stack.kms.base_url),
    )
    await chain.pause_mining()
    yield world
    await chain.resume_mining()
    await world.signer.close()
    await world.node.close()


class TestEvmNode(ChainNodeContract):
    @pytest.fixture
    async def world(self, anvil: AnvilWorld) -> AnvilWorld:
        await anvil.chain.pause_mining()
        await anvil.chain.rpc("anvil_dropAllTransactions")
        return anvil


async def test_a_restarted_node(anvil: AnvilWorld) -> None:
    """While it is away: UNAVAILABLE, with the reason. Afterwards: as before, chain id checked."""
    await anvil.chain.stop()
    with pytest.raises(RpcError) as caught:
        await anvil.node.head()
    assert caught.value.problem is RpcProblem.UNAVAILABLE
    await anvil.chain.start()
    await anvil.chain.rpc("evm_setIntervalMining", 0)
    assert (await anvil.node.head()).number > 0
    assert await anvil.node.balance(anvil.wallet.address) > 0


async def test_batches_in_small_chunks(anvil: AnvilWorld) -> None:
    """The size of a batch changes nothing but the number of round trips."""
    node = EvmNode(CHAIN_ID, [anvil.chain.rpc_url], batch_size=3, concurrency=2)
    nonce = await node.transaction_count(anvil.wallet.address)
    sent = [await signed(anvil, nonce=nonce + step, gas_limit=40_000) for step in range(10)]
    answers = await node.send_raw([transaction.raw for transaction in sent])
    assert answers == [transaction.tx_hash for transaction in sent]
    await anvil.mine()
    assert None not in await node.receipts([transaction.tx_hash for transaction in sent])
    await node.close()
