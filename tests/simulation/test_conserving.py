"""Somebody writes to `requests`, or mints beside us: without the gate it is signed, with it not."""

from __future__ import annotations

from dataclasses import replace

import pytest

from schemas.base import Record, RequestType, encode_value, instant
from schemas.requests import RequestReceived
from schemas.topics import REQUESTS
from tests.simulation.building import APPROVER, CONTRACT
from tests.simulation.contract import TOTAL_SUPPLY, Stablecoin
from tests.simulation.outside import HOLDERS
from tests.simulation.running import Run, simulate
from tests.simulation.scenario import Scenario
from tests.simulation.settling import LOOKS_SECONDS
from tests.simulation.worker import Agents

FORGED = "forged-1"
HARM = "asked for more than facts cover"
ALARM = "an agent reports: the gate refuses a signature"
SEEDS = range(4)


def forge(run: Run) -> None:
    """A request whose fact Kuro never told."""

    def append() -> None:
        world = run.world
        fact = RequestReceived(
            request_key=FORGED,
            request_id=FORGED,
            type=RequestType.MINT,
            chain_id=min(world.chains),
            user=HOLDERS[0],
            amount="300000000000000",
            fiat_ref="wire-forged",
            origin="kuro.events/0/0",
        )
        record = Record(fact, instant(world.loop.unix_seconds))
        world.broker.append([(REQUESTS, fact.key.encode(), encode_value(record))])

    run.world.loop.in_world(3, append)


def first_of(seed: int, gated: bool) -> str:
    outcome = simulate(seed, Agents(gated=gated), prepare=forge)
    return outcome.violations[0].partition(";")[0] if outcome.violations else "nothing"


def test_without_the_gate_a_forged_request_is_minted():
    assert HARM in {first_of(seed, gated=False) for seed in SEEDS}


def test_with_it_somebody_is_told_and_nothing_is_signed():
    assert {first_of(seed, gated=True) for seed in SEEDS} <= {ALARM, "nothing"}
    assert ALARM in {first_of(seed, gated=True) for seed in SEEDS}


# A supply that no event of ours explains

GIFT = 300_000_000_000_000
GIVEN_AT = 6.0
QUIET = dict.fromkeys(
    (
        "kills_every",
        "pauses_every",
        "reorganisations_every",
        "node_outages_every",
        "kms_outages_every",
        "pause_orders_every",
        "cancels_every",
        "retries_every",
        "foreign_mints",
        "node_lags",
        "rate_limits",
        "lost_requests",
        "lost_answers",
    ),
    0,
)
CHAIN = 5920


def calm(seed: int) -> Scenario:
    """Mints all along, and nothing else goes wrong: what is held up, the gate holds up."""
    return replace(
        Scenario.of(seed),
        **QUIET,
        chains=1,
        launchpad=False,
        deep_reorganisation=False,
        policy=None,
        mints=60,
        load_seconds=60.0,
        faults_seconds=70.0,
        confirmations=2,
        block_seconds=1.0,
    )


class Given:
    """Somebody with a minter's role mints in the next block after `GIVEN_AT`."""

    def __init__(self, seed: int, *, gated: bool) -> None:
        self.asked: list[float] = []
        self.runs: list[Run] = []
        self.outcome = simulate(seed, Agents(gated=gated), calm(seed), prepare=self._prepare)

    def _prepare(self, run: Run) -> None:
        self.runs.append(run)
        world = run.world
        world.loop.in_world(GIVEN_AT, world.chains[CHAIN].gift, HOLDERS[0], GIFT)
        oversees = world.kms.on_start

        def asks(digest: str) -> None:
            self.asked.append(world.loop.time())
            oversees(digest)

        world.kms.on_start = asks

    def asked_between(self, begin: float, end: float) -> int:
        return sum(1 for at in self.asked if begin < at < end)


@pytest.mark.parametrize("seed", (1, 2, 3))
def test_a_supply_that_no_event_explains_pauses_until_a_person_settles_it(seed):
    without, held = Given(seed, gated=False), Given(seed, gated=True)
    assert not held.outcome.violations and not without.outcome.violations
    paused_at, pause = held.runs[0].doubts[0]
    assert {told for _, told in held.runs[0].doubts} == {pause}, "each signer tells the same"
    assert GIVEN_AT < paused_at < GIVEN_AT + 40
    block = next(
        block for block in held.runs[0].world.chains[CHAIN].blocks if block.state.supply >= GIFT
    )
    [tx_hash] = {log.tx_hash for log in block.logs if log.data == f"0x{GIFT:064x}"}
    assert f"block {block.head.number}" in pause.why and tx_hash in pause.why
    assert held.asked_between(paused_at, paused_at + LOOKS_SECONDS) == 0
    assert held.asked_between(paused_at + LOOKS_SECONDS, 1e9) > 0, "and then it goes on"
    assert not without.runs[0].doubts
    assert without.asked_between(paused_at, paused_at + LOOKS_SECONDS) > 0, "the harm"


class Reticent(Stablecoin):
    """Its `totalSupply` reverts, as where nodes do not tell it."""

    def is_view(self, data: str) -> bool:
        return data != TOTAL_SUPPLY and super().is_view(data)


@pytest.mark.parametrize("demanded", (False, True), ids=("alert only", "demanded"))
def test_nodes_that_tell_no_supply_hold_up_signatures_only_where_a_comparison_is_demanded(demanded):
    asked: list[float] = []
    told_again = 40.0
    scenario = replace(calm(1), compared_within_seconds=60.0 if demanded else 0.0)

    def prepare(run: Run) -> None:
        world = run.world
        chain, oversees = world.chains[CHAIN], world.kms.on_start
        world.loop.in_world(told_again, setattr, chain, "contract", chain.contract)
        chain.contract = Reticent(chain.chain_id, CONTRACT, APPROVER)

        def asks(digest: str) -> None:
            asked.append(world.loop.time())
            oversees(digest)

        world.kms.on_start = asks

    outcome = simulate(1, Agents(gated=True), scenario, prepare=prepare)
    assert not outcome.violations and outcome.counts["comparisons"] >= 3
    before = sum(1 for at in asked if at < told_again)
    assert before == 0 if demanded else before > 5
    assert len(asked) >= scenario.mints, "and in the end, each is asked for"


def test_seeds_compare_the_supply_again_and_again():
    counts = [simulate(seed).counts for seed in SEEDS]
    assert all(count.get("comparisons", 0) >= 3 for count in counts), counts
