"""Somebody looks at each doubt of the conservation gate and settles it. Throws no dice."""

from __future__ import annotations

from collections.abc import Callable

from schemas.base import Record, UnreadableRecord, encode_value, instant
from schemas.controls import WorkPaused, WorkResumed, settling
from schemas.topics import CONTROLS, EVM_EVENTS
from streams.conserving import WHO
from tests.simulation.broker import Entry
from tests.simulation.worker import World

LOOKS_SECONDS = 6.0


def settle_doubts(world: World, heard: Callable[[WorkPaused], None] = lambda _: None) -> None:
    """From now on; `heard` is told of each pause of the gate."""

    def witness(entry: Entry) -> None:
        if entry.topic == EVM_EVENTS.name and b'"SupplyCompared"' in (entry.value or b""):
            world.story.count("comparisons")
        if entry.topic != CONTROLS.name:
            return
        try:
            fact = CONTROLS.decode(entry.value).fact
        except UnreadableRecord:
            return
        if isinstance(fact, WorkPaused) and fact.who == WHO:
            world.story.tell("a doubt", why=fact.why)
            world.story.count("doubts")
            heard(fact)
            world.loop.in_world(LOOKS_SECONDS, settle, fact)

    def settle(pause: WorkPaused) -> None:
        order = settling(pause.order)
        fact = WorkResumed(order=order, who="ann", why="looked at", scope=pause.scope)
        record = Record(fact, instant(world.loop.unix_seconds))
        world.broker.append([(CONTROLS, fact.key.encode(), encode_value(record))])

    world.broker.witnesses.append(witness)
