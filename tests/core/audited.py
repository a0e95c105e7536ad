"""A small world for audits: a log in memory, a chain in memory, and a clean story on both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from eth_abi.abi import encode
from eth_account import Account
from eth_keys.main import KeyAPI

from orchestrator.auditing.reading import ChainToAudit, Run, read_chains, read_log
from orchestrator.core.auditing.checking import Audit
from orchestrator.core.auditing.findings import Findings
from orchestrator.core.auditing.lanes import Mined
from orchestrator.core.auditing.profile import Ways
from orchestrator.core.chain import Head
from orchestrator.core.contract import Approval
from orchestrator.core.keys import redeem_key
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.ports import Call, Log
from schemas.base import Fact, Record, RequestType, encode_value, instant
from schemas.evm import BlocksFollowed, ContractEvent, EventName
from schemas.kuro import MintOk, Via
from schemas.lanes import (
    LaneOpened,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionPrepared,
)
from schemas.requests import (
    ApprovalDrafted,
    ApprovalSigned,
    RelayAssigned,
    RequestCompleted,
    RequestReceived,
)
from schemas.topics import TOPICS, Topic

CHAIN = 5920
CONTRACT = "0xde709f2102306220921060314715629080e2fb77"
USER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
OTHER = "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359"
START = 1_800_000_000
TOKEN = 10**18
FINAL = 50
KEY = KeyAPI().PrivateKey(b"\x11" * 32)
SIGNER = KEY.public_key.to_checksum_address()
WALLET = Account.from_key(b"\x22" * 32)
SEAT = {"chain_id": CHAIN, "wallet": WALLET.address}
TOPIC_OF = {name.value: topic for topic, name in ORCHESTRATOR.event_topics.items()}


def word(number: int) -> str:
    return f"0x{number:032x}{number:032x}"


def block_hash(number: int) -> str:
    return word(0xB10C_0000 + number)


@dataclass(frozen=True)
class Message:
    topic: str
    partition: int
    offset: int
    key: bytes | None
    value: bytes | None


@dataclass
class World:
    """`log` by topic: facts, or raw bytes, in the order of their appending."""

    log: dict[str, list[Fact | bytes]] = field(default_factory=dict)
    chain_logs: list[Log] = field(default_factory=list)
    mined: dict[str, Mined] = field(default_factory=dict)
    nonce: int = 0
    supply: int = 0
    head_hash: str = block_hash(FINAL)
    ages: dict[int, int] = field(default_factory=dict)

    chain_id: int = CHAIN

    def append(self, *facts: Fact | bytes, topic: str | None = None) -> None:
        for fact in facts:
            name = topic or next(n for n, t in TOPICS.items() if fact.kind in t.kinds)  # type: ignore[union-attr]
            self.log.setdefault(name, []).append(fact)

    def find(self, kind: type[Fact], number: int = 0) -> Any:
        everything = [fact for facts in self.log.values() for fact in facts]
        return [fact for fact in everything if isinstance(fact, kind)][number]

    def replace(self, old: Fact, new: Fact | None) -> None:
        for facts in self.log.values():
            for index, fact in enumerate(facts):
                if fact is old:
                    facts[index : index + 1] = [] if new is None else [new]
                    return
        raise AssertionError("not on the log")

    async def replay(
        self, topic: Topic, starts: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, Sequence[Message]]]:
        pages: dict[int, list[Message]] = {}
        for fact in self.log.get(topic.name, []):
            if isinstance(fact, bytes):
                key, value = b"", fact
            else:
                at = START + self.ages.get(id(fact), 0)
                key, value = fact.key.encode(), encode_value(Record(fact, instant(at)))
            page = pages.setdefault(crc32(key) % topic.partitions, [])
            page.append(Message(topic.name, crc32(key) % topic.partitions, len(page), key, value))
        for number in starts:
            if number in pages:
                yield number, pages[number]

    async def check_chain(self) -> None: ...

    async def close(self) -> None: ...

    async def block(self, number: int) -> Head | None:
        shown = self.head_hash if number == FINAL else block_hash(number)
        return Head(number, shown, block_hash(number - 1), START, 1)

    async def logs(
        self, contract: str, topics: Sequence[str], first: int, last: int, *, again: int = 0
    ) -> list[Log]:
        return [log for log in self.chain_logs if first <= log.block_number <= last]

    async def transaction_count(self, address: str, block: int | None = None) -> int:
        return self.nonce if address == WALLET.address else 0

    async def transactions(self, tx_hashes: Sequence[str]) -> list[Mined | None]:
        return [self.mined.get(tx_hash) for tx_hash in tx_hashes]

    async def call(self, call: Call, block: int | None = None) -> str:
        return "0x" + encode(["uint256"], [self.supply]).hex()

    def happen(
        self, event: EventName, request_id: str, account: str, amount: int, block: int
    ) -> ContractEvent:
        """On the chain; the fact is the caller's to append."""
        index = len(self.chain_logs)
        tx_hash = word(0x7A_0000 + index)
        data = "0x" + encode(["string", "uint256"], [request_id, amount]).hex()
        self.chain_logs.append(
            Log(
                CONTRACT,
                (TOPIC_OF[event.value], "0x" + "0" * 24 + account[2:].lower()),
                data,
                block,
                block_hash(block),
                tx_hash,
                index,
            )
        )
        self.supply += {"Minted": amount, "Redeemed": -amount}.get(event.value, 0)
        return ContractEvent(
            chain_id=CHAIN,
            block_number=block,
            block_hash=block_hash(block),
            block_timestamp=START,
            tx_hash=tx_hash,
            log_index=index,
            contract=CONTRACT,
            event=event,
            request_id=request_id,
            account=account,
            amount=amount,
        )

    def transact(self, relay: str | None) -> list[Fact]:
        """A transaction of the wallet, mined and final: its facts."""
        nonce, self.nonce = self.nonce, self.nonce + 1
        signed = WALLET.sign_transaction(
            {
                "type": 2,
                "chainId": CHAIN,
                "nonce": nonce,
                "to": "0x" + "00" * 20,
                "value": 0,
                "gas": 21_000,
                "maxFeePerGas": 1,
                "maxPriorityFeePerGas": 1,
            }
        )
        tx_hash = "0x" + bytes(signed.hash).hex()
        seat = {**SEAT, "nonce": nonce, "relay": relay, "tx_hash": tx_hash}
        block = {"block_number": 20 + nonce, "block_hash": block_hash(20 + nonce)}
        self.mined[tx_hash] = Mined(tx_hash, WALLET.address, nonce, *block.values())
        return [
            TransactionPrepared(
                **seat,
                raw="0x" + bytes(signed.raw_transaction).hex(),
                gas_limit=21_000,
                max_fee_per_gas_wei=1,
                max_priority_fee_per_gas_wei=1,
            ),
            TransactionBroadcast(**seat),
            TransactionIncluded(**seat, **block, succeeded=True, gas_used=1),
            TransactionFinal(**seat, **block, succeeded=True),
        ]


