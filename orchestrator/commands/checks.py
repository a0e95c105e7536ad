"""What `orchestrator doctor` looks at: each dependency, each with what to do when it is not well.

Nothing is changed and nothing is signed: a signature without its fact would be an incident.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from functools import partial
from pathlib import Path

from orchestrator.commands.closer_checks import (
    compared,
    kafka_rights,
    lost_log,
    not_begun_anew,
    projecting,
    signing,
)
from orchestrator.commands.findings import Check, State
from orchestrator.commands.showing import ether
from orchestrator.config import ChainConfig, Config, Need, load
from orchestrator.core.chain import Head
from orchestrator.errors import ConfigurationError, OrchestratorError

ANSWER_SECONDS = 15.0
FIRST_SESSION_SECONDS = 8.0
"""How long a busy database may take for a first session before it counts as away."""
OLD_BLOCK_SECONDS = 120
CLOCK_SECONDS = 5.0
"""Requests to AWS are refused when clocks differ by five minutes; deadlines are told in seconds."""
AHEAD_SECONDS = 60
"""How far a chain's newest block may be ahead of this machine."""
TOTAL_SUPPLY = "0x18160ddd"
"""Selector of ERC-20's `totalSupply()` (EIP-20): whatever has it is a token."""


Look = Callable[[Config], Awaitable[list[Check]]]


async def examine(roles: Sequence[str] = ()) -> list[Check]:
    """Every check, those that cannot run included; of `roles`, what they may do on Kafka."""
    found = configuration()
    looks: list[tuple[str, tuple[Need, ...], Look]] = [
        ("Kafka", (Need.KAFKA,), partial(kafka, roles=roles)),
        ("log", (Need.KAFKA, Need.DATABASE), lost_log),
        ("PostgreSQL", (Need.DATABASE,), database),
        ("KMS", (Need.KMS,), kms),
        ("Kuro", (Need.KURO,), kuro),
        ("chains", (Need.NODES, Need.CONTRACTS, Need.WALLETS), chains),
        ("clock", (Need.DATABASE,), clock),
        ("seals", (), seals),
        ("STATE_DIR", (), states),
    ]
    for checks in await asyncio.gather(*(_looked(*look) for look in looks)):
        found += checks
    return not_begun_anew(found)


def configuration() -> list[Check]:
    """Every problem of the settings, as if one process ran all roles."""
    try:
        config = load(Need)
    except ConfigurationError as error:
        found = []
        for problem in error.problems:
            name, _, detail = problem.partition(": ")
            found.append(Check(name, State.BROKEN, detail, "see env.example"))
        return found
    return [
        Check("settings", State.WELL, "complete for all roles in one process"),
        *(Check(item.name, State.WARNING, item.detail, item.remedy) for item in config.exposures),
    ]


async def _looked(subject: str, needs: Iterable[Need], look: Look) -> list[Check]:
    try:
        config = load(needs)
    except ConfigurationError:
        return [Check(subject, State.BROKEN, "not looked at", "mend the settings first")]
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            return await look(config)
    except TimeoutError:
        detail = f"no answer within {ANSWER_SECONDS:.0f} s"
        return [Check(subject, State.BROKEN, detail, "is it there, and may this machine reach it?")]
    except OrchestratorError as error:
        return [Check(subject, State.BROKEN, str(error), _REMEDIES[subject])]


_REMEDIES = {
    "Kafka": "check KAFKA_BOOTSTRAP_SERVERS and KAFKA_SECURITY_PROTOCOL; are the brokers up?",
    "PostgreSQL": "check DATABASE_URL, and the server itself",
    "KMS": "check AWS_REGION, KMS_KEY_ID, AWS_ENDPOINT_URL_KMS, the credentials and their policy "
    "(deploy/security/kms-policy.json); see docs/runbooks/kms-down.md",
    "Kuro": "check KURO_WEBSOCKET_URL and KURO_REST_URL, and Kuro itself",
    "chains": "check the nodes' URLs",
    "seals": "check SEAL_KMS_KEY_ID, SEAL_ANCHORS and SEAL_PUBLIC_KEYS_FILE; see docs/seals.md",
}


async def kafka(config: Config, roles: Sequence[str]) -> list[Check]:
    """The brokers let us in, their certificates last; every topic is there, with its partitions and
    its retention; what roles do there is allowed."""
    from orchestrator.commands.tls_checks import kafka_certificates
    from orchestrator.kafka_clients import troubles_of
    from streams.topics import check_topics

    found = await troubles_of(config.kafka)
    troubles = [trouble for trouble in found if trouble is not None]
    state = State.BROKEN if len(troubles) == len(found) else State.WARNING
    checks = [
        Check("Kafka", state, f"{item.server}: {item.detail}", item.remedy) for item in troubles
    ]
    checks += await kafka_certificates(config.kafka)
    if state is State.BROKEN:
        return checks
    checks += await kafka_rights(config, roles)
    problems = await check_topics(config.kafka)
    if not problems:
        return [Check("Kafka", State.WELL, "answers; every topic is as it must be"), *checks]
    return [
        *(Check("Kafka", State.BROKEN, detail, remedy) for detail, remedy in problems),
        *checks,
    ]


