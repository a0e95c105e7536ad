"""Whole clusters in fair weather, in which one thing happens: each kind of fact is provoked.

A `Target` is an arrow of lanes, of ingestion, or an effect outside of the log: where it is provoked
and how a kill recognises it. A new kind of `lanes`, `evm.events` or `kuro.events` needs its target
here, and its row in `docs/crash-table.md`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from schemas.base import Record, encode_value, instant
from schemas.controls import CancelOrdered
from schemas.evm import ChainHalted, ChainResumed
from schemas.lanes import LaneHalted, LaneResumed, TransactionPrepared
from schemas.policies import Approvals, Kyc, Policy, QuietHours
from schemas.topics import CONTROLS, EVM_EVENTS, LANES, TOPICS
from tests.simulation.aiming import Aim, Errand, Moment, at_kind, at_verb
from tests.simulation.broker import Entry
from tests.simulation.building import FIRST_CHAIN, wallet
from tests.simulation.chain import Chain
from tests.simulation.outside import HOLDERS, mint_message
from tests.simulation.running import Outcome, Run, simulate
from tests.simulation.scenario import ALL_ROLES, Scenario
from tests.simulation.staging import FAIR
from tests.simulation.telling import BY
from tests.simulation.worker import Agents
from tests.tidy.project import ROOT

SMALL = replace(
    FAIR,
    layout=(ALL_ROLES, ALL_ROLES),
    wallets=1,
    confirmations=2,
    block_seconds=1.0,
    block_share=1.0,
    mints=4,
    redeems=1,
    bad_mints=0,
    conflicts=0,
    garbage=0,
    load_seconds=5.0,
    faults_seconds=40.0,
    ttl_seconds=86_400,
    in_flight_limit=8,
    outsiders=0,
    front_runs=0.0,
)
Prepare = Callable[[Run], None]


def at_first(run: Run, kind: str, act: Callable[[], None]) -> None:
    """Once, as soon as the log shows a fact of this kind."""
    seen: list[bool] = []

    def witness(entry: Entry) -> None:
        if not seen and f'"kind":"{kind}"'.encode() in (entry.value or b""):
            seen.append(True)
            run.world.loop.in_world(0.0, act)

    run.world.broker.witnesses.append(witness)


def _chain(run: Run) -> Chain:
    return run.world.chains[FIRST_CHAIN]


def nothing(run: Run) -> None:
    """The usual way."""


def orphan(run: Run) -> None:
    def reorganise() -> None:
        chain = _chain(run)
        before = len(chain.blocks)
        chain.reorganise(4, kept=1.0, share=0.0)
        for block in chain.blocks[before - 4 :]:
            run.world.oracle.on_block(chain, block)

    at_first(run, "TransactionIncluded", reorganise)


def drop(run: Run) -> None:
    """As soon as the pool holds something to forget: a block may have taken what is out."""

    def again() -> None:
        if not _chain(run).drop(1.0):
            at_first(run, "TransactionBroadcast", again)

    at_first(run, "TransactionBroadcast", again)


def outsider(run: Run) -> None:
    at_first(run, "TransactionBroadcast", lambda: run.load._outsider(FIRST_CHAIN))


def starve(run: Run) -> None:
    _chain(run).dearer = 200_000
    at_first(run, "TransactionFinal", lambda: setattr(_chain(run), "dearer", 0))


def impoverish(run: Run) -> None:
    funds, address = _chain(run).funds, wallet(FIRST_CHAIN, 0).address
    held, funds[address] = funds[address], 0
    run.world.loop.in_world(20.0, funds.__setitem__, address, held)


def give(run: Run) -> None:
    """Somebody with a minter's role mints, and no event of ours tells."""
    run.world.loop.in_world(8.0, _chain(run).gift, HOLDERS[0], 7_000)


def reorganise_deeply(run: Run) -> None:
    """Below what the log saw final; then a person resumes the chain."""

    def resume(entry: Entry) -> None:
        if entry.topic != EVM_EVENTS.name or b"ChainHalted" not in (entry.value or b""):
            return
        halt = TOPICS[entry.topic].decode(entry.value).fact
        assert isinstance(halt, ChainHalted)
        fact = ChainResumed(chain_id=halt.chain_id, halt=halt.id, who="a person", why="looked")
        value = encode_value(Record(fact, instant(run.world.loop.unix_seconds)))
        key = fact.key.encode()
        run.world.loop.in_world(5.0, run.world.broker.append, [(EVM_EVENTS, key, value)])

    run.world.broker.witnesses.append(resume)

    def reorganise() -> None:
        run.world.oracle.deep.add(FIRST_CHAIN)
        _chain(run).reorganise(_chain(run).confirmations + 8, kept=1.0, share=0.0)

    at_first(run, "RequestCompleted", reorganise)


def rewrite(run: Run) -> None:
    """What the lane saw final becomes another block, and the chain is shorter for a while."""

    def reset() -> None:
        run.world.oracle.deep.add(FIRST_CHAIN)
        chain = _chain(run)
        chain.reorganise(chain.confirmations + 12, kept=0.0, share=0.0, longer=-8)

    at_first(run, "TransactionFinal", lambda: run.world.loop.in_world(8.0, reset))


