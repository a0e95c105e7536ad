"""A log with a past: completed mints as the service would have left them, without the hours.

One request's facts are made by their own models, then told again under other ids and hashes. The
chain is not asked about them: a completed request owes nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from aiokafka import TopicPartition

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.kafka_access import KafkaAccess
from schemas.base import Record, RequestType, encode_headers, encode_value
from schemas.evm import ContractEvent, EventName
from schemas.kuro import MintOk, Via
from schemas.requests import (
    ApprovalDrafted,
    ApprovalSigned,
    EvidenceReported,
    InclusionReported,
    RelayAssigned,
    RequestCompleted,
    RequestFact,
    RequestReceived,
    SubmissionReported,
)
from schemas.topics import EVM_EVENTS, KURO_EVENTS, LANES, REQUESTS, Topic

FACTS_PER_REQUEST = 8
_AT = "2026-01-01T00:00:00.000Z"
_KEY = "past-00000000"
_HASH = "0x" + "d" * 56 + "00000000"
_ADDRESS = "0x00000000000000000000000000000000000A11CE"


def life(chain_id: int = 5920) -> list[RequestFact]:
    """All facts of one completed mint on `requests`."""
    seat = f"{chain_id}:{_HASH}:0"
    return [
        RequestReceived(
            request_key=_KEY,
            request_id=_KEY,
            type=RequestType.MINT,
            chain_id=chain_id,
            user=_ADDRESS,
            amount=str(10**18),
            fiat_ref="wire-1",
            origin="kuro.events/0/0",
        ),
        ApprovalDrafted(
            request_key=_KEY,
            attempt=1,
            contract=_ADDRESS,
            approval_nonce=2**255,
            deadline=1_900_000_000,
            digest=_HASH,
        ),
        ApprovalSigned(
            request_key=_KEY,
            attempt=1,
            digest=_HASH,
            signature="0x" + "1b" * 65,
            signer=_ADDRESS,
        ),
        RelayAssigned(request_key=_KEY, attempt=1, wallet=_ADDRESS),
        SubmissionReported(request_key=_KEY, attempt=1, wallet=_ADDRESS, nonce=1, tx_hash=_HASH),
        InclusionReported(
            request_key=_KEY,
            attempt=1,
            tx_hash=_HASH,
            block_number=1,
            block_hash=_HASH,
            succeeded=True,
        ),
        EvidenceReported(
            request_key=_KEY,
            chain_id=chain_id,
            event=EventName.MINTED,
            account=_ADDRESS,
            amount=10**18,
            tx_hash=_HASH,
            block_number=1,
            block_hash=_HASH,
            log_index=0,
        ),
        RequestCompleted(request_key=_KEY, seat=seat, tx_hash=_HASH, block_number=1),
    ]


def values(requests: int, chain_id: int = 5920) -> Iterator[tuple[str, list[bytes]]]:
    """By request key, the encoded facts of each request, in order."""
    return _retold([encode_value(Record(fact, _AT)) for fact in life(chain_id)], requests)


def _retold(template: list[bytes], requests: int) -> Iterator[tuple[str, list[bytes]]]:
    for number in range(requests):
        key = f"past-{number:08d}"
        old, new = (_KEY.encode(), key.encode())
        hashes = (_HASH.encode(), _HASH[:-8].encode() + f"{number:08x}".encode())
        yield key, [value.replace(old, new).replace(*hashes) for value in template]


async def write(kafka: KafkaAccess, requests: int, chain_id: int = 5920) -> int:
    """Append the past of so many requests; how many facts that is."""
    headers = [encode_headers(Record(fact, _AT))[:2] for fact in life()]
    items = (
        (key, value, about)
        for key, facts in values(requests, chain_id)
        for value, about in zip(facts, headers, strict=True)
    )
    return await _append(kafka, REQUESTS, items)


async def write_grounds(kafka: KafkaAccess, requests: int, chain_id: int) -> int:
    """Append what the conservation gate reads of so many requests: Kuro's fact of each, and its
    mint, on a chain that nobody follows: no contract's supply is compared with these."""
    allowed = MintOk(
        request_id=_KEY,
        user=_ADDRESS,
        amount=str(10**18),
        fiat_ref="wire-1",
        chain_id=chain_id,
        timestamp_ms=1,
        via=Via.SOCKET,
    )
    minted = ContractEvent(
        chain_id=chain_id,
        block_number=1,
        block_hash=_HASH,
        block_timestamp=1,
        tx_hash=_HASH,
        log_index=0,
        contract=_ADDRESS,
        event=EventName.MINTED,
        request_id=_KEY,
        account=_ADDRESS,
        amount=10**18,
    )
    count = 0
    for topic, fact in ((KURO_EVENTS, allowed), (EVM_EVENTS, minted)):
        record = Record(fact, _AT)
        about = encode_headers(record)[:2]
        items = (
            (fact.key if topic is EVM_EVENTS else key, raws[0], about)
            for key, raws in _retold([encode_value(record)], requests)
        )
        count += await _append(kafka, topic, items)
    return count


async def _append(kafka: KafkaAccess, topic: Topic, items: Iterable[tuple[str, bytes, Any]]) -> int:
    producer = kafka.producer(acks="all", max_batch_size=900_000, linger_ms=0)
    await producer.start()
    batches = {number: producer.create_batch() for number in range(topic.partitions)}
    count = 0
    for key, value, about in items:
        seat = partition_of(topic, key)
        item = {"timestamp": None, "key": key.encode(), "value": value, "headers": about}
        if batches[seat].append(**item) is None:
            await producer.send_batch(batches[seat], topic.name, partition=seat)
            batches[seat] = producer.create_batch()
            batches[seat].append(**item)
        count += 1
    for seat, batch in batches.items():
        if batch.record_count():
            await producer.send_batch(batch, topic.name, partition=seat)
    await producer.stop()
    return count


async def commit_all(kafka: KafkaAccess, groups: list[str]) -> None:
    """As if these consumer groups had read everything, as they have when a service restarts."""
    for group in groups:
        consumer = kafka.consumer(group_id=group, enable_auto_commit=False)
        await consumer.start()
        seats = [
            TopicPartition(topic.name, number)
            for topic in (KURO_EVENTS, EVM_EVENTS, REQUESTS, LANES)
            for number in range(topic.partitions)
        ]
        consumer.assign(seats)
        await consumer.commit(await consumer.end_offsets(seats))
        await consumer.stop()
