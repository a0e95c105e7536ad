"""What a seed decides: the size of the world, its load, and how bad its weather is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from random import Random

from schemas.policies import Policy
from tests.simulation.policing import policy_of

ALL_ROLES = ("decide", "sign", "relay", "ingest")
LAYOUTS: tuple[tuple[tuple[str, ...], ...], ...] = (
    (ALL_ROLES, ALL_ROLES),
    (("decide",), ("decide",), ("sign",), ("relay",), ("relay",), ("ingest",)),
    (("decide", "sign"), ("decide", "sign"), ("relay", "ingest"), ("relay", "ingest")),
    (("decide",), ("sign",), ("sign",), ("relay",), ("relay", "ingest"), ("ingest",)),
    (ALL_ROLES, ("relay",), ("decide",)),
)


@dataclass(frozen=True)
class Scenario:
    """Times in seconds of the simulation, chances as probabilities."""

    layout: tuple[tuple[str, ...], ...]
    chains: int
    wallets: int
    confirmations: int
    block_seconds: float
    mints: int
    redeems: int
    bad_mints: int
    conflicts: int
    garbage: int
    load_seconds: float
    faults_seconds: float
    ttl_seconds: int
    in_flight_limit: int
    kills_every: float
    pauses_every: float
    zombies: float
    lost_requests: float
    lost_answers: float
    late_arrivals: float
    reorganisations_every: float
    drops_every: float
    node_lags: float
    nodes_contradict: bool
    node_outages_every: float
    kms_outages_every: float
    kms_throttled: float
    block_share: float
    outsiders: int
    front_runs: float
    deep_reorganisation: bool
    pause_orders_every: float
    cancels_every: float
    retries_every: float
    launchpad: bool
    """The last chain's contract has the `launchpad` profile."""
    foreign_mints: int
    """Mints there by another signer, some of requests that are ours."""
    rate_limits: float
    gas_misjudged_every: float
    policy: Policy | None = None
    compared_within_seconds: float = 0.0
    """What the signing role demands; 0 is nothing."""

    @classmethod
    def of(cls, seed: int) -> Scenario:
        rng = Random(f"scenario {seed}")

        def often(probability: float, low: float, high: float) -> float:
            """How often something happens, or never."""
            return rng.uniform(low, high) if rng.random() < probability else 0.0

        faults = rng.uniform(40, 110)
        scenario = cls(
            layout=rng.choice(LAYOUTS),
            chains=rng.choice((1, 1, 2)),
            wallets=rng.choice((1, 1, 2)),
            confirmations=rng.choice((2, 3, 4)),
            block_seconds=rng.choice((1.0, 2.0, 3.0)),
            mints=rng.randint(5, 14),
            redeems=rng.choice((0, 1, 2, 4)),
            bad_mints=rng.choice((0, 0, 1, 2)),
            conflicts=rng.choice((0, 0, 1)),
            garbage=rng.choice((0, 0, 1, 2)),
            load_seconds=rng.uniform(1, faults * 0.8),
            faults_seconds=faults,
            ttl_seconds=rng.choice((60, 60, 600, 600, 86_400)),
            in_flight_limit=rng.choice((2, 8, 512)),
            kills_every=often(0.75, 4, 25),
            pauses_every=often(0.5, 8, 30),
            zombies=often(0.5, 0.1, 0.6),
            lost_requests=often(0.6, 0.005, 0.06),
            lost_answers=often(0.6, 0.005, 0.06),
            late_arrivals=often(0.3, 0.1, 0.5),
            reorganisations_every=often(0.6, 5, 25),
            drops_every=often(0.5, 3, 20),
            node_lags=often(0.5, 0.1, 0.7),
            nodes_contradict=Random(f"contradictions {seed}").random() < 0.3,
            node_outages_every=often(0.25, 20, 40),
            kms_outages_every=often(0.3, 15, 40),
            kms_throttled=often(0.4, 0.05, 0.5),
            block_share=rng.choice((1.0, 0.9, 0.5)),
            outsiders=rng.choice((0, 0, 0, 0, 1, 2)),
            front_runs=often(0.15, 0.1, 0.5),
            deep_reorganisation=rng.random() < 0.03,
            pause_orders_every=often(0.5, 8, 40),
            cancels_every=often(0.4, 8, 40),
            retries_every=often(0.4, 8, 40),
            launchpad=rng.random() < 0.4,
            foreign_mints=rng.choice((0, 1, 3)),
            rate_limits=often(0.3, 0.02, 0.2),
            gas_misjudged_every=often(0.15, 8, 30),
            policy=policy_of(seed),
            compared_within_seconds=60.0 if seed % 2 else 0.0,
        )
        given_up = scenario.cancels_every or scenario.foreign_mints or scenario.policy
        if scenario.launchpad and given_up:
            # A nonce whose request was given up (a policy may hold it for good), or was minted by
            # another signer under another nonce, may hold up those behind it until their
            # approvals' time is over.
            return replace(scenario, ttl_seconds=min(600, scenario.ttl_seconds))
        return scenario
