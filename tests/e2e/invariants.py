"""The simulation's invariants on real parts: all topics replayed from zero, beside what the chains
themselves show. Asked for at the end of every burst; cheap enough (a few seconds for thousands of
facts)."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.lanes import LaneState
from orchestrator.core.lanes import evolve as evolve_lane
from orchestrator.core.launchpad_profile import contract_id
from orchestrator.core.lifecycle import TERMINAL, RequestState, Stage, Verdict, evolve
from orchestrator.dev.http_client import rpc_batch
from schemas.base import Record, RequestType
from schemas.kuro import MintOk
from schemas.lanes import (
    LaneFact,
    NonceTaken,
    RelayResumed,
    TransactionBroadcast,
    TransactionPrepared,
)
from schemas.requests import ApprovalDrafted, RequestCompleted, RequestFact
from schemas.topics import KURO_EVENTS, LANES, REQUESTS
from tests.e2e.harness import World, until

BLOCKS_AT_ONCE = 200


@dataclass
class Replayed:
    """Both folds from zero, and every rule that a fact broke on the way."""

    requests: dict[str, RequestState] = field(default_factory=dict)
    lanes: dict[str, LaneState] = field(default_factory=dict)
    prepared: dict[str, TransactionPrepared] = field(default_factory=dict)
    allowed: dict[str, list[MintOk]] = field(default_factory=lambda: defaultdict(list))
    broken: list[str] = field(default_factory=list)
    _relays: dict[tuple[str, int], set[str]] = field(default_factory=lambda: defaultdict(set))
    _seats: dict[str, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))
    _given_up: dict[str, set[tuple[str, int]]] = field(default_factory=lambda: defaultdict(set))

    def request(self, record: Record, fact: RequestFact) -> None:
        before = self.requests.get(fact.request_key)
        state, verdict = evolve(before, record)
        if verdict is not Verdict.APPLIED or state is None:
            return
        self.requests[fact.request_key] = state
        if isinstance(fact, ApprovalDrafted) and before is not None and before.drafted is not None:
            old = before.drafted
            if old.digest != fact.digest and before.stage is not Stage.EXPIRED:
                self.broken.append(f"two live approvals: {fact.id} at {before.stage}")
        if isinstance(fact, RequestCompleted) and state.evidence is None:
            self.broken.append(f"completed without evidence: {fact.id}")

    def lane(self, fact: LaneFact) -> None:
        state = self.lanes.setdefault(fact.key, LaneState(fact.chain_id, fact.wallet))
        verdict = evolve_lane(state, fact)
        if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
            self.broken.append(f"the lane's fold says {verdict}: {fact.id}")
        match fact:
            case TransactionPrepared():
                self._prepare(fact)
            case TransactionBroadcast() if fact.tx_hash not in self.prepared:
                self.broken.append(f"broadcast before its bytes stood on the log: {fact.id}")
            case NonceTaken() if fact.relay is not None:
                self._given_up[fact.relay].add((fact.key, fact.nonce))
            case RelayResumed():
                nonce = self.prepared[fact.tx_hash].nonce
                self._given_up[fact.relay].add((fact.key, nonce))

    def _prepare(self, fact: TransactionPrepared) -> None:
        self.prepared[fact.tx_hash] = fact
        if fact.relay is None:
            return
        seat = (fact.key, fact.nonce)
        self._relays[seat].add(fact.relay)
        if len(self._relays[seat]) > 1:
            self.broken.append(f"one nonce, several requests: {seat} {self._relays[seat]}")
        open_elsewhere = self._seats[fact.relay] - self._given_up[fact.relay] - {seat}
        if any(nonce in self.lanes[key].slots for key, nonce in open_elsewhere):
            self.broken.append(f"one request, two open nonces: {fact.id}")
        self._seats[fact.relay].add(seat)


async def replayed(world: World) -> Replayed:
    found = Replayed()
    for record in await world.facts(KURO_EVENTS):
        if isinstance(record.fact, MintOk):
            found.allowed[record.fact.request_id].append(record.fact)
    for record in await world.facts(REQUESTS):
        if isinstance(record.fact, RequestFact):
            found.request(record, record.fact)
    for record in await world.facts(LANES):
        if isinstance(record.fact, LaneFact):
            found.lane(record.fact)
    return found


async def invariants_hold(world: World, keys: Collection[str] = ()) -> Replayed:
    """Wait until every request of the log has come to its end and every lane is empty, then judge.
    `keys` must be COMPLETED. AssertionError names all that does not hold."""
    last = [await replayed(world)]

    async def at_rest() -> bool:
        last[0] = await replayed(world)
        return not any(_restless(last[0]))

    async def story() -> str:
        return "\n".join(list(_restless(last[0]))[:10])

    await until(at_rest, "every accepted request ended, every lane empty", story)
    found = last[0]
    broken = [*found.broken]
    for key in keys:
        state = found.requests.get(key)
        if state is None or state.stage is not Stage.COMPLETED:
            broken.append(f"{key} is {state.stage if state else 'unknown'}")
    for chain_id in world.stack.chain_ids:
        broken += await _of_chain(world, found, chain_id)
    assert not broken, "\n".join(broken[:20])
    return found


def _restless(found: Replayed) -> Iterator[str]:
    for key, state in found.requests.items():
        if state.stage not in TERMINAL:
            yield f"{key} is {state.stage}"
    for request_id in found.allowed:
        if request_id not in found.requests:
            yield f"{request_id} was allowed and is not received"
    for lane in found.lanes.values():
        if lane.slots or lane.waiting or lane.reverted:
            yield f"lane {lane.key} holds {list(lane.slots)} {list(lane.waiting)}"


async def _of_chain(world: World, found: Replayed, chain_id: int) -> list[str]:
    """What the chain executed against what the log allows, and what its wallets sent against what
    the log prepared."""
    holders, launchpad = world.stack.holders, world.stack.chains[chain_id].launchpad
    broken = []
    minted = await holders.minted_events(chain_id)
    names = {contract_id(key) if launchpad else key: key for key in found.allowed}
    twice = [name for name, count in Counter(e.request_id for e in minted).items() if count > 1]
    broken += [f"minted twice on {chain_id}: {name}" for name in twice]
    for event in minted:
        facts = found.allowed.get(names.get(event.request_id, ""), [])
        told = {(fact.chain_id, fact.user.lower(), int(fact.amount)) for fact in facts}
        ours = not launchpad or bool(facts)  # another signer may mint there, under ids of its own
        if ours and (chain_id, event.account.lower(), event.amount) not in told:
            broken.append(f"minted without its fact on {chain_id}: {event.request_id}")
    if not launchpad:
        supply, told_supply = await holders.total_supply(chain_id), _supply(found, chain_id)
        if supply != told_supply:
            broken.append(f"supply of {chain_id} is {supply}, the facts give {told_supply}")
    broken += await _sent(world, found, chain_id)
    return broken


def _supply(found: Replayed, chain_id: int) -> int:
    signs = {RequestType.MINT: 1, RequestType.REDEEM: -1}
    return sum(
        signs[state.received.type] * int(state.received.amount)
        for state in found.requests.values()
        if state.stage is Stage.COMPLETED
        and state.received is not None
        and state.received.chain_id == chain_id
    )


async def _sent(world: World, found: Replayed, chain_id: int) -> list[str]:
    """Every transaction of our wallets in the chain's blocks stands on the log, prepared no later
    than it was mined."""
    chain = world.stack.chains[chain_id]
    wallets = {lane.wallet.lower() for lane in found.lanes.values() if lane.chain_id == chain_id}
    newest = await world.block_number(chain_id)
    broken = []
    for first in range(0, newest + 1, BLOCKS_AT_ONCE):
        numbers = range(first, min(newest + 1, first + BLOCKS_AT_ONCE))
        calls: list[tuple[str, list[Any]]] = [
            ("eth_getBlockByNumber", [hex(number), True]) for number in numbers
        ]
        for block in await asyncio.to_thread(rpc_batch, chain.rpc_url, calls):
            broken += [
                f"mined on {chain_id} and not on the log: {sent['hash']}"
                for sent in block["transactions"]
                if sent["from"].lower() in wallets and sent["hash"] not in found.prepared
            ]
    return broken
