"""What stands around a request, gathered for an explanation. Raises StoreUnavailable."""

from __future__ import annotations

from datetime import datetime

from aiohttp import web

from orchestrator.core.controls import covering
from orchestrator.core.lifecycle import RequestState
from projections.context import CHAINS, STORE, TERMS, USUAL
from projections.explaining import Circumstances, Head
from projections.lane_reads import one_lane, one_work
from projections.lane_shapes import LaneView
from projections.lanes import Work
from projections.past import lane_at
from projections.pauses import pauses
from projections.store import Store
from projections.text import from_column, to_column
from schemas.lanes import relay_name


async def circumstances_of(
    app: web.Application, state: RequestState, now: datetime, *, past: bool
) -> Circumstances:
    """At `now`; with `past`, as far as the log tells of that moment."""
    store, terms = app[STORE], app[TERMS]
    received, assigned = state.received, state.assigned
    if received is None:
        return Circumstances(now)
    chain_id = received.chain_id
    wallet = assigned.wallet if assigned else None
    lane: LaneView | None = None
    work: Work | None = None
    if assigned is not None:
        relay = to_column(relay_name(state.key, assigned.attempt, assigned.assignment))
        if past:
            found = await lane_at(
                store, terms, chain_id, assigned.wallet, now, [to_column(state.key)]
            )
            if found is not None:
                lane, work = found[0], found[1].works.get((chain_id, assigned.wallet, relay))
        else:
            lane = await one_lane(store, terms, chain_id, assigned.wallet)
            work = await one_work(store, chain_id, assigned.wallet, relay)
    ordered = await pauses(store, now if past else None)
    return Circumstances(
        now=now,
        lane=lane,
        work=work,
        head=None if past else await _head(store, chain_id, terms.confirmations.get(chain_id, 0)),
        pause=covering(ordered, chain_id, wallet, state.key),
        usual=await app[USUAL].of(received.type, chain_id, now if past else None),
        served_chains=tuple(app[CHAINS]),
        replace_after_blocks=terms.replace_after_blocks,
        compared_within_seconds=terms.supply_compared_within_seconds,
    )


async def _head(store: Store, chain_id: int, depth: int) -> Head | None:
    rows = await store.rows("SELECT * FROM chain_heads WHERE chain_id = %s", [chain_id])
    if not rows:
        return None
    row = rows[0]
    reason = row["halted_reason"]
    return Head(
        block=row["to_block"],
        block_at=row["to_timestamp"],
        followed_at=row["followed_at"],
        halted_reason=None if reason is None else from_column(reason),
        halted_at=row["halted_at"],
        block_seconds=row["block_seconds"],
        supply_at=row["supply_at"],
        depth=depth,
    )
