"""Which of a lane's waiting work may get a nonce now, where calls of one account need an order.

A wallet's nonces keep the order of what it sends, so a call may follow its predecessor at once,
without waiting for a block: either both execute in this order, or the second fails and waits again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from functools import lru_cache

from orchestrator.core.contract import Profile, Turn
from orchestrator.core.lanes import LaneState, Slot, in_flight, next_work
from schemas.lanes import RelayRequested


@dataclass(frozen=True, slots=True)
class Work:
    """`follows` is None for a call that is to be estimated. A call that follows another cannot be:
    it takes that one's gas limit, given here for one in flight, or by its name for one of the same
    batch. The first mint to an account costs the most (it fills empty storage)."""

    item: RelayRequested
    follows: int | str | None = None


@lru_cache(maxsize=65_536)
def _turn(profile: Profile, data: str) -> Turn | None:
    return profile.turn(data)


def in_turn(
    state: LaneState,
    profile: Profile,
    held_back: Collection[str],
    in_flight_limit: int,
    withheld: Callable[[RelayRequested], bool] = lambda _: False,
) -> list[Work]:
    """The work for this pass. Without an order, the oldest; with one, each account's lowest nonce,
    which an estimate shows to be next (unless it was just `held_back` as not), and what follows it
    without a gap. An account whose newest call in flight will not execute waits until that is
    settled: what follows would only fail."""
    if not profile.sequential:
        return [Work(item) for item in next_work(state, in_flight_limit, withheld)]
    room = max(0, in_flight_limit - in_flight(state))
    flying = _flying(state, profile) if room and state.waiting else {}
    waiting: dict[str, list[tuple[int, RelayRequested]]] = {}
    for item in next_work(state, len(state.slots) + len(state.waiting), withheld) if room else ():
        turn = _turn(profile, item.data)
        assert turn is not None
        waiting.setdefault(turn.account, []).append((turn.nonce, item))
    work: list[Work] = []
    for account, items in waiting.items():
        items.sort(key=lambda entry: (entry[0], entry[1].attempt, entry[1].relay))
        work += _of_account(items, flying.get(account, []), held_back)
        if len(work) >= room:
            break
    return work[:room]


def _flying(state: LaneState, profile: Profile) -> dict[str, list[tuple[int, Slot]]]:
    found: dict[str, list[tuple[int, Slot]]] = {}
    for slot in state.slots.values():
        turn = _turn(profile, state.working[slot.relay].data) if slot.relay else None
        if turn is not None:
            found.setdefault(turn.account, []).append((turn.nonce, slot))
    return found


def _of_account(
    items: list[tuple[int, RelayRequested]],
    flying: list[tuple[int, Slot]],
    held_back: Collection[str],
) -> list[Work]:
    if any(_will_not_execute(slot) for _, slot in flying):
        return []
    work: list[Work] = []
    lowest, leader = items[0]
    follows: int | str
    if flying:
        nonce, slot = max(flying, key=lambda entry: entry[0])
        following, follows = nonce + 1, slot.newest.gas_limit
        if lowest < following and leader.relay not in held_back:
            work.append(Work(leader))
    elif leader.relay in held_back:
        return []
    else:
        work.append(Work(leader))
        following, follows = lowest + 1, leader.relay
    for nonce, item in items:
        if nonce == following:
            work.append(Work(item, follows))
            following, follows = nonce + 1, item.relay
    return work


def _will_not_execute(slot: Slot) -> bool:
    """A no-op took its place, or it was mined as a failure."""
    failed = slot.inclusion is not None and not slot.inclusion.succeeded
    return failed or slot.newest.relay is None