def mint_ok(request_id: str, fiat_ref: str | None = None, **fields: Any) -> MintOk:
    shape: dict[str, Any] = {"user": USER, "amount": str(TOKEN), "chain_id": CHAIN, **fields}
    return MintOk(
        request_id=request_id,
        fiat_ref=f"wire-{request_id}" if fiat_ref is None else fiat_ref,
        timestamp_ms=START,
        via=Via.SOCKET,
        **shape,
    )


def approval_facts(received: RequestReceived) -> list[Fact]:
    key, nonce = received.request_key, ORCHESTRATOR.derived_nonce(received.request_key)
    what = (received.user, int(received.amount), nonce, START + 86_400)
    due = ORCHESTRATOR.digest(Approval(received.type, CHAIN, CONTRACT, received.request_id, *what))
    signature = KEY.sign_msg_hash(bytes.fromhex(due[2:]))
    vrs = signature.r.to_bytes(32, "big") + signature.s.to_bytes(32, "big")
    return [
        ApprovalDrafted(
            request_key=key,
            attempt=1,
            contract=CONTRACT,
            approval_nonce=nonce,
            deadline=START + 86_400,
            digest=due,
        ),
        ApprovalSigned(
            request_key=key,
            attempt=1,
            digest=due,
            signature="0x" + vrs.hex() + f"{27 + signature.v:02x}",
            signer=SIGNER,
        ),
        RelayAssigned(request_key=key, attempt=1, wallet=WALLET.address),
    ]


