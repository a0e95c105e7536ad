"""What stands on the log about policies, for the commands."""

from __future__ import annotations

from orchestrator.adapters.kafka_orders import Place, RequestWatch, log_of
from orchestrator.core.lifecycle import RequestState
from schemas.base import Position, Record, UnreadableRecord
from schemas.policies import PolicyApplied
from schemas.topics import CONTROLS


async def applied(place: Place) -> list[Record]:
    """Every policy that was put in force, the oldest first; an order that was given twice once."""
    found: dict[str, Record] = {}
    async for _, messages in log_of(place).replay(CONTROLS, {0: 0}):
        for message in messages:
            position = Position(message.topic, message.partition, message.offset)
            try:
                record = CONTROLS.decode(message.value, position)
            except UnreadableRecord:
                continue
            if isinstance(record.fact, PolicyApplied):
                found.setdefault(record.fact.order, record)
    return list(found.values())


async def request_now(place: Place, key: str) -> RequestState | None:
    watch = RequestWatch(log_of(place), key)
    await watch.look()
    return watch.state
