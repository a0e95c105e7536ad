"""What every `ports.ChainNode` must do: the real one over anvil, and any working model of it.

A subclass gives the fixture `world`. Blocks come only when the world mines them.
"""

from __future__ import annotations

from typing import Protocol

import pytest

from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, ChainNode, SignedTransaction, UnsignedTransaction, Wallet
from schemas.evm import EventName

GWEI = 10**9
YES = "0x" + "1".rjust(64, "0")
NO = "0x" + "0" * 64


class ChainWorld(Protocol):
    """A chain with our contract on it, seen through the node under test."""

    @property
    def node(self) -> ChainNode: ...

    @property
    def contract(self) -> str: ...

    @property
    def wallet(self) -> Wallet:
        """Has funds and no transactions in the pool."""

    @property
    def pauper(self) -> Wallet:
        """Has neither."""

    async def mine(self, blocks: int = 1) -> None: ...

    async def reorganise(self, depth: int) -> None:
        """Replace the newest blocks by as many empty ones."""

    async def approved_mint(self, request_id: str, amount: int = 5) -> str:
        """Calldata of a mint with a valid approval."""


async def signed(
    world: ChainWorld,
    data: str = "0x",
    *,
    nonce: int | None = None,
    ahead: int = 0,
    gas_limit: int = 300_000,
    max_fee: int = 100 * GWEI,
    tip: int = GWEI,
    wallet: Wallet | None = None,
) -> SignedTransaction:
    wallet = wallet or world.wallet
    if nonce is None:
        nonce = await world.node.transaction_count(wallet.address) + ahead
    return wallet.sign(
        UnsignedTransaction(
            world.node.chain_id, nonce, world.contract, data, gas_limit, max_fee, tip
        )
    )


def problem(answer: object) -> RpcProblem:
    assert isinstance(answer, RpcError), answer
    return answer.problem