@dataclass(frozen=True)
class Target:
    wants: Callable[[Errand], bool]
    scenario: Scenario = SMALL
    prepare: Prepare = nothing
    in_a_transaction: bool = False
    armed_by: str | None = None
    """The kill waits until the log shows this kind."""

    def moments(self) -> list[Moment]:
        halfway = [Moment.HALFWAY] if self.in_a_transaction else []
        return [Moment.BEFORE, *halfway, Moment.AT, Moment.AFTER]


def cancel(run: Run) -> None:
    """A person gives up whatever has just been assigned; here it is too late for most of it."""

    def order() -> None:
        for key in list(run.world.oracle.requests):
            fact = CancelOrdered(order=f"c.{key.replace(':', '.')}", request_key=key, **BY)
            value = encode_value(Record(fact, instant(run.world.loop.unix_seconds)))
            run.world.broker.append([(CONTROLS, fact.key.encode(), value)])

    at_first(run, "RelayAssigned", order)


def rewrite_and_resume(run: Run) -> None:
    """A lane halts, and a person lets it go on."""
    rewrite(run)

    def resume(entry: Entry) -> None:
        if entry.topic != LANES.name or b'"kind":"LaneHalted"' not in (entry.value or b""):
            return
        halt = LANES.decode(entry.value).fact
        assert isinstance(halt, LaneHalted)
        order = f"l-{halt.number}"
        lane = {"chain_id": halt.chain_id, "wallet": halt.wallet}
        fact = LaneResumed(**lane, halt=halt.id, order=order, **BY)
        value = encode_value(Record(fact, instant(run.world.loop.unix_seconds)))
        item = (LANES, fact.key.encode(), value)
        run.world.loop.in_world(5.0, run.world.broker.append, [item])

    run.world.broker.witnesses.append(resume)


SLOW = replace(SMALL, ttl_seconds=60, block_share=0.0, faults_seconds=100.0, redeems=0)
SHALLOW = replace(SMALL, confirmations=5)
GIVEN_UP = replace(SMALL, deep_reorganisation=True)
"""Safety is all that is asked for: what was cancelled ends otherwise."""
CROWDED = replace(SMALL, wallets=2)
DEEP = replace(SMALL, deep_reorganisation=True, mints=6, faults_seconds=60.0)


def _of_lane(kind: str, scenario: Scenario = SMALL, prepare: Prepare = nothing) -> Target:
    return Target(at_kind(kind), scenario, prepare, in_a_transaction=True)


def _prepared(test: Callable[[TransactionPrepared], bool]) -> Callable[[Errand], bool]:
    return lambda errand: (
        errand.verb == "append"
        and any(isinstance(fact, TransactionPrepared) and test(fact) for fact in errand.facts)
    )


def share_a_name(run: Run) -> None:
    """Kuro allows another mint, whose id is what the first one is called on chain."""

    def allow() -> None:
        word = next(iter(run.world.oracle.sequences[FIRST_CHAIN].state.names))
        run.load.accepted.append(word)
        run.load.rejected.add(word)
        run.world.kuro.allow(mint_message(word, HOLDERS[0], "5", FIRST_CHAIN))

    at_first(run, "NonceGranted", allow)


POLICED = replace(
    SMALL,
    policy=Policy(
        max_amount=500_000,
        kyc=Kyc(),
        quiet_hours=(QuietHours(start="08:00", end="08:01"),),
        approvals=Approvals(operators=2),
    ),
    faults_seconds=90.0,
)
"""Its first minute is quiet; what is too much is approved by two."""


def loosen(run: Run) -> None:
    """Another policy is applied as soon as something is held."""
    at_first(run, "RequestHeld", lambda: run.policing.apply(Policy(max_amount=10**12)))


