"""What the guard refuses is an alarm; what a process asks that slept meanwhile is none, once."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.guarding import Refusal, RefusalKind
from streams import signing
from streams.books import Book
from streams.signing import SigningDesk
from tests.core.facts import KEY, TERMS, cancelled, given_up, received

from .test_books import SEAT, Entry, at
from .test_replaying import Calm, Signer, SlowLog, Writer, breathe, draft

TOLD = "digest 0xab of attempt 2 may still execute"


class Guard:
    """Refuses until it is told otherwise; what is asked waits until it may be answered."""

    def __init__(self, overtaken: bool) -> None:
        self.refusal: Refusal | None = Refusal(RefusalKind.EQUIVOCATION, TOLD, overtaken)
        self.asked = 0
        self.may_answer = asyncio.Event()
        self.may_answer.set()

    async def claim(self, entry):
        self.asked += 1
        await self.may_answer.wait()
        return self.refusal


async def desk_over(guard: Guard) -> tuple[SigningDesk, asyncio.Task[None], Book, Signer]:
    reader, signer = SlowLog([at(0, received()), at(1, await draft())], []), Signer()
    reader.go_on.set()
    book = Book(reader)
    desk = SigningDesk(book, Writer(), signer, TERMS, 8, Calm(), guard)
    running = asyncio.create_task(desk.run())
    await desk.own({SEAT})
    await breathe()
    return desk, running, book, signer


@pytest.mark.parametrize(("overtaken", "alarms"), [(False, [True, True]), (True, [False, True])])
async def test_an_attempt_that_others_went_past_is_an_alarm_when_it_is_asked_for_again(
    monkeypatch, overtaken, alarms
):
    """A restored backup goes on asking; who slept has read on by then."""
    turns = [asyncio.Event(), asyncio.Event()]
    waits = iter(turns)

    async def waited(_event, _seconds):
        await next(waits).wait()

    monkeypatch.setattr(signing, "awoken", waited)
    guard = Guard(overtaken)
    desk, running, _, signer = await desk_over(guard)
    assert (guard.asked, KEY in desk.refused) == (1, alarms[0])
    turns[0].set()
    await breathe()
    assert (guard.asked, KEY in desk.refused) == (2, alarms[1])
    guard.refusal = None
    turns[1].set()
    await breathe()
    assert desk.refused == {} and len(signer.asked) == 1
    running.cancel()


async def test_a_refusal_of_what_is_owed_no_more_is_no_alarm():
    guard = Guard(overtaken=False)
    guard.may_answer.clear()
    desk, running, book, signer = await desk_over(guard)
    assert guard.asked == 1
    await book.read([Entry(at(2, cancelled())), Entry(at(3, given_up(attempt=1)))])
    guard.may_answer.set()
    await breathe()
    assert desk.refused == {} and signer.asked == [] and guard.asked == 1
    running.cancel()