async def database(config: Config) -> list[Check]:
    """It answers, has this version's tables, and somebody writes them."""
    from orchestrator.commands.tls_checks import postgres_certificates
    from projections.health import check_database, check_projection
    from projections.store import Store

    store = Store(config.database_url)
    await store.open()
    patience_ends = time.monotonic() + FIRST_SESSION_SECONDS
    try:
        found = await check_database(store)
        while not found["database"].ok and time.monotonic() < patience_ends:
            await asyncio.sleep(0.5)
            found = await check_database(store)
        checks = [
            await _session(config, found["database"]),
            _of("tables", found["migrations"], "run: orchestrator init"),
        ]
        if all(check.state is State.WELL for check in checks):
            projection = await check_projection(store)
            checks.append(projecting(projection.ok, projection.detail))
        return [*checks, *await postgres_certificates(config)]
    finally:
        await store.close()


async def _session(config: Config, found: object) -> Check:
    """The pool says only that nobody answers; one session of its own says why."""
    from psycopg import Error

    from orchestrator.postgres_troubles import advice
    from projections.database import connect, describe

    if not getattr(found, "ok", False):
        try:
            await (await connect(config.database_url)).close()
        except Error as error:
            remedy = advice(str(error)) or DATABASE_REMEDY
            return Check("PostgreSQL", State.BROKEN, describe(error, advised=False), remedy)
    return _of("PostgreSQL", found, DATABASE_REMEDY)


DATABASE_REMEDY = "check DATABASE_URL and its access rules"


def _of(subject: str, check: object, remedy: str) -> Check:
    ok, detail = bool(getattr(check, "ok", False)), str(getattr(check, "detail", ""))
    return Check(subject, State.WELL if ok else State.BROKEN, detail, "" if ok else remedy)


async def kms(config: Config) -> list[Check]:
    """The key can be read and is one that signs approvals; whether we may is asked by a dry run."""
    from orchestrator.adapters.kms import KmsSigner

    settings = config.settings
    assert settings.kms_key_id is not None and settings.aws_region is not None
    signer = KmsSigner(
        settings.kms_key_id, settings.aws_region, endpoint_url=settings.aws_endpoint_url_kms
    )
    try:
        address = await signer.address()
    finally:
        await signer.close()
    return [
        Check("KMS", State.WELL, f"approvals are signed by {address}"),
        await signing(config),
    ]


async def kuro(config: Config) -> list[Check]:
    """Its socket opens and its list of pending requests can be read."""
    from orchestrator.adapters.kuro import KuroSource

    settings = config.settings
    assert settings.kuro_websocket_url is not None and settings.kuro_rest_url is not None
    source = KuroSource(settings.kuro_websocket_url, settings.kuro_rest_url)
    socket, listed = await source.probe()
    checks = []
    for subject, problem, name in (
        ("Kuro's socket", socket, "KURO_WEBSOCKET_URL"),
        ("Kuro's list", listed, "KURO_REST_URL"),
    ):
        if problem is None:
            checks.append(Check(subject, State.WELL, "answers"))
        else:
            checks.append(Check(subject, State.BROKEN, problem, f"check {name}, and Kuro itself"))
    return checks


async def seals(config: Config) -> list[Check]:
    """Each anchor holds a seal of the newest day that is due, and the key is one for seals."""
    from orchestrator.commands.seal_checks import seal_checks

    return await seal_checks(config)


async def states(config: Config) -> list[Check]:
    """Nothing when STATE_DIR is not set: then nothing is kept."""
    from orchestrator.commands.state_checks import state_folder

    place = config.settings.state_dir
    if place is None:
        return []
    return [await asyncio.to_thread(state_folder, Path(place), config.settings.kafka_prefix)]


async def clock(config: Config) -> list[Check]:
    """This machine's clock beside the database's; nothing when that does not answer."""
    from projections.store import Store, StoreUnavailable

    store = Store(config.database_url)
    await store.open()
    try:
        begun = time.time()
        rows = await store.rows("SELECT extract(epoch FROM clock_timestamp())::float8 AS at")
        took = time.time() - begun
    except StoreUnavailable:
        return []
    finally:
        await store.close()
    return [clocks_compared(begun + took / 2 - float(rows[0]["at"]), took / 2)]


