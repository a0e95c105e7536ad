"""A real chain (anvil) is reorganised under a follower on a real Kafka; requests follow."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest_asyncio

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter, partition_of
from orchestrator.adapters.wallets import LocalWallet
from orchestrator.config import ChainConfig, Settings
from orchestrator.core.contract import Approval
from orchestrator.core.lifecycle import RequestState, Stage, evolve
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, approval_nonce
from orchestrator.core.owing import Append, pending
from orchestrator.core.reporting import reported
from orchestrator.core.terms import ChainTerms, Terms
from orchestrator.dev.chains import Chain
from orchestrator.dev.kms_keys import KeyStore
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.ports import UnsignedTransaction
from schemas.base import Fact, Position, Record, RequestType, instant
from schemas.evm import (
    BlocksFollowed,
    ChainHalted,
    ChainResumed,
    ContractEvent,
    EventName,
    EventRetracted,
)
from schemas.kuro import MintOk, Via
from schemas.requests import ApprovalDrafted
from schemas.topics import EVM_EVENTS, REQUESTS
from streams.following import ChainFollower
from tests.stack.approvals import recoverable

from .conftest import CHAIN_ID
from .models import until

DEPTH = 2
PARTITION = partition_of(EVM_EVENTS, str(CHAIN_ID))


@dataclass
class Outside:
    """The chain with its contract, driven by hand: a block comes only when it is mined."""

    stack: EmbeddedStack
    node: EvmNode
    log: KafkaLog
    wallet: LocalWallet
    tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def chain(self) -> Chain:
        return self.stack.chains[CHAIN_ID]

    async def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            await self.chain.rpc("evm_mine")

    async def mint(self, request_id: str) -> None:
        """In a block of its own."""
        approval = Approval(
            RequestType.MINT,
            CHAIN_ID,
            self.chain.contract_address,
            request_id,
            self.stack.holders.address,
            1000,
            approval_nonce(request_id),
            int(time.time()) + 86_400,
        )
        key = KeyStore(self.stack.kms._keys_file, "us-east-1").find(self.stack.kms.key_id)
        raw = bytes.fromhex(ORCHESTRATOR.digest(approval)[2:])
        der = key.sign_digest(raw, "ECDSA_SHA_256")
        signature = recoverable(der, raw, self.stack.kms.address)
        nonce = await self.node.transaction_count(self.wallet.address)
        data = ORCHESTRATOR.calldata(approval, "0x" + signature.hex())
        fee = 100 * 10**9
        unsigned = UnsignedTransaction(
            CHAIN_ID, nonce, self.chain.contract_address, data, 300_000, fee, 10**9
        )
        await self.node.send_raw([self.wallet.sign(unsigned).raw])
        await self.mine()

    def follow(self) -> ChainFollower:
        chain = ChainConfig(
            CHAIN_ID, (self.chain.rpc_url,), self.chain.contract_address, (), DEPTH, 0
        )
        settings = Settings(head_poll_seconds=0.05)
        follower = ChainFollower(chain, self.node, self.log, PARTITION, settings)
        self.tasks.append(asyncio.create_task(follower.run()))
        return follower

    async def stop(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.tasks.clear()

    async def records(self) -> list[Record]:
        return [
            EVM_EVENTS.decode(m.value, Position(m.topic, m.partition, m.offset))
            async for _, messages in self.log.replay(EVM_EVENTS, {PARTITION: 0})
            for m in messages
            if m.key == str(CHAIN_ID).encode()
        ]

    async def facts(self, kind: type[Fact]) -> list:
        return [record.fact for record in await self.records() if isinstance(record.fact, kind)]


@pytest_asyncio.fixture
async def outside(stack: EmbeddedStack) -> AsyncIterator[Outside]:
    chain = stack.chains[CHAIN_ID]
    await chain.pause_mining()
    world = Outside(
        stack,
        EvmNode(CHAIN_ID, [chain.rpc_url]),
        KafkaLog(stack.kafka.access, "tests", "ingestion"),
        LocalWallet(stack.wallets.relayers[CHAIN_ID][0]),
    )
    yield world
    await world.stop()
    await world.node.close()


class Requests:
    """The core's fold over what `evm.events` reports, doing at once whatever fact is owed."""

    def __init__(self, contract: str) -> None:
        self.states: dict[str, RequestState] = {}
        chain = ChainTerms(CHAIN_ID, contract, ("0x" + "11" * 20,))
        self._terms = Terms({CHAIN_ID: chain}, 86_400)

    def read(self, record: Record) -> None:
        [fact] = reported(record) or [None]
        while fact is not None:
            state, _ = evolve(self.states.get(fact.request_key), Record(fact, record.at))
            if state is None:
                return
            self.states[state.key] = state
            owed = pending(state, self._terms)
            fact = owed.fact if isinstance(owed, Append) and owed.topic is REQUESTS else None


