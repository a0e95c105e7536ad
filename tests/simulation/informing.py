"""Whenever a desk owns partitions anew, its gate must have heard of every signature in its book, in
memory or put away: what it was not told of, it would think nobody had approved."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from schemas.base import RequestType, UnreadableRecord
from schemas.evm import ContractEvent, EventName
from schemas.topics import EVM_EVENTS
from streams.books import Book
from streams.conserving import Gate
from streams.signing import SigningDesk
from tests.simulation.broker import Broker
from tests.simulation.oracle import Oracle
from tests.simulation.story import Story

Own = Callable[[set[int]], Awaitable[None]]


def informed(
    desk: SigningDesk, book: Book, gate: Gate, oracle: Oracle, broker: Broker, story: Story
) -> Own:
    """`desk.own`, with this looked at as it returns."""

    async def own(partitions: set[int]) -> None:
        await desk.own(partitions)
        awake, ledger = {state.key for state in book.states()}, gate.ledger
        for key in sorted(oracle.requests):
            state = book.state(key)
            if state is None or state.signed is None or state.received is None:
                continue
            received = state.received
            if received.type is not RequestType.MINT:
                continue
            story.count("signatures told of" if key in awake else "resting signatures told of")
            name = received.chain_id, ledger._name(received.chain_id, received.request_id)
            if not (name in ledger._flying or name in ledger._backed or _minted(broker, name)):
                story.violated("a gate was not told of a signature", request=key)

    return own


def _minted(broker: Broker, name: tuple[int, str]) -> bool:
    """Ever: what a mint without its fact ended, the gate counts as minted, not as approved."""
    for entry in broker.everything():
        if entry.topic != EVM_EVENTS.name:
            continue
        try:
            fact = EVM_EVENTS.decode(entry.value).fact
        except UnreadableRecord:
            continue
        minted = isinstance(fact, ContractEvent) and fact.event is EventName.MINTED
        if minted and (fact.chain_id, fact.request_id) == name:
            return True
    return False
