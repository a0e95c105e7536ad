"""Lanes on a real chain and a real log, blocks mined by hand; a wallet for each test."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import replace

from pydantic import SecretStr

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.adapters.kafka_ends import KafkaEnds
from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter, partition_of
from orchestrator.adapters.wallets import LocalWallet
from orchestrator.config import ChainConfig, Settings
from orchestrator.core.chain import Head
from orchestrator.core.contract import Approval
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, approval_nonce
from orchestrator.core.signatures import normalise
from orchestrator.dev.chains import Chain
from orchestrator.dev.kms_keys import ensure_approver_key
from orchestrator.dev.stack import REGION, EmbeddedStack
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import SignedTransaction, UnsignedTransaction
from schemas.base import RequestType
from schemas.lanes import LaneFact, RelayRequested
from schemas.topics import LANES
from streams.controls import Controls
from streams.lane_owner import LaneOwner

CHAIN_ID = 5920
HOLDER = "0x00000000000000000000000000000000000A11CE"
GWEI = 10**9
PATIENCE_SECONDS = 90


class LossyNode(EvmNode):
    """Nodes take what is sent; the answers of the first `lost` broadcasts never arrive."""

    lost = 0
    on_lost: Callable[[], object] | None = None

    async def send_raw(self, raws):
        answers = await super().send_raw(raws)
        if self.lost:
            self.lost -= 1
            if self.on_lost is not None:
                await self.on_lost()
            return [RpcError(RpcProblem.UNAVAILABLE, "no answer")] * len(raws)
        return answers


class OldNode(EvmNode):
    """A chain without a base fee: its headers name none."""

    async def head(self) -> Head:
        return replace(await super().head(), base_fee_wei=None)


class Bench:
    """One lane: its owner runs until `stop`, and `start` makes a new one from the log."""

    def __init__(self, stack: EmbeddedStack, key: str, node=EvmNode, others=(), **settings) -> None:
        self.chain: Chain = stack.chains[CHAIN_ID]
        self.wallet = LocalWallet(key)
        self.approver = ensure_approver_key(stack.kms.folder / "keys.json", REGION)
        self.settings = Settings(
            confirmations=2, head_poll_seconds=0.05, replace_after_blocks=2, **settings
        )
        self.config = ChainConfig(
            chain_id=CHAIN_ID,
            rpc_urls=(self.chain.rpc_url,),
            contract=self.chain.contract_address,
            wallets=(self.wallet.address, *others),
            confirmations=2,
            start_block=0,
            private_keys=(SecretStr(key),),
        )
        self.node = node(CHAIN_ID, [self.chain.rpc_url])
        self.log = KafkaLog(stack.kafka.access, "lanes-test", "lanes-test")
        self.writer = KafkaWriter(stack.kafka.access, "lanes-test")
        self.partition = partition_of(LANES, f"{CHAIN_ID}:{self.wallet.address}")
        self.ends = KafkaEnds(stack.kafka.access, "lanes-test")
        self.controls = Controls(self.log, self.ends)
        self.controlling: asyncio.Task[None]
        self.owner: LaneOwner
        self.task: asyncio.Task[None]

    async def start(self) -> None:
        self.owner = LaneOwner(
            self.config,
            self.wallet,
            self.node,
            self.log,
            self.partition,
            self.settings,
            self.controls,
        )
        self.task = asyncio.create_task(self.owner.run())
        await self.until(lambda: self.owner.state.next_nonce is not None, "open")

    async def stop(self) -> None:
        self.task.cancel()
        await asyncio.wait({self.task})

    async def __aenter__(self) -> Bench:
        await self.writer.start()
        self.controlling = asyncio.create_task(self.controls.run())
        self.controls.hear(lambda _: self.owner.hurry())
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()
        self.controlling.cancel()
        await asyncio.wait({self.controlling})
        await self.writer.close()
        await self.ends.close()
        await self.node.close()

    async def relay(self, *names: str, seconds: int = 3600) -> list[RelayRequested]:
        requests = []
        for name in names:
            approval = Approval(
                type=RequestType.MINT,
                chain_id=CHAIN_ID,
                contract=self.config.contract,
                request_id=name,
                account=HOLDER,
                amount=5,
                nonce=approval_nonce(name),
                deadline=int(time.time()) + seconds,
            )
            hashed = ORCHESTRATOR.digest(approval)
            der = self.approver.sign_digest(bytes.fromhex(hashed[2:]), "ECDSA_SHA_256")
            signature = normalise(der, hashed, self.approver.address)
            requests.append(
                RelayRequested(
                    chain_id=CHAIN_ID,
                    wallet=self.wallet.address,
                    request_key=name,
                    request_id=name,
                    attempt=1,
                    contract=self.config.contract,
                    data=ORCHESTRATOR.calldata(approval, signature),
                    deadline=approval.deadline,
                )
            )
        await self.writer.append(LANES, requests)
        for request in requests:
            self.owner.offer(request)
        return requests

    async def outsider(self, nonce: int, fee_gwei: int = 400) -> SignedTransaction:
        """Somebody else uses the wallet's key."""
        signed = self.wallet.sign(
            UnsignedTransaction(
                CHAIN_ID, nonce, HOLDER, "0x", 30_000, fee_gwei * GWEI, fee_gwei * GWEI
            )
        )
        await self.chain.rpc("eth_sendRawTransaction", signed.raw)
        return signed

    async def facts(self, kind: type[LaneFact] | None = None) -> list[LaneFact]:
        found = []
        async for _, messages in self.log.replay(LANES, {self.partition: 0}):
            for message in messages:
                fact = LANES.decode(message.value).fact
                if fact.key == self.owner.key and (kind is None or isinstance(fact, kind)):
                    found.append(fact)
        return found

    async def mine(self, blocks: int = 1) -> None:
        """One by one, so that the lane sees each head."""
        for _ in range(blocks):
            await self.chain.rpc("evm_mine")
            await asyncio.sleep(0.15)

    async def until(self, condition, what: str, mining: bool = False) -> None:
        end = time.monotonic() + PATIENCE_SECONDS
        while not condition():
            story = (
                what,
                self.owner.reason,
                list(self.owner.state.slots),
                self.owner.state.waiting,
            )
            assert time.monotonic() < end, story
            assert not self.task.done(), self.task.exception()
            if mining:
                await self.chain.rpc("evm_mine")
            await asyncio.sleep(0.1)

    async def broadcast(self, count: int) -> None:
        """So many transactions are out and acknowledged."""

        def out() -> bool:
            slots = self.owner.state.slots.values()
            return sum(slot.newest.tx_hash in slot.broadcast for slot in slots) == count

        await self.until(out, f"{count} out")

    async def settled(self, *names: str) -> None:
        """All of these came to their end, and nothing is open."""

        def done() -> bool:
            state = self.owner.state
            over = {name.partition(":")[0] for name in state.settled}
            return over >= set(names) and not state.slots and not state.waiting

        await self.until(done, f"settled {names}", mining=True)
        await self.minted_once(*names)

    async def minted_once(self, *names: str) -> None:
        last = (await self.node.head()).number
        logs = await self.node.logs(self.config.contract, list(ORCHESTRATOR.event_topics), 0, last)
        told = [ORCHESTRATOR.decode_event(log.topics, log.data, "").request_id for log in logs]
        assert {name: told.count(name) for name in names} == dict.fromkeys(names, 1)
