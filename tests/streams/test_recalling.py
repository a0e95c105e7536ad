"""Who signs looks at the end of `controls` while KMS is asked: an order of meanwhile counts."""

from __future__ import annotations

import asyncio

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.core.asking import InForce
from orchestrator.errors import LogUnavailable
from schemas.base import Position, Record
from schemas.policies import Policy, PolicyApplied
from schemas.requests import ApprovalSigned, DraftRecalled
from schemas.topics import CONTROLS, REQUESTS
from streams import controls as controls_module
from streams.books import Book
from streams.controls import Controls
from streams.deciding import Decider
from streams.signing import SigningDesk
from tests.core.facts import MINT_KEY, TERMS, cleared, folded, received
from tests.core.test_recalling import owed

from .test_books import AT, Entry
from .test_replaying import Signer, Writer, breathe

SEAT = partition_of(REQUESTS, MINT_KEY)
BEFORE, AFTER = Policy(max_amount=10_000), Policy(max_amount=1)


class Topic:
    """`controls` as a broker has it, and a reader that may lag behind it."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.readable = 0
        self.asked = 0
        self.fails = False
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.moved = asyncio.Event()

    def apply(self, policy: Policy, *, readable: bool = True) -> None:
        number = len(self.records)
        by = {"order": f"p-{number}", "who": "ann", "why": "an incident"}
        fact = PolicyApplied(**by, version=policy.version, policy=policy)
        self.records.append(Record(fact, AT, Position(CONTROLS.name, 0, number)))
        if readable:
            self.catch_up()

    def catch_up(self) -> None:
        self.readable = len(self.records)
        self.moved.set()

    async def tail(self, topic, partition, start):
        place = start
        while True:
            found, place = self.records[place : self.readable], max(place, self.readable)
            yield [Entry(record) for record in found]
            if not found:
                await self.moved.wait()
                self.moved.clear()

    async def end(self, topic, partition) -> int:
        self.asked += 1
        end = len(self.records)
        await self.may_answer.wait()
        if self.fails:
            raise LogUnavailable("no answer")
        return end


class SlowSigner(Signer):
    def __init__(self) -> None:
        super().__init__()
        self.may_answer = asyncio.Event()

    async def sign(self, digest: str) -> str:
        signature = await super().sign(digest)
        await self.may_answer.wait()
        return signature


class Log:
    """The partition of the mint, read at once."""

    def __init__(self, facts: list) -> None:
        self.facts = facts

    async def replay(self, topic, starts):
        yield SEAT, [Entry(placed(offset, fact)) for offset, fact in enumerate(self.facts)]


def placed(offset: int, fact) -> Record:
    return Record(fact, AT, Position(REQUESTS.name, SEAT, offset))


def drafted() -> list:
    """Cleared by the policy `BEFORE`, as the topic's first."""
    life = [received(key=MINT_KEY)]
    life.append(cleared(key=MINT_KEY).model_copy(update={"version": BEFORE.version}))
    return [*life, owed(folded(life), InForce("p-0", BEFORE.version))]


class Running:
    """A desk over one drafted mint, and the controls that it goes by."""

    def __init__(self) -> None:
        self.topic, self.writer, self.signer = Topic(), Writer(), SlowSigner()
        self.topic.apply(BEFORE)
        self.controls = Controls(self.topic, self.topic)
        self.book = Book(Log(drafted()))
        self.desk = SigningDesk(self.book, self.writer, self.signer, TERMS, 8, self.controls)
        self.controls.hear(self.desk.hear)
        self.tasks: list[asyncio.Task] = []

    async def __aenter__(self) -> Running:
        self.tasks = [asyncio.create_task(part.run()) for part in (self.controls, self.desk)]
        await breathe()
        await self.desk.own({SEAT})
        await breathe()
        return self

    async def __aexit__(self, *_) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)


async def test_a_signature_is_appended_once_the_end_of_controls_was_seen():
    running = Running()
    running.topic.may_answer.clear()
    async with running:
        assert (len(running.signer.asked), running.topic.asked) == (1, 1), "both at once"
        running.signer.may_answer.set()
        await breathe()
        assert running.writer.facts == []
        running.topic.may_answer.set()
        await breathe()
        assert [type(fact) for fact in running.writer.facts] == [ApprovalSigned]


