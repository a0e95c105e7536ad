"""Somebody writes to `requests`, or mints elsewhere: without the gate it is signed, with it not."""

from __future__ import annotations

from schemas.base import Record, RequestType, encode_value, instant
from schemas.requests import RequestReceived
from schemas.topics import REQUESTS
from tests.simulation.outside import HOLDERS
from tests.simulation.running import Run, simulate
from tests.simulation.worker import Agents

FORGED = "forged-1"
HARM = "minted without its fact"
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