def clocks_compared(ahead_seconds: float, doubt_seconds: float) -> Check:
    """By how much this machine is ahead (behind: below zero), give or take so much."""
    differ = abs(ahead_seconds)
    if differ - doubt_seconds <= CLOCK_SECONDS:
        return Check("clock", State.WELL, "as the database's, to a few seconds")
    word = "ahead of" if ahead_seconds > 0 else "behind"
    detail = f"this machine is {differ:.0f} s {word} the database"
    remedy = "see which one is wrong (chronyc tracking): AWS refuses requests of a wrong clock"
    return Check("clock", State.WARNING, detail, remedy)


async def chains(config: Config) -> list[Check]:
    found = await asyncio.gather(*(_chain(config, chain) for chain in config.chains.values()))
    return [check for checks in found for check in checks]


async def _chain(config: Config, chain: ChainConfig) -> list[Check]:
    """Every URL of a chain by itself, its contract, and its wallets."""
    from orchestrator.adapters.evm_rpc import EvmNode

    nodes: list[tuple[Check, Head | None]] = []
    for number, url in enumerate(chain.rpc_urls, 1):
        subject = f"chain {chain.chain_id}, node {number} of {len(chain.rpc_urls)}"
        node = EvmNode(chain.chain_id, [url])
        try:
            nodes.append(await _node(subject, node))
        except OrchestratorError as error:
            remedy = f"check URL {number} of KADENA_EVM_CHAIN_{chain.chain_id}_RPC"
            nodes.append((Check(subject, State.BROKEN, str(error), remedy), None))
        finally:
            await node.close()
    checks = compared(chain, nodes)
    node = EvmNode(chain.chain_id, chain.rpc_urls)
    try:
        checks.append(await _contract(chain, node))
        for wallet in chain.wallets:
            checks.append(await _wallet(config, chain, wallet, node))
    except OrchestratorError as error:
        checks.append(Check(f"chain {chain.chain_id}", State.BROKEN, str(error), "see its nodes"))
    finally:
        await node.close()
    return checks


async def _node(subject: str, node: object) -> tuple[Check, Head]:
    from orchestrator.adapters.evm_rpc import EvmNode

    assert isinstance(node, EvmNode)
    await node.check_chain()
    head = await node.head()
    age = int(time.time()) - head.timestamp
    if -age > AHEAD_SECONDS:
        detail = f"at block {head.number}, which is {-age} s ahead of this machine's clock"
        return Check(subject, State.WARNING, detail, "compare clocks: chronyc tracking"), head
    detail = f"at block {head.number}, {max(age, 0)} s old"
    if age > OLD_BLOCK_SECONDS:
        remedy = "the node may have stopped syncing, or the chain makes no blocks"
        return Check(subject, State.WARNING, detail, remedy), head
    return Check(subject, State.WELL, detail), head


async def _contract(chain: ChainConfig, node: object) -> Check:
    from orchestrator.adapters.evm_rpc import EvmNode
    from orchestrator.ports import Call

    assert isinstance(node, EvmNode)
    subject = f"chain {chain.chain_id}, contract"
    answer = await node.call(Call(chain.contract, chain.contract, TOTAL_SUPPLY))
    if len(answer) != 66:
        name = f"STABLECOIN_CONTRACT_ADDRESS_{chain.chain_id}"
        detail = f"{chain.contract} is no token: it has no totalSupply"
        return Check(subject, State.BROKEN, detail, f"check {name}")
    detail = f"{chain.contract}, total supply {int(answer, 16)} base units"
    final = max(0, (await node.head()).number - chain.confirmations)
    try:
        await node.call(Call(chain.contract, chain.contract, TOTAL_SUPPLY), final)
    except OrchestratorError as error:
        detail += f", not to be compared with the log: no node tells that of block {final}: {error}"
        remedy = f"a node that keeps states {chain.confirmations} blocks back"
        return Check(subject, State.WARNING, detail, remedy)
    return Check(subject, State.WELL, detail)


async def _wallet(config: Config, chain: ChainConfig, wallet: str, node: object) -> Check:
    from orchestrator.adapters.evm_rpc import EvmNode

    assert isinstance(node, EvmNode)
    balance, nonce = await asyncio.gather(node.balance(wallet), node.transaction_count(wallet))
    low = config.settings.wallet_low_wei
    detail = f"{wallet}: {ether(balance)} of the chain's currency, nonce {nonce}"
    if balance < low:
        state = State.BROKEN if balance == 0 else State.WARNING
        remedy = f"send it funds: WALLET_LOW_WEI is {ether(low)}"
        return Check(f"chain {chain.chain_id}, wallet", state, detail, remedy)
    return Check(f"chain {chain.chain_id}, wallet", State.WELL, detail)