class ChainNodeContract:
    async def test_serves_its_chain(self, world: ChainWorld) -> None:
        await world.node.check_chain()

    async def test_blocks_are_linked(self, world: ChainWorld) -> None:
        before = await world.node.head()
        await world.mine(2)
        head = await world.node.head()
        assert head.number == before.number + 2
        middle = await world.node.block(before.number + 1)
        assert middle is not None
        assert (middle.parent_hash, head.parent_hash) == (before.hash, middle.hash)
        assert before.timestamp <= middle.timestamp <= head.timestamp
        assert await world.node.block(head.number) == head
        assert await world.node.block(head.number + 5) is None

    async def test_a_transaction_from_pool_to_block(self, world: ChainWorld) -> None:
        transaction = await signed(world, await world.approved_mint("pool-to-block"))
        before = await world.node.head()
        nonce = await world.node.transaction_count(world.wallet.address)
        assert await world.node.send_raw([transaction.raw]) == [transaction.tx_hash]
        assert await world.node.receipts([transaction.tx_hash]) == [None]
        assert await world.node.transaction_count(world.wallet.address) == nonce
        await world.mine()
        head = await world.node.head()
        (receipt,) = await world.node.receipts([transaction.tx_hash])
        assert receipt is not None
        assert (receipt.tx_hash, receipt.succeeded) == (transaction.tx_hash, True)
        assert (receipt.block_number, receipt.block_hash) == (head.number, head.hash)
        assert 21_000 < receipt.gas_used < 300_000
        assert await world.node.transaction_count(world.wallet.address) == nonce + 1
        assert await world.node.transaction_count(world.wallet.address, before.number) == nonce

    async def test_the_same_bytes_again(self, world: ChainWorld) -> None:
        transaction = await signed(world, await world.approved_mint("same-bytes"))
        first, second = await world.node.send_raw([transaction.raw, transaction.raw])
        assert first == transaction.tx_hash
        assert problem(second) is RpcProblem.ALREADY_KNOWN
        await world.mine()
        (third,) = await world.node.send_raw([transaction.raw])
        assert problem(third) in (RpcProblem.NONCE_TOO_LOW, RpcProblem.ALREADY_KNOWN)

    async def test_refusals_stand_at_their_place(self, world: ChainWorld) -> None:
        await world.node.send_raw([(await signed(world)).raw])
        await world.mine()
        spent = await signed(world, await world.approved_mint("too-late"), nonce=0)
        poor = await signed(world, wallet=world.pauper)
        cheap = await signed(world, ahead=1, max_fee=1, tip=1)
        tight = await signed(world, ahead=1, gas_limit=20_000)
        good = await signed(world, await world.approved_mint("among-bad"))
        raws = [transaction.raw for transaction in (spent, poor, cheap, good, tight)]
        answers = await world.node.send_raw(raws)
        assert answers[3] == good.tx_hash
        assert [problem(answers[place]) for place in (0, 1, 2, 4)] == [
            RpcProblem.NONCE_TOO_LOW,
            RpcProblem.INSUFFICIENT_FUNDS,
            RpcProblem.UNDERPRICED,
            RpcProblem.GAS_TOO_LOW,
        ]
        await world.mine()

    async def test_a_replacement_must_pay_more(self, world: ChainWorld) -> None:
        first = await signed(world, await world.approved_mint("replaced"), max_fee=100 * GWEI)
        same_fee = await signed(world, "0x01", max_fee=100 * GWEI)
        better = await signed(world, max_fee=110 * GWEI, tip=2 * GWEI)
        await world.node.send_raw([first.raw])
        (refused,) = await world.node.send_raw([same_fee.raw])
        assert problem(refused) is RpcProblem.REPLACEMENT_UNDERPRICED
        assert await world.node.send_raw([better.raw]) == [better.tx_hash]
        await world.mine()
        lost, won = await world.node.receipts([first.tx_hash, better.tx_hash])
        assert lost is None
        assert won is not None

    async def test_a_gap_waits_for_its_nonce(self, world: ChainWorld) -> None:
        first = await signed(world, await world.approved_mint("gap-1"))
        second = await signed(world, await world.approved_mint("gap-2"), ahead=1)
        assert await world.node.send_raw([second.raw]) == [second.tx_hash]
        await world.mine()
        assert await world.node.receipts([second.tx_hash]) == [None]
        assert await world.node.send_raw([first.raw]) == [first.tx_hash]
        await world.mine()
        assert None not in await world.node.receipts([first.tx_hash, second.tx_hash])

    async def test_many_in_flight(self, world: ChainWorld) -> None:
        """More than one batch, all in one block, each answer at its place."""
        nonce = await world.node.transaction_count(world.wallet.address)
        sent = [await signed(world, nonce=nonce + step, gas_limit=40_000) for step in range(250)]
        answers = await world.node.send_raw([transaction.raw for transaction in sent])
        assert answers == [transaction.tx_hash for transaction in sent]
        await world.mine()
        receipts = await world.node.receipts([transaction.tx_hash for transaction in sent])
        assert [receipt.tx_hash for receipt in receipts if receipt] == answers

    async def test_estimates_see_the_pool(self, world: ChainWorld) -> None:
        """A request that is in the pool already would revert: known before gas is paid twice."""
        sender = world.wallet.address
        call = Call(sender, world.contract, await world.approved_mint("estimated"))
        other = Call(sender, world.contract, await world.approved_mint("estimated-2"))
        gas, nonsense = await world.node.estimate_gas([call, Call(sender, world.contract, "0x00")])
        assert isinstance(gas, int)
        assert 50_000 < gas < 200_000
        assert problem(nonsense) is RpcProblem.REVERTED
        await world.node.send_raw([(await signed(world, call.data)).raw])
        refused, allowed = await world.node.estimate_gas([call, other])
        assert problem(refused) is RpcProblem.REVERTED
        assert 'RequestAlreadyProcessed("estimated")' in str(refused)
        assert isinstance(allowed, int)
        await world.mine()

    async def test_calls_at_a_block(self, world: ChainWorld) -> None:
        ask = Call(
            world.wallet.address, world.contract, ORCHESTRATOR.is_processed_calldata("asked")
        )
        assert await world.node.call(ask) == NO
        before = await world.node.head()
        data = await world.approved_mint("asked")
        await world.node.send_raw([(await signed(world, data)).raw])
        await world.mine()
        assert await world.node.call(ask) == YES
        assert await world.node.call(ask, before.number) == NO
        with pytest.raises(RpcError) as caught:
            await world.node.call(Call(world.wallet.address, world.contract, data))
        assert caught.value.problem is RpcProblem.REVERTED
        assert caught.value.detail == 'RequestAlreadyProcessed("asked")'

    async def test_a_call_at_an_unknown_block(self, world: ChainWorld) -> None:
        ask = Call(world.wallet.address, world.contract, ORCHESTRATOR.is_processed_calldata("x"))
        future = (await world.node.head()).number + 1000
        with pytest.raises(RpcError) as caught:
            await world.node.call(ask, future)
        assert caught.value.problem is RpcProblem.UNAVAILABLE

    async def test_logs(self, world: ChainWorld) -> None:
        first = (await world.node.head()).number + 1
        nonce = await world.node.transaction_count(world.wallet.address)
        for step in range(4):
            data = await world.approved_mint(f"logged-{step}", amount=step + 1)
            await world.node.send_raw([(await signed(world, data, nonce=nonce + step)).raw])
            await world.mine(step % 2)
        await world.mine()
        last = (await world.node.head()).number
        logs = await world.node.logs(world.contract, list(ORCHESTRATOR.event_topics), first, last)
        events = [ORCHESTRATOR.decode_event(log.topics, log.data, "") for log in logs]
        told = [(event.event, event.request_id, event.amount) for event in events if event]
        assert told == [(EventName.MINTED, f"logged-{step}", step + 1) for step in range(4)]
        seats = [(log.block_number, log.log_index) for log in logs]
        assert seats == sorted(seats)
        for log in logs:
            block = await world.node.block(log.block_number)
            assert block is not None
            assert log.block_hash == block.hash
            assert log.address == world.contract
        redeemed = [
            topic for topic, name in ORCHESTRATOR.event_topics.items() if name is EventName.REDEEMED
        ]
        assert await world.node.logs(world.contract, redeemed, first, last) == []
        assert (
            await world.node.logs(
                world.pauper.address, list(ORCHESTRATOR.event_topics), first, last
            )
            == []
        )

    async def test_logs_of_blocks_that_are_not_there(self, world: ChainWorld) -> None:
        """Never an empty list: the follower would step over what it has not seen."""
        head = await world.node.head()
        with pytest.raises(RpcError) as caught:
            await world.node.logs(
                world.contract, list(ORCHESTRATOR.event_topics), head.number, head.number + 1
            )
        assert caught.value.problem is RpcProblem.UNAVAILABLE

    async def test_a_reorganisation_takes_receipts_and_logs_back(self, world: ChainWorld) -> None:
        before = await world.node.head()
        transaction = await signed(world, await world.approved_mint("reorganised"))
        await world.node.send_raw([transaction.raw])
        await world.mine()
        gone = await world.node.head()
        await world.reorganise(1)
        await world.mine()
        replaced = await world.node.block(gone.number)
        assert replaced is not None
        assert replaced.hash != gone.hash
        assert replaced.parent_hash == before.hash
        assert await world.node.receipts([transaction.tx_hash]) == [None]
        topics = list(ORCHESTRATOR.event_topics)
        assert await world.node.logs(world.contract, topics, gone.number, gone.number + 1) == []

    async def test_fees_and_funds(self, world: ChainWorld) -> None:
        await world.node.send_raw([(await signed(world, tip=3 * GWEI)).raw])
        await world.mine()
        assert 0 < await world.node.priority_fee() < 1000 * GWEI
        assert await world.node.balance(world.wallet.address) > 10**18
        assert await world.node.balance(world.pauper.address) == 0
        head = await world.node.head()
        assert head.base_fee_wei is not None

    async def test_nothing_asked_nothing_answered(self, world: ChainWorld) -> None:
        assert await world.node.estimate_gas([]) == []
        assert await world.node.send_raw([]) == []
        assert await world.node.receipts([]) == []