async def test_a_policy_that_came_while_kms_was_asked_throws_the_signature_away():
    """It is on the topic and this process has not read it: the end that it asked for says so."""
    running = Running()
    running.topic.apply(AFTER, readable=False)
    async with running:
        assert len(running.signer.asked) == 1, "by what is known here, it may be signed"
        running.signer.may_answer.set()
        await breathe()
        assert running.writer.facts == [], "what stands on the topic is read first"
        running.topic.catch_up()
        await breathe()
        assert running.writer.facts == [] and len(running.signer.asked) == 1
        running.topic.apply(BEFORE)
        await breathe()
        assert [type(fact) for fact in running.writer.facts] == [ApprovalSigned]
        assert len(running.signer.asked) == 2, "the first signature was thrown away"


async def test_who_slept_after_its_look_looks_again_before_it_appends(monkeypatch):
    """The policy came after the end was told, and no decider was awake to recall the draft."""
    running = Running()
    async with running:
        assert (len(running.signer.asked), running.topic.asked) == (1, 1)
        running.topic.apply(AFTER, readable=False)
        woken_at = asyncio.get_running_loop().time() + controls_module.STALE_SECONDS + 1
        monkeypatch.setattr(controls_module, "_now", lambda: woken_at)
        running.signer.may_answer.set()
        await breathe()
        assert (running.writer.facts, running.topic.asked) == ([], 2)
        running.topic.catch_up()
        await breathe()
        assert running.writer.facts == [], "the policy in force has not cleared it"


async def test_no_signature_without_an_answer_about_the_end(monkeypatch):
    async def no_time(*_):
        await asyncio.sleep(0)

    monkeypatch.setattr("streams.signing.Backoff.sleep", no_time)
    running = Running()
    running.topic.fails = True
    running.signer.may_answer.set()
    async with running:
        assert running.writer.facts == [] and len(running.signer.asked) > 1
        running.topic.fails = False
        await breathe()
        assert [type(fact) for fact in running.writer.facts] == [ApprovalSigned]


async def test_nothing_is_asked_of_kms_for_a_draft_of_another_policy():
    running = Running()
    running.topic.apply(AFTER)
    async with running:
        assert running.signer.asked == [] and running.topic.asked == 0


async def test_signatures_at_once_share_a_question():
    """One is under way; all who come meanwhile share the next, which is asked after they came."""
    topic = Topic()
    controls = Controls(topic, topic)
    reading = asyncio.create_task(controls.run())
    topic.may_answer.clear()
    first = asyncio.create_task(controls.caught_up())
    await breathe()
    others = [asyncio.create_task(controls.caught_up()) for _ in range(100)]
    await breathe()
    assert topic.asked == 1
    topic.may_answer.set()
    await asyncio.gather(first, *others)
    assert topic.asked == 2
    reading.cancel()


async def test_whoever_gives_up_takes_no_answer_from_the_others():
    topic = Topic()
    controls = Controls(topic, topic)
    topic.may_answer.clear()
    waiting = [asyncio.create_task(controls.caught_up()) for _ in range(2)]
    await breathe()
    waiting[0].cancel()
    topic.may_answer.set()
    await waiting[1]
    assert waiting[0].cancelled()


async def test_the_decider_recalls_what_is_drafted_once_it_has_read_the_policy(monkeypatch):
    """And not by what it knew long ago: a policy may have come and gone since."""
    topic, writer = Topic(), Writer()
    topic.apply(BEFORE)
    controls = Controls(topic, topic)
    decider = Decider(Book(Log(drafted())), writer, TERMS, controls)
    controls.hear(decider.hear)
    tasks = [asyncio.create_task(part.run()) for part in (controls, decider)]
    await breathe()
    await decider.own({SEAT})
    await breathe()
    assert writer.facts == []
    monkeypatch.setattr(controls_module, "STALE_SECONDS", -1.0)
    topic.apply(AFTER)
    await breathe()
    assert writer.facts == [] and controls.policy.version == AFTER.version
    monkeypatch.undo()
    decider.hear(None)
    await breathe()
    assert [(type(fact), fact.order) for fact in writer.facts] == [(DraftRecalled, "p-1")]
    for task in tasks:
        task.cancel()
