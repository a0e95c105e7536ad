"""What a fact does not say itself: whether it changed its request's public status, and the chain
of a mint's later facts. Both are read from the tables, once these have reached the fact.

The answer is the same whenever it is asked: a status is folded from the request's facts up to the
one in question, not taken from how the request stands now.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import orjson

from orchestrator.core.lifecycle import RequestState, Verdict, evolve
from projections.feed.events import Event
from projections.feed.filters import Filter
from projections.store import Store, StoreUnavailable
from projections.text import from_jsonb
from schemas.base import Position
from schemas.topics import REQUESTS

KEPT_CHAINS = 50_000


class Lookups:
    """Asks the tables; remembers chains, which never change."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._chains: OrderedDict[str, int] = OrderedDict()

    async def settle(self, events: Sequence[Event], wanted: Filter) -> list[Event] | None:
        """Those that are wanted; None while the tables are behind them, or away."""
        for event in events:
            if event.kind == "RequestReceived" and event.chain_id and event.request_key:
                self._remember(event.request_key, event.chain_id)
        try:
            if not await self._reached(events, wanted):
                return None
            kept = await self._of_chains(events, wanted) if wanted.chain_ids else list(events)
            return await self._changes(kept) if wanted.status_changes else kept
        except StoreUnavailable:
            return None

    async def _reached(self, events: Sequence[Event], wanted: Filter) -> bool:
        needy = [event for event in events if wanted.status_changes or event.chain_id is None]
        if not needy:
            return True
        held = await self._store.offsets()
        return all(held.get(event.seat, 0) > event.offset for event in needy)

    async def _of_chains(self, events: Sequence[Event], wanted: Filter) -> list[Event]:
        unknown = {
            event.request_key
            for event in events
            if event.chain_id is None and event.request_key not in self._chains
        }
        if unknown:
            keys = [key for key in unknown if key is not None]
            for key, chain_id in (await self._store.chains_of(keys)).items():
                self._remember(key, chain_id)
        known = [
            replace(event, chain_id=self._chains.get(event.request_key or ""))
            if event.chain_id is None
            else event
            for event in events
        ]
        return [event for event in known if event.chain_id in wanted.chain_ids]

    def _remember(self, key: str, chain_id: int) -> None:
        self._chains.setdefault(key, chain_id)
        while len(self._chains) > KEPT_CHAINS:
            self._chains.popitem(last=False)

    async def _changes(self, events: Sequence[Event]) -> list[Event]:
        """Fold each request anew; the facts of one come together and in log order."""
        keys = {event.request_key for event in events if event.request_key is not None}
        changes: dict[tuple[int, int], tuple[str | None, str]] = {}
        state: RequestState | None = None
        folding: str | None = None
        for row in await self._store.facts_of(keys) if keys else []:
            if folding != row["request_key"]:
                folding, state = row["request_key"], None
            position = Position(REQUESTS.name, row["partition"], row["offset"])
            value = orjson.dumps(from_jsonb(row["value"]))
            after, verdict = evolve(state, REQUESTS.decode(value, position))
            if verdict is not Verdict.APPLIED or after is None:
                continue
            old = state.status if state is not None else None
            if old is not after.status:
                changes[position.partition, position.offset] = (old, after.status)
            state = after
        return [
            replace(event, status=changes[event.partition, event.offset])
            for event in events
            if (event.partition, event.offset) in changes
        ]
