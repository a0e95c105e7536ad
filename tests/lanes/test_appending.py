"""Appending many facts at once: each where the answer says, in order, whole batches or not."""

from __future__ import annotations

import pytest

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter, partition_of
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.requests import RequestReceived, RequestRejected
from schemas.topics import DEAD_LETTERS, REQUESTS


def received(key: str, padding: int) -> RequestReceived:
    return RequestReceived(
        request_key=key,
        request_id=key,
        type="MINT",
        chain_id=5920,
        user="x" * padding,
        amount="1",
        origin="kuro.events/0/0",
    )


async def stored(log: KafkaLog, topic, starts):
    found = {}
    async for number, messages in log.replay(topic, starts):
        for message in messages:
            found[number, message.offset] = (message.key.decode(), message.value)
    return found


@pytest.mark.parametrize(("count", "padding"), [(1, 10), (3, 10), (60, 10), (400, 5_000)])
async def test_each_fact_stands_where_the_answer_says(stack, count, padding):
    kafka = stack.kafka.access
    writer, log = KafkaWriter(kafka, "appending"), KafkaLog(kafka, "appending")
    await writer.start()
    facts = []
    for number in range(count):
        key = f"appending-{count}-{number % 7}"
        facts.append(received(key, padding + number))
    places = [record.position for record in await writer.append(REQUESTS, facts)]
    await writer.close()
    found = await stored(log, REQUESTS, dict.fromkeys(range(REQUESTS.partitions), 0))
    for fact, place in zip(facts, places, strict=True):
        key, value = found[place.partition, place.offset]
        assert key == fact.key and REQUESTS.decode(value).fact == fact
        assert place.partition == partition_of(REQUESTS, fact.key)
    for partition in {place.partition for place in places}:
        offsets = [place.offset for place in places if place.partition == partition]
        assert offsets == sorted(set(offsets))


async def test_an_owner_appends_facts_and_letters_in_one_transaction(stack):
    kafka = stack.kafka.access
    log = KafkaLog(kafka, "appending", "appending")
    owned = log.owned("many")
    await owned.start()
    facts = [received(f"owned-{number}", 10) for number in range(50)]
    facts += [
        RequestRejected(request_key=f"owned-{n}", reason="INVALID_AMOUNT", detail="it is none")
        for n in range(50)
    ]
    letter = DeadLetter.of(DeadLetterReason.MALFORMED, "a test", b"raw", origin="appending")
    await owned.append(REQUESTS, facts, [letter])
    await owned.close()
    found = await stored(log, REQUESTS, dict.fromkeys(range(REQUESTS.partitions), 0))
    for number in range(50):
        kinds = [
            type(REQUESTS.decode(value).fact).__name__
            for _, (key, value) in sorted(found.items())
            if key == f"owned-{number}"
        ]
        assert kinds == ["RequestReceived", "RequestRejected"]
    letters = await stored(log, DEAD_LETTERS, {0: 0})
    assert [value for _, value in letters.values() if b"a test" in value]