async def test_reorganisations_within_and_beyond_the_depth(outside: Outside) -> None:
    contract = outside.chain.contract_address
    await outside.mint("kept")
    await outside.mine(6)
    follower = outside.follow()
    await outside.stack.holders.request_redeem(CHAIN_ID, 10)
    await outside.mine()
    await outside.mint("lost")
    await outside.mine(DEPTH)
    top = await outside.chain.block_number()
    await until(lambda: follower.last_block == top - DEPTH, 20)
    events = await outside.facts(ContractEvent)
    assert [event.request_id for event in events if event.event is EventName.MINTED] == [
        "kept",
        "lost",
    ]
    before = len(await outside.records())

    await outside.chain.reorganise(DEPTH)
    await asyncio.sleep(0.5)
    await until(lambda: follower.reason is None)
    assert len(await outside.records()) == before, "within the depth nothing is written"

    await outside.chain.reorganise(5)
    await outside.mint("new chain")
    await outside.mine(DEPTH + 1)
    await until(lambda: follower.halted is not None, 20)
    [halt] = await outside.facts(ChainHalted)
    assert "deeper than 2 confirmations; 2 events" in halt.reason
    gone = {(fact.event, fact.request_id) for fact in await outside.facts(EventRetracted)}
    redeem_id = next(e.request_id for e in events if e.event is EventName.REDEEM_REQUESTED)
    assert gone == {(EventName.REDEEM_REQUESTED, redeem_id), (EventName.MINTED, "lost")}

    written = len(await outside.records())
    await outside.stop()
    follower = outside.follow()
    await until(lambda: follower.halted is not None, 20)
    await asyncio.sleep(1.5)
    assert len(await outside.records()) == written, "halted, also after a restart"
    assert follower.reason == halt.reason

    requests = Requests(contract)
    for request_id in ("kept", "lost"):
        mint = MintOk(
            request_id=request_id,
            user=outside.stack.holders.address,
            amount="1000",
            fiat_ref="f",
            chain_id=CHAIN_ID,
            timestamp_ms=1,
            via=Via.REST,
        )
        requests.read(Record(mint, instant(1_700_000_000), Position("kuro.events", 0, 0)))
    seen: list[Stage] = []
    for record in await outside.records():
        requests.read(record)
        seen.append(requests.states["lost"].stage)
    assert Stage.COMPLETED in seen
    assert requests.states["kept"].stage is Stage.COMPLETED
    assert requests.states[f"redeem:{CHAIN_ID}:{redeem_id}"].stage is Stage.RETRACTED
    lost = requests.states["lost"]
    assert lost.stage is Stage.DRAFTED, "back to work, with the same approval"
    assert isinstance(lost.drafted, ApprovalDrafted)
    assert lost.attempt == 2

    writer = KafkaWriter(outside.stack.kafka.access, "operator")
    await writer.start()
    wrong = ChainResumed(chain_id=CHAIN_ID, halt="halted:other", who="ops", why="a stale one")
    right = ChainResumed(chain_id=CHAIN_ID, halt=halt.id, who="ops", why="looked at it")
    await writer.append(EVM_EVENTS, [wrong])
    await asyncio.sleep(1.5)
    assert follower.halted is not None
    await writer.append(EVM_EVENTS, [right])
    await writer.close()
    top = await outside.chain.block_number()
    await until(lambda: follower.last_block == top - DEPTH and follower.reason is None, 20)
    facts = [record.fact for record in await outside.records()]
    later = facts[facts.index(right) + 1 :]
    assert [fact.request_id for fact in later if isinstance(fact, ContractEvent)] == ["new chain"]
    marks = [fact for fact in later if isinstance(fact, BlocksFollowed)]
    assert marks[0].from_block == halt.fork_block + 1


async def test_catching_up_on_a_real_node(outside: Outside) -> None:
    """Thousands of blocks at once; the rate is printed."""
    follower = outside.follow()
    top = await outside.chain.block_number()
    await until(lambda: follower.last_block == top - DEPTH and follower.reason is None, 20)
    await outside.stop()
    await outside.chain.mine(2_000)
    started = time.monotonic()
    follower = outside.follow()
    await until(lambda: follower.last_block == top + 2_000 - DEPTH, 40)
    seconds = time.monotonic() - started
    print(f"\nanvil: 2000 blocks in {seconds:.2f} s, {2000 / seconds:.0f} blocks/s")
    assert follower.head_lag == 0
    marks = await outside.facts(BlocksFollowed)
    assert marks[-1].to_block == top + 2_000 - DEPTH