def completed(key: str, event: ContractEvent) -> RequestCompleted:
    return RequestCompleted(
        request_key=key, seat=event.seat, tx_hash=event.tx_hash, block_number=event.block_number
    )


def mint(world: World, request_id: str, amount: int = TOKEN, **kuro: Any) -> ContractEvent:
    """A mint from Kuro to its completion."""
    allowed = mint_ok(request_id, amount=str(amount), **kuro)
    received = RequestReceived(
        request_key=request_id,
        request_id=request_id,
        type=RequestType.MINT,
        chain_id=CHAIN,
        user=USER,
        amount=str(amount),
        fiat_ref=allowed.fiat_ref,
        origin="kuro.events/0/0",
    )
    event = world.happen(EventName.MINTED, request_id, USER, amount, 20)
    world.append(allowed, received, *approval_facts(received))
    world.append(*world.transact(f"{request_id}:1"), event, completed(request_id, event))
    return event


def redeem(world: World, request_id: str, amount: int) -> ContractEvent:
    asked = world.happen(EventName.REDEEM_REQUESTED, request_id, USER, amount, 30)
    key = redeem_key(CHAIN, request_id)
    received = RequestReceived(
        request_key=key,
        request_id=request_id,
        type=RequestType.REDEEM,
        chain_id=CHAIN,
        user=USER,
        amount=str(amount),
        origin="evm.events/0/0",
        origin_event=asked.seat,
    )
    event = world.happen(EventName.REDEEMED, request_id, USER, amount, 31)
    world.append(asked, received, *approval_facts(received), *world.transact(f"{key}:1"))
    world.append(event, completed(key, event))
    return event


def clean_world() -> World:
    """Two mints and a redemption, followed to block 50."""
    world = World()
    world.append(LaneOpened(**SEAT, first_nonce=0))
    mint(world, "m-1")
    mint(world, "m-2", 2 * TOKEN)
    redeem(world, "redeem-1", TOKEN // 2)
    for first, last in ((0, 40), (41, FINAL)):
        world.append(
            BlocksFollowed(
                chain_id=CHAIN,
                from_block=first,
                to_block=last,
                to_hash=block_hash(last),
                to_timestamp=START,
            )
        )
    return world


async def audited(
    world: World, *, offline: bool = False, at_blocks: dict[int, int] | None = None
) -> tuple[Audit, Run]:
    """Everything is read as the command reads it; old facts, so that nothing counts as new."""
    world.ages.setdefault(id(world.find(BlocksFollowed, -1)), 10_000)
    audit = Audit({CHAIN: Ways()}, at_blocks=at_blocks, signers=frozenset({SIGNER}))
    run = Run()
    await read_log(audit, world, run, lambda *_: None)
    node = None if offline else world
    chain = ChainToAudit(CHAIN, CONTRACT, (WALLET.address,), 0, node)
    await read_chains(audit, {CHAIN: chain}, run, lambda *_: None)
    return audit, run


def kinds(findings: Findings) -> dict[str, int]:
    return {str(kind): count for kind, count in sorted(findings.counts.items()) if count}
