"""Dead letters listed, shown, and replayed once their cause is mended; refusals say why."""

from __future__ import annotations

import asyncio
import json

import pytest_asyncio

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter
from orchestrator.kafka_access import KafkaAccess
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.lanes import NonceTaken
from schemas.topics import DEAD_LETTERS, KURO_EVENTS, LANES, REQUESTS
from streams.topics import prepare_topics
from tests.commands.conftest import command
from tests.core.facts import CHAIN, USER, WALLETS, received

MINT = b'{"requestId": "lost-1", "user": "%s", "amount": "5", "fiatRef": "w", "timestamp": 1}'


def from_kuro(raw: bytes) -> DeadLetter:
    return DeadLetter.of(DeadLetterReason.MALFORMED, "then", raw, origin=None, source="kuro")


def from_log(position) -> DeadLetter:
    reason = DeadLetterReason.OUT_OF_ORDER
    return DeadLetter.of(reason, "too early", b"", origin=str(position))


@pytest_asyncio.fixture(scope="module")
async def letters(brokers) -> str:
    """0: a mint that is readable now; 1: still malformed; 2: a request's fact; 3: a lane owner's
    fact; 4: a place where nothing stands."""
    servers = brokers[1]
    await prepare_topics(KafkaAccess(servers), 1)
    writer = KafkaWriter(KafkaAccess(servers), "test")
    await writer.start()
    [request] = await writer.append(REQUESTS, [received(None, key="lost-2")])
    taken = NonceTaken(chain_id=CHAIN, wallet=WALLETS[1], nonce=0, block_number=1)
    [lane] = await writer.append(LANES, [taken])
    await writer.append(
        DEAD_LETTERS,
        [
            from_kuro(MINT % USER.encode()),
            from_kuro(b"{nothing"),
            from_log(request.position),
            from_log(lane.position),
            from_log("requests/0/999999"),
        ],
    )
    await writer.close()
    return servers


async def run(servers, *arguments):
    result = await asyncio.to_thread(command, servers, "dead-letters", *arguments)
    return result, (json.loads(result.stdout) if result.exit_code == 0 else str(result.exception))


async def facts(servers, topic):
    found = []
    async for _, messages in KafkaLog(KafkaAccess(servers), "test").replay(
        topic, dict.fromkeys(range(topic.partitions), 0)
    ):
        found += [topic.decode(message.value).fact for message in messages]
    return found


async def test_letters_are_listed_shown_and_replayed(letters):
    _, listed = await run(letters, "list", "--json")
    assert [letter["place"] for letter in listed] == [f"0/{n}" for n in range(5)]
    _, malformed = await run(letters, "list", "--reason", "MALFORMED", "--json")
    assert len(malformed) == 2
    _, shown = await run(letters, "show", "0/0", "--json")
    assert json.loads(shown["raw"])["requestId"] == "lost-1"

    _, dry = await run(letters, "replay", "0/0", "--why", "mended", "--dry-run", "--json")
    assert (dry["kind"], dry["position"]) == ("MintOk", None)
    assert await facts(letters, KURO_EVENTS) == []
    for place in ("0/0", "0/2"):
        _, done = await run(letters, "replay", place, "--why", "mended", "--who", "ada", "--json")
        assert done["position"].startswith(("kuro.events/", "requests/"))
    assert [fact.request_id for fact in await facts(letters, KURO_EVENTS)] == ["lost-1"]
    assert [fact.key for fact in await facts(letters, REQUESTS)] == ["lost-2", "lost-2"]
    _, left = await run(letters, "list", "--open", "--json")
    assert [letter["place"] for letter in left] == ["0/1", "0/3", "0/4"]
    _, shown = await run(letters, "show", "0/2", "--json")
    assert shown["replays"][0]["who"] == "ada" and shown["replays"][0]["why"] == "mended"


async def test_what_cannot_go_back_is_refused_with_its_reason(letters):
    for place, why in (
        ("0/1", "still malformed"),
        ("0/3", "written by its owner alone"),
        ("0/4", "no record"),
        ("0/77", "no dead letter"),
    ):
        result, told = await run(letters, "replay", place, "--why", "x", "--json")
        assert result.exit_code != 0
        assert why in told + result.output
