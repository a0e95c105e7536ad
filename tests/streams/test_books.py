"""A decider folds what it appended itself as soon as it is acknowledged, where nothing unread
stands before it; the stream passes over it, and a state stays the fold of a prefix of the log."""

from __future__ import annotations

import pytest

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.core.lifecycle import Stage
from schemas.base import Position, Record, encode_value
from schemas.topics import REQUESTS
from streams.books import Book
from tests.core.facts import KEY, received, rejected

SEAT = partition_of(REQUESTS, KEY)
AT = "2026-11-25T00:00:00.000Z"


class Entry:
    """A message as the stream brings it."""

    def __init__(self, record: Record) -> None:
        assert record.position is not None
        self.topic, self.partition = record.position.topic, record.position.partition
        self.offset, self.key = record.position.offset, record.fact.key.encode()
        self.value = encode_value(record)


class EmptyLog:
    async def replay(self, topic, starts):
        for nothing in ():
            yield nothing


def at(offset: int, fact) -> Record:
    return Record(fact, AT, Position(REQUESTS.name, SEAT, offset))


@pytest.fixture
async def book() -> Book:
    made = Book(EmptyLog())
    await made.own({SEAT})
    return made


async def test_what_was_appended_counts_before_the_stream_brings_it(book):
    first, second = at(0, received()), at(1, rejected())
    book.wrote([first, second])
    assert book.state(KEY).stage is Stage.REJECTED
    assert book.touched == {KEY}
    book.touched.clear()
    assert await book.read([Entry(first), Entry(second)]) == []
    assert book.touched == set()
    assert book.state(KEY).stage is Stage.REJECTED


async def test_what_stands_behind_something_unread_waits_for_the_stream(book):
    first, second = at(0, received()), at(1, rejected())
    book.wrote([second])
    assert book.state(KEY) is None
    await book.read([Entry(first)])
    assert book.state(KEY).stage is Stage.RECEIVED
    await book.read([Entry(second)])
    assert book.state(KEY).stage is Stage.REJECTED


async def test_what_the_fold_refuses_is_told_once_when_the_stream_brings_it(book):
    records = [at(0, received()), at(1, received(amount="7"))]
    book.wrote(records)
    letters = await book.read([Entry(record) for record in records])
    assert [letter.reason for letter in letters] == ["CONFLICT"]
    assert await book.read([Entry(record) for record in records]) == []


async def test_while_the_assignment_changes_nothing_is_folded_ahead(book):
    book.expect()
    book.wrote([at(0, received())])
    assert book.state(KEY) is None
    await book.own({SEAT})
    await book.read([Entry(at(0, received()))])
    assert book.state(KEY).stage is Stage.RECEIVED


async def test_another_owners_partition_is_left_alone(book):
    await book.own(set())
    book.wrote([at(0, received())])
    assert book.state(KEY) is None
