"""While a partition is replayed its states are those of a prefix of the log. What seems to be owed
there may stand further on, or have been given up: nothing is decided or signed before the end."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from functools import partial

import pytest
from structlog.testing import capture_logs

from orchestrator.adapters.sqlite_archive import SqliteArchive
from orchestrator.core.lifecycle import Stage
from schemas.base import Record
from schemas.requests import ApprovalDrafted, ApprovalSigned
from streams.books import Book
from streams.deciding import Decider
from streams.signing import SigningDesk
from tests.core.facts import CHAIN, KEY, TERMS, cancelled, given_up, received

from .test_books import SEAT, Entry, at
from .test_resting import sqlite


class SlowLog:
    """Gives the first part of the partition at once, and the rest when it is told to."""

    def __init__(self, first: list[Record], rest: list[Record]) -> None:
        self.parts = first, rest
        self.halfway, self.go_on = asyncio.Event(), asyncio.Event()

    async def replay(self, topic, starts):
        first, rest = self.parts
        if SEAT not in starts:
            return
        yield SEAT, [Entry(record) for record in first]
        self.halfway.set()
        await self.go_on.wait()
        yield SEAT, [Entry(record) for record in rest]


class Writer:
    def __init__(self) -> None:
        self.facts: list = []

    async def append(self, topic, facts):
        self.facts += facts
        return []


class Signer:
    def __init__(self) -> None:
        self.asked: list[str] = []

    async def address(self) -> str:
        return "0x" + "11" * 20

    async def sign(self, digest: str) -> str:
        self.asked.append(digest)
        return "0x" + "ab" * 65


class Calm:
    """Controls that hold nothing."""

    policy = None

    def holds(self, *_, **__):
        return None

    def pause(self, *_, **__):
        return None


async def breathe() -> None:
    """Long enough for all that may happen without waiting for anything."""
    for _ in range(50):
        await asyncio.sleep(0)


async def draft() -> ApprovalDrafted:
    """What the decider owes for the request."""
    reader, writer = SlowLog([at(0, received())], []), Writer()
    reader.go_on.set()
    book = Book(reader)
    decider = Decider(book, writer, TERMS, Calm())
    running = asyncio.create_task(decider.run())
    await decider.own({SEAT})
    await breathe()
    running.cancel()
    [fact] = writer.facts
    assert isinstance(fact, ApprovalDrafted)
    return fact


@pytest.mark.parametrize("ends", [False, True])
async def test_no_signature_is_asked_for_what_the_rest_of_the_log_gives_up(ends):
    """Somebody who holds the signature of a cancelled mint may execute it until its deadline."""
    first = [at(0, received()), at(1, await draft())]
    rest = [at(2, cancelled()), at(3, given_up(attempt=1))] if ends else []
    reader, writer, signer = SlowLog(first, rest), Writer(), Signer()
    desk = SigningDesk(Book(reader), writer, signer, TERMS, 8, Calm())
    running = asyncio.create_task(desk.run())
    owning = asyncio.create_task(desk.own({SEAT}))
    await reader.halfway.wait()
    desk.hear(None)
    await breathe()
    assert signer.asked == [] and writer.facts == []
    reader.go_on.set()
    await owning
    await breathe()
    running.cancel()
    assert len(signer.asked) == (0 if ends else 1)
    assert [type(fact) for fact in writer.facts] == ([] if ends else [ApprovalSigned])


@pytest.mark.parametrize("ends", [False, True])
async def test_what_was_put_away_is_no_end_either(tmp_path, ends):
    """A file ends somewhere; what it says is signed only when all that came after is read too."""
    first = [at(0, received()), at(1, await draft())]
    rest = [at(2, cancelled()), at(3, given_up(attempt=1))] if ends else []
    make = partial(sqlite, tmp_path / "s", every=1)
    before = SlowLog(first, [])
    before.go_on.set()
    book = Book(before, make)
    await book.own({SEAT})
    [page] = book._pages.values()
    page.archive.close()
    reader, writer, signer = SlowLog(first[-1:], rest), Writer(), Signer()
    book = Book(reader, make)
    desk = SigningDesk(book, writer, signer, TERMS, 8, Calm())
    running = asyncio.create_task(desk.run())
    owning = asyncio.create_task(desk.own({SEAT}))
    await reader.halfway.wait()
    desk.hear(None)
    await breathe()
    drafted = book.state(KEY)
    assert drafted is not None and drafted.stage is Stage.DRAFTED and not book.is_ready
    assert signer.asked == [] and writer.facts == []
    reader.go_on.set()
    await owning
    await breathe()
    running.cancel()
    assert isinstance(book._pages[SEAT].archive, SqliteArchive)
    assert len(signer.asked) == (0 if ends else 1)


async def test_no_draft_is_owed_before_the_whole_partition_is_read():
    """Its deadline could differ from that of the draft that stands further on, if the request was
    cleared by a policy meanwhile: the log would hold two of one name."""
    drafted = at(1, await draft())
    later = replace(drafted, fact=drafted.fact.model_copy(update={"digest": "0x" + "cd" * 32}))
    reader, writer = SlowLog([at(0, received())], [later]), Writer()
    book = Book(reader)
    decider = Decider(book, writer, TERMS, Calm())
    running = asyncio.create_task(decider.run())
    owning = asyncio.create_task(decider.own({SEAT}))
    await reader.halfway.wait()
    decider.hear(None)
    await breathe()
    assert writer.facts == []
    reader.go_on.set()
    await owning
    await breathe()
    running.cancel()
    state = book.state(KEY)
    assert writer.facts == [] and state is not None and state.stage is Stage.DRAFTED


async def test_what_is_told_of_a_fact_names_its_chain_though_its_partition_moved_away():
    """It was appended for a request of ours; who reads the log at night looks for its chain."""
    reader = SlowLog([at(0, received())], [])
    reader.go_on.set()
    book = Book(reader)

    class MovedAway(Writer):
        async def append(self, topic, facts):
            await book.own(set())
            return await super().append(topic, facts)

    writer = MovedAway()
    decider = Decider(book, writer, TERMS, Calm())
    with capture_logs() as lines:
        running = asyncio.create_task(decider.run())
        await decider.own({SEAT})
        await breathe()
        running.cancel()
    [told] = [line for line in lines if line["event"] == "fact appended"]
    assert told["chain_id"] == CHAIN and told["fact"] == writer.facts[0]
