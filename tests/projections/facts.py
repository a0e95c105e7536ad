"""Facts for tests: whole lives of requests, as records in log order, and logs of raw records."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from zlib import crc32

from orchestrator.core.keys import mint_key, redeem_key
from projections.fold import RawRecord
from schemas.base import Fact, Record, RequestType, encode_value, instant
from schemas.evm import BlocksFollowed, EventName, SupplyCompared
from schemas.kuro import MintOk, Via
from schemas.lanes import (
    LaneFact,
    LaneHalted,
    RelayRefusal,
    RelayRequested,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionPrepared,
)
from schemas.requests import (
    ApprovalDrafted,
    ApprovalSigned,
    EvidenceReported,
    InclusionReported,
    RefusalReported,
    RelayAssigned,
    RequestCompleted,
    RequestFact,
    RequestReceived,
    RequestRejected,
    SubmissionReported,
)
from schemas.topics import TOPICS

START = 1_760_000_000
CHAIN = 5920
USER = "0x52908400098527886E0F7030069857D2E4169EE7"
WALLET = "0x8617E340B3D01FA5F11F306F4090FD50E238070D"
CONTRACT = "0xde709f2102306220921060314715629080e2fb77"


def digest(*parts: object) -> str:
    """A 32-byte hash-like hex text from anything."""
    text = ":".join(map(str, parts))
    return "0x" + "".join(f"{crc32(f'{text}{number}'.encode()):08x}" for number in range(8))


def received(
    request_id: str,
    *,
    chain_id: int = CHAIN,
    type: RequestType = RequestType.MINT,
    user: str = USER,
    amount: str = "1000000000000000000",
    fiat_ref: str | None = None,
) -> RequestReceived:
    minted = type is RequestType.MINT
    return RequestReceived(
        request_key=mint_key(request_id) if minted else redeem_key(chain_id, request_id),
        request_id=request_id,
        type=type,
        chain_id=chain_id,
        user=user,
        amount=amount,
        fiat_ref=fiat_ref,
        origin="kuro.events/0/0",
    )


def mint_ok(request_id: str) -> MintOk:
    return MintOk(
        request_id=request_id,
        user=USER,
        amount="1000000000000000000",
        fiat_ref=f"fiat-{request_id}",
        chain_id=CHAIN,
        timestamp_ms=START * 1000,
        via=Via.SOCKET,
    )


def to_signed(key: str, attempt: int = 1) -> list[RequestFact]:
    sealed = digest(key, "digest", attempt)
    return [
        ApprovalDrafted(
            request_key=key,
            attempt=attempt,
            contract=CONTRACT,
            approval_nonce=2**200,
            deadline=START + 86_400,
            digest=sealed,
        ),
        ApprovalSigned(
            request_key=key, attempt=attempt, digest=sealed, signature="0x" + "ab" * 65, signer=USER
        ),
    ]


def to_submitted(key: str, attempt: int = 1) -> list[RequestFact]:
    return [
        *to_signed(key, attempt),
        RelayAssigned(request_key=key, attempt=attempt, wallet=WALLET),
        SubmissionReported(
            request_key=key,
            attempt=attempt,
            wallet=WALLET,
            nonce=7,
            tx_hash=digest(key, "tx", attempt),
        ),
    ]


def included(key: str, attempt: int = 1) -> InclusionReported:
    return InclusionReported(
        request_key=key,
        attempt=attempt,
        tx_hash=digest(key, "tx", attempt),
        block_number=100,
        block_hash=digest("block", 100),
        succeeded=True,
    )


def evidence(key: str, event: EventName = EventName.MINTED, log_index: int = 0) -> EvidenceReported:
    return EvidenceReported(
        request_key=key,
        chain_id=CHAIN,
        event=event,
        account=USER,
        amount=10**18,
        tx_hash=digest(key, "evidence"),
        block_number=100,
        block_hash=digest("block", 100),
        log_index=log_index,
    )


def refused(key: str, reason: RelayRefusal = RelayRefusal.REVERTED) -> RefusalReported:
    return RefusalReported(
        request_key=key,
        attempt=1,
        reason=reason,
        detail="Stablecoin: paused",
        block_number=101,
        block_timestamp=START,
    )


def rejected(key: str) -> RequestRejected:
    return RequestRejected(
        request_key=key, reason="INVALID_ADDRESS", detail="'nobody' is no address"
    )


def followed(chain_id: int, block: int) -> BlocksFollowed:
    return BlocksFollowed(
        chain_id=chain_id,
        from_block=block,
        to_block=block,
        to_hash=digest("block", block),
        to_timestamp=START + block,
    )


def compared(chain_id: int, block: int, *, total: int, by_events: int) -> SupplyCompared:
    return SupplyCompared(
        chain_id=chain_id,
        contract=CONTRACT,
        block_number=block,
        block_hash=digest("block", block),
        block_timestamp=START + block,
        total_supply=total,
        by_events=by_events,
    )


def whole_life(request_id: str, **more: object) -> list[RequestFact]:
    """RECEIVED to COMPLETED: eight facts."""
    first = received(request_id, **more)  # type: ignore[arg-type]
    key = first.request_key
    event = EventName.MINTED if first.type is RequestType.MINT else EventName.REDEEMED
    proof = evidence(key, event)
    ending = RequestCompleted(
        request_key=key, seat=proof.seat, tx_hash=proof.tx_hash, block_number=100
    )
    return [first, *to_submitted(key), included(key), proof, ending]


def topic_of(fact: Fact) -> str:
    return next(name for name, topic in TOPICS.items() if fact.kind in topic.kinds)


def partition_of(fact: Fact) -> int:
    return crc32(fact.key.encode()) % TOPICS[topic_of(fact)].partitions


SEAT = {"chain_id": CHAIN, "wallet": WALLET}


def relay_of(request_id: str, attempt: int = 1, assignment: int = 1) -> RelayRequested:
    return RelayRequested(
        **SEAT,
        request_key=request_id,
        request_id=request_id,
        attempt=attempt,
        assignment=assignment,
        contract=CONTRACT,
        data="0x01020304",
        deadline=START + 86_400,
    )


def prepared(
    nonce: int, relay: str | None, version: int = 0, block: int | None = None
) -> TransactionPrepared:
    """Version 1 replaces version 0, and so on."""
    return TransactionPrepared(
        **SEAT,
        nonce=nonce,
        relay=relay,
        tx_hash=digest("sent", nonce, version),
        replaces=digest("sent", nonce, version - 1) if version else None,
        raw="0x02",
        gas_limit=100_000,
        max_fee_per_gas_wei=2**70 + version,
        max_priority_fee_per_gas_wei=1 + version,
        block_number=block,
    )


def broadcast(
    nonce: int, relay: str | None, version: int = 0, block: int | None = None
) -> TransactionBroadcast:
    return TransactionBroadcast(
        **SEAT, nonce=nonce, relay=relay, tx_hash=digest("sent", nonce, version), block_number=block
    )


def mined(nonce: int, relay: str | None, block: int, version: int = 0) -> TransactionIncluded:
    return TransactionIncluded(
        **SEAT,
        nonce=nonce,
        relay=relay,
        tx_hash=digest("sent", nonce, version),
        block_number=block,
        block_hash=digest("block", block),
        succeeded=True,
        gas_used=90_000,
    )


def final(
    nonce: int, relay: str | None, block: int, version: int = 0, succeeded: bool = True
) -> TransactionFinal:
    return TransactionFinal(
        **SEAT,
        nonce=nonce,
        relay=relay,
        tx_hash=digest("sent", nonce, version),
        block_number=block,
        block_hash=digest("block", block),
        succeeded=succeeded,
    )


def lane_story() -> list[LaneFact]:
    """Nonce 7: a transaction and its replacement, final; nonce 8 in flight; the lane halted."""
    seat = {"chain_id": CHAIN, "wallet": WALLET}
    fees = {
        "raw": "0x02",
        "gas_limit": 100,
        "max_fee_per_gas_wei": 2**70,
        "max_priority_fee_per_gas_wei": 1,
    }
    first, second, third = (digest("sent", number) for number in range(3))
    return [
        TransactionPrepared(**seat, nonce=7, relay="m-1:1", tx_hash=first, **fees),
        TransactionBroadcast(**seat, nonce=7, relay="m-1:1", tx_hash=first),
        TransactionPrepared(**seat, nonce=7, relay="m-1:1", tx_hash=second, replaces=first, **fees),
        TransactionFinal(
            **seat,
            nonce=7,
            relay="m-1:1",
            tx_hash=second,
            block_number=90,
            block_hash=first,
            succeeded=True,
        ),
        TransactionPrepared(**seat, nonce=8, tx_hash=third, **fees),
        LaneHalted(**seat, reason="another key holder", chain_nonce=9, log_nonce=8),
    ]


class MemoryLog:
    """Gives facts their positions, as Kafka would, and remembers where each partition ends."""

    def __init__(self) -> None:
        self.ends: defaultdict[tuple[str, int], int] = defaultdict(int)
        self.clock = START

    def raw(self, topic: str, partition: int, value: bytes | None) -> RawRecord:
        offset = self.ends[topic, partition]
        self.ends[topic, partition] += 1
        return RawRecord(topic, partition, offset, value)

    def append(self, facts: Iterable[Fact]) -> list[RawRecord]:
        """A second passes with every fact."""
        records = []
        for fact in facts:
            self.clock += 1
            value = encode_value(Record(fact, instant(self.clock)))
            records.append(self.raw(topic_of(fact), partition_of(fact), value))
        return records
