"""Putting a world together from a scenario."""

from __future__ import annotations

from functools import lru_cache
from random import Random

from eth_utils.crypto import keccak

from orchestrator.adapters.wallets import LocalWallet
from orchestrator.config import ChainConfig, Settings
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.core.terms import ChainTerms, Terms
from orchestrator.registry_settings import Registry
from tests.simulation.aiming import Aim
from tests.simulation.broker import Broker
from tests.simulation.chain import Chain, Contract
from tests.simulation.contract import Stablecoin
from tests.simulation.groups import Group
from tests.simulation.guard import SimulatedGuard
from tests.simulation.launchpad import FOREIGN_SIGNER, LAUNCHPAD, LaunchpadStableCoin
from tests.simulation.loop import SimulatedLoop
from tests.simulation.node import Manners
from tests.simulation.oracle import Oracle
from tests.simulation.outside import APPROVER, HOLDERS, Kuro, SimulatedKms
from tests.simulation.overseer import Overseer
from tests.simulation.registry import REGISTRY
from tests.simulation.scenario import ALL_ROLES, Scenario
from tests.simulation.story import Story
from tests.simulation.wire import Weather, Wire
from tests.simulation.worker import Agents, World

FIRST_CHAIN = 5920
GUARD_MARGIN_SECONDS = 10
"""More than a chain of the model is ahead of its clock: each branch that is longer by a block puts
it a second ahead, for blocks are a second apart at least (seen: five)."""
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"


@lru_cache
def wallet(chain_id: int, number: int) -> LocalWallet:
    return LocalWallet("0x" + keccak(text=f"wallet {chain_id} {number}").hex())


def weather_of(scenario: Scenario, share: float) -> Weather:
    return Weather(
        lost_request=scenario.lost_requests * share,
        lost_answer=scenario.lost_answers * share,
        late_arrival=scenario.late_arrivals,
        longest_delay_seconds=0.3,
    )


def build(scenario: Scenario, rng: Random, agents: Agents, aim: Aim | None = None) -> World:
    loop = SimulatedLoop(rng)
    story = Story(loop)
    log_wire = Wire(loop, rng, weather_of(scenario, 0.5))
    chain_wire = Wire(loop, rng, weather_of(scenario, 1.0))
    kms_wire = Wire(loop, rng, weather_of(scenario, 1.0))
    for wire in (log_wire, chain_wire, kms_wire):
        wire.aim = aim
    settings = Settings(
        approval_ttl_seconds=scenario.ttl_seconds,
        confirmations=scenario.confirmations,
        head_poll_seconds=1.0,
        supply_compare_seconds=5.0,
        supply_compared_within_seconds=scenario.compared_within_seconds,
        lane_in_flight_limit=scenario.in_flight_limit,
        kms_concurrency=4,
        kuro_mint_chain_id=FIRST_CHAIN,
    )
    chain_ids = range(FIRST_CHAIN, FIRST_CHAIN + scenario.chains)
    wallets = {c: [wallet(c, n) for n in range(scenario.wallets)] for c in chain_ids}
    chains, manners, configs = {}, {}, {}
    padded = chain_ids[-1] if scenario.launchpad else None
    for chain_id in chain_ids:
        addresses = tuple(item.address for item in wallets[chain_id])
        configs[chain_id] = ChainConfig(
            chain_id=chain_id,
            rpc_urls=(),
            contract=CONTRACT,
            wallets=addresses,
            confirmations=scenario.confirmations,
            start_block=0,
            profile=LAUNCHPAD if chain_id == padded else ORCHESTRATOR,
            registry=Registry(REGISTRY),
        )
        contract: Contract = Stablecoin(chain_id, CONTRACT, APPROVER)
        if chain_id == padded:
            signers = frozenset({APPROVER, FOREIGN_SIGNER})
            relayers = frozenset({*addresses, HOLDERS[2]})
            contract = LaunchpadStableCoin(chain_id, CONTRACT, signers, relayers)
        chain = Chain(contract, rng, lambda: loop.unix_seconds, scenario.confirmations)
        chain.funds = dict.fromkeys(addresses, 10**24)
        chains[chain_id] = chain
        manners[chain_id] = Manners(
            lags=scenario.node_lags,
            contradict=scenario.nodes_contradict,
            rate_limited=scenario.rate_limits,
        )
    oracle = Oracle(story, chains, Overseer(story, loop.time))
    broker = Broker(log_wire, fencing=agents.fencing)
    broker.witnesses.append(oracle.witness)
    broker.recorders.append(oracle.recorded)
    if scenario.policy is not None:
        broker.dice_of_ends = Random(f"ends {scenario.policy.version}")
    kms = SimulatedKms(kms_wire, oracle.on_ask)
    apart = Random()
    apart.setstate(rng.getstate())
    guard_wire = Wire(loop, apart, weather_of(scenario, 1.0))
    guard_wire.aim = aim
    guard = SimulatedGuard(guard_wire, GUARD_MARGIN_SECONDS, guard_wire.now)
    guard.on_refusal = lambda refusal: story.count(f"guard refusals, {refusal.kind}")
    kms.throttled = scenario.kms_throttled
    kms.on_start = oracle.overseer.asks_kms
    terms = Terms(
        {c: ChainTerms(c, CONTRACT, conf.wallets, conf.profile) for c, conf in configs.items()},
        scenario.ttl_seconds,
    )
    return World(
        loop=loop,
        story=story,
        oracle=oracle,
        broker=broker,
        log_wire=log_wire,
        chain_wire=chain_wire,
        chains=chains,
        manners=manners,
        kms=kms,
        guard=guard,
        kuro=Kuro(),
        groups={role: Group(role, loop, log_wire, story, scenario.zombies) for role in ALL_ROLES},
        settings=settings,
        configs=configs,
        wallets=wallets,
        terms=terms,
        agents=agents,
        policed=scenario.policy is not None,
    )