IN_ORDER = replace(SMALL, launchpad=True)
FACTS: dict[str, Target] = {
    "PolicyAdopted": Target(at_kind("PolicyAdopted"), POLICED),
    "ClearanceRequested": Target(at_kind("ClearanceRequested"), POLICED),
    "ReleaseRequested": Target(at_kind("ReleaseRequested"), POLICED),
    "AccountVerified": _of_lane("AccountVerified", POLICED),
    "RequestCleared": _of_lane("RequestCleared", POLICED),
    "RequestHeld": _of_lane("RequestHeld", POLICED),
    "HoldLapsed": _of_lane("HoldLapsed", POLICED, loosen),
    "MintOk": Target(at_kind("MintOk")),
    "ContractEvent": _of_lane("ContractEvent"),
    "BlocksFollowed": _of_lane("BlocksFollowed"),
    "SupplyCompared": _of_lane("SupplyCompared"),
    "SupplyTraced": _of_lane("SupplyTraced", SMALL, give),
    "EventRetracted": _of_lane("EventRetracted", DEEP, reorganise_deeply),
    "ChainHalted": _of_lane("ChainHalted", DEEP, reorganise_deeply),
    "ChainResumed": Target(
        at_verb("replay evm.events"), DEEP, reorganise_deeply, armed_by="ChainResumed"
    ),
    "RelayRequested": Target(at_kind("RelayRequested")),
    "LaneOpened": _of_lane("LaneOpened"),
    "TransactionPrepared": _of_lane("TransactionPrepared"),
    "TransactionBroadcast": _of_lane("TransactionBroadcast"),
    "TransactionResent": _of_lane("TransactionResent", SMALL, drop),
    "TransactionIncluded": _of_lane("TransactionIncluded"),
    "TransactionOrphaned": _of_lane("TransactionOrphaned", SHALLOW, orphan),
    "TransactionFinal": _of_lane("TransactionFinal"),
    "RelayRefused": _of_lane("RelayRefused", SLOW),
    "RelayResumed": _of_lane("RelayResumed", SMALL, starve),
    "NonceTaken": _of_lane("NonceTaken", SMALL, outsider),
    "WalletSetAside": _of_lane("WalletSetAside", CROWDED, impoverish),
    "WalletRestored": _of_lane("WalletRestored", CROWDED, impoverish),
    "CancellationRequested": Target(at_kind("CancellationRequested"), GIVEN_UP, cancel),
    "LaneResumed": Target(at_verb("fence"), DEEP, rewrite_and_resume, armed_by="LaneResumed"),
    "LaneReconciled": _of_lane("LaneReconciled", DEEP, rewrite_and_resume),
    "NonceRequested": Target(at_kind("NonceRequested"), IN_ORDER),
    "NoncesCounted": _of_lane("NoncesCounted", IN_ORDER),
    "NonceGranted": _of_lane("NonceGranted", IN_ORDER),
    "NonceFreed": _of_lane("NonceFreed", replace(SLOW, launchpad=True)),
    "MintSeen": Target(at_kind("MintSeen"), IN_ORDER),
    "MintRetracted": Target(
        at_kind("MintRetracted"), replace(DEEP, launchpad=True), reorganise_deeply
    ),
    "MintAttributed": _of_lane("MintAttributed", IN_ORDER),
    "MintUnattributed": _of_lane("MintUnattributed", replace(IN_ORDER, foreign_mints=3)),
    "AttributionRetracted": _of_lane(
        "AttributionRetracted", replace(DEEP, launchpad=True), reorganise_deeply
    ),
    "NameRefused": _of_lane("NameRefused", IN_ORDER, share_a_name),
    "LaneHalted": _of_lane("LaneHalted", DEEP, rewrite),
}
"""By the kind of the fact whose append is the arrow."""

EFFECTS: dict[str, Target] = {
    "a replacement": Target(
        _prepared(lambda fact: fact.replaces is not None), SLOW, in_a_transaction=True
    ),
    "a no-op": Target(_prepared(lambda fact: fact.relay is None), SLOW, in_a_transaction=True),
    "work given back for another wallet": _of_lane("RelayRefused", CROWDED, impoverish),
    "the guard records a digest": Target(at_verb("claim")),
    "KMS signs": Target(at_verb("sign")),
    "nodes take bytes": Target(at_verb("broadcast")),
    "nodes take the same bytes again": Target(
        at_verb("broadcast"), SMALL, drop, armed_by="TransactionBroadcast"
    ),
    "a lane or a follower fences": Target(at_verb("fence")),
    "a lane replays": Target(at_verb("replay lanes")),
    "a book replays": Target(at_verb("replay requests")),
    "a follower replays": Target(at_verb("replay evm.events")),
    "Kuro's list is fetched": Target(at_verb("list")),
    "offsets of decide": Target(at_verb("commit offsets of decide")),
    "offsets of sign": Target(at_verb("commit offsets of sign")),
    "offsets of relay": Target(at_verb("commit offsets of relay")),
    "a node is asked": Target(at_verb("ask a node")),
}
"""What else a process does to the outside, or waits for from it."""


def _lanes_reconcile() -> bool:
    """Whether a lane's owner serves `LaneResumed` yet; else there is nothing to kill."""
    sources = (ROOT / "streams").glob("*.py")
    return any("reconcile" in path.read_text(encoding="utf-8") for path in sources)


AWAITED = {"LaneReconciled", "LaneResumed"}
"""Kinds that stand in the vocabulary before the agents that serve them."""
TARGETS = {
    name: target
    for name, target in (FACTS | EFFECTS).items()
    if name not in AWAITED or _lanes_reconcile()
}


def kill_at(target: Target, moment: Moment, seed: int = 1) -> tuple[Aim, Outcome]:
    """A whole run with one kill; the outcome holds every violation of the oracle."""
    aim = Aim(target.wants, moment)

    def prepare(run: Run) -> None:
        target.prepare(run)
        if target.armed_by is not None:
            aim.armed = False
            at_first(run, target.armed_by, lambda: setattr(aim, "armed", True))

    return aim, simulate(seed, Agents(), target.scenario, aim, prepare)
