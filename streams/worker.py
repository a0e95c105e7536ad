"""The composition root of the write side: which agents run here, and what they are made of.

Each role is a Faust app of its own, with its own consumer group, so that a process may run one role
or all of them. Faust assigns partitions, delivers batches and commits offsets; it keeps no state
here (docs/decisions/0002-faust-without-exactly-once.md).
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any

import faust
import structlog

from orchestrator.adapters.evm_rpc import EvmNode
from orchestrator.adapters.kafka_ends import KafkaEnds
from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter, partition_of
from orchestrator.adapters.kms import KmsSigner
from orchestrator.adapters.postgres_guard import PostgresGuard
from orchestrator.adapters.wallets import LocalWallet
from orchestrator.config import ChainConfig, Config, Need
from orchestrator.core.guarding import RefusalKind
from orchestrator.core.objections import ObjectionKind
from orchestrator.errors import LogUnavailable, SigningError
from orchestrator.metrics import GATE_REFUSALS, GUARD_REFUSALS, watch
from schemas.policies import POLICIES
from schemas.sequences import sequence_key
from schemas.topics import CONTROLS, EVM_EVENTS, KURO_EVENTS, LANES, REQUESTS, Topic
from streams.clearing import PolicyOwner
from streams.conserving import Gate
from streams.controls import Controls
from streams.deciding import Decider
from streams.lane_owner import LaneOwner
from streams.measuring import (
    of_book,
    of_controls,
    of_gate,
    of_guard,
    of_lanes,
    of_node,
    of_policies,
    of_sequences,
)
from streams.relaying import Owner, Relayer
from streams.retrying import Backoff
from streams.sequencing import SequenceOwner
from streams.shelving import shelved
from streams.signing import SigningDesk
from streams.transport import CommittedTransport, broker_of

log = structlog.get_logger(__name__)

SESSION_TIMEOUT_SECONDS = 10.0
"""After a kill, its partitions move this soon; Faust's own default is a minute."""
LARGEST_POLL = 2000
WAITING_POLLS = 8
"""How many batches of a topic may wait for their reader before no more are fetched."""

Read = Callable[[Sequence[Any]], Awaitable[None]]
Own = Callable[[set[int]], Awaitable[None]]


class Role(StrEnum):
    DECIDE = "decide"
    SIGN = "sign"
    RELAY = "relay"


NEEDS: dict[Role, frozenset[Need]] = {
    Role.DECIDE: frozenset({Need.KAFKA, Need.CONTRACTS, Need.WALLETS}),
    Role.SIGN: frozenset({Need.KAFKA, Need.CONTRACTS, Need.KMS}),
    Role.RELAY: frozenset({Need.KAFKA, Need.CONTRACTS, Need.NODES, Need.WALLET_KEYS}),
}


class RoleApp:
    """One role: a Faust app, what reads each topic, and what runs beside it."""

    def __init__(self, config: Config, role: Role, owned: Topic) -> None:
        self._role = role
        self._owned = owned
        self._owners: list[tuple[Callable[[], None], Own]] = []
        self._owning: asyncio.Task[None] | None = None
        self.app = faust.App(
            f"{config.settings.kafka_prefix}-{role}",
            **broker_of(config.kafka),
            store="memory://",
            datadir=Path(tempfile.gettempdir()) / f"{config.settings.kafka_prefix}-{role}",
            web_enabled=False,
            autodiscover=False,
            topic_allow_declare=False,
            topic_disable_leader=True,
            broker_session_timeout=SESSION_TIMEOUT_SECONDS,
            broker_heartbeat_interval=3.0,
            broker_commit_interval=1.0,
            broker_max_poll_records=LARGEST_POLL,
            stream_buffer_maxsize=WAITING_POLLS,
            stream_wait_empty=False,
            consumer_auto_offset_reset="earliest",
        )
        self.app.transport = CommittedTransport(
            self.app.conf.broker_consumer, self.app, loop=asyncio.get_running_loop()
        )
        self.app.on_partitions_assigned.connect(self._assigned)  # type: ignore[arg-type]

    def reads(self, topic: Topic, read: Read) -> None:
        """A Faust agent that hands over batches of raw messages. Its offsets are committed only
        after `read` has returned."""
        channel = self.app.topic(
            topic.name, key_type=bytes, value_type=bytes, value_serializer="raw"
        )

        async def agent(stream: Any) -> None:
            async for event in stream.events():
                await read(event.message.messages)
                self.app.consumer.done(event.message)  # type: ignore[attr-defined]

        agent.__name__ = f"{self._role}_{topic.name.replace('.', '_').replace('-', '_')}"
        self.app.agent(channel, name=agent.__name__)(agent)

    @property
    def generation(self) -> int:
        """Of the assignment that came last."""
        return int(self.app.consumer_generation_id)

    def owns(self, expect: Callable[[], None], own: Own) -> None:
        """`expect` is called at once when the assignment changes, `own` with the partitions."""
        self._owners.append((expect, own))

    def _assigned(self, _: Any, assigned: set[Any], **__: Any) -> None:
        numbers = {item.partition for item in assigned if item.topic == self._owned.name}
        for expect, _own in self._owners:
            expect()
        if self._owning is not None:
            self._owning.cancel()
        self._owning = asyncio.create_task(self._own(numbers), name=f"own {self._role}")

    async def _own(self, numbers: set[int]) -> None:
        backoff = Backoff()
        for _, own in self._owners:
            while True:
                try:
                    await own(numbers)
                    break
                except LogUnavailable as error:
                    log.warning("cannot replay yet", role=self._role, reason=str(error))
                    await backoff.sleep()

    async def watch(self) -> None:
        """Ends with an error when Faust does: the process ends, and is started anew."""
        await self.app.wait_until_stopped()
        reason = self.app.crash_reason
        raise RuntimeError(f"the {self._role} role stopped: {reason!r}") from reason

    async def close(self) -> None:
        if self._owning is not None:
            self._owning.cancel()
        await self.app.stop()


async def run_worker(config: Config, roles: Sequence[Role], stop: asyncio.Event) -> None:
    """Run these roles until `stop` is set, then leave their consumer groups."""
    async with AsyncExitStack() as stack:
        prefix = config.settings.kafka_prefix
        ends = KafkaEnds(config.kafka, f"{prefix}-controls-end")
        stack.push_async_callback(ends.close)
        controls = Controls(KafkaLog(config.kafka, f"{prefix}-controls", prefix), ends)
        stack.enter_context(watch(partial(of_controls, controls)))
        tasks: list[asyncio.Task[Any]] = [asyncio.create_task(controls.run(), name="controls")]
        for role in roles:
            app, running = await _MAKERS[role](config, stack, controls)
            tasks += running
            app.app.finalize()
            await app.app.start()
            stack.push_async_callback(app.close)
            tasks.append(asyncio.create_task(app.watch(), name=f"watch {role}"))
            log.info("role started", role=role)
        stopping = asyncio.create_task(stop.wait())
        tasks.append(stopping)
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopping}:
                task.result()
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)


async def _writer(config: Config, role: Role, stack: AsyncExitStack) -> KafkaWriter:
    writer = KafkaWriter(config.kafka, f"{config.settings.kafka_prefix}-{role}")
    backoff = Backoff()
    while True:
        try:
            await writer.start()
            break
        except LogUnavailable as error:
            log.warning("waiting for Kafka", reason=str(error))
            await backoff.sleep()
    stack.push_async_callback(writer.close)
    return writer


def _log(config: Config, role: Role) -> KafkaLog:
    prefix = config.settings.kafka_prefix
    return KafkaLog(config.kafka, f"{prefix}-{role}-replay", prefix)


Made = tuple[RoleApp, list[asyncio.Task[Any]]]


async def _deciding(config: Config, stack: AsyncExitStack, controls: Controls) -> Made:
    writer = await _writer(config, Role.DECIDE, stack)
    book = await shelved(config, Role.DECIDE, _log(config, Role.DECIDE))
    stack.enter_context(watch(partial(of_book, Role.DECIDE, book)))
    decider = Decider(book, writer, config.terms, controls)
    controls.hear(decider.hear)
    app = RoleApp(config, Role.DECIDE, REQUESTS)
    app.owns(book.expect, decider.own)
    app.reads(REQUESTS, decider.read)
    for topic in (KURO_EVENTS, EVM_EVENTS, LANES, CONTROLS):
        app.reads(topic, decider.forward)
    return app, [asyncio.create_task(decider.run(), name="decide")]


async def _signing(config: Config, stack: AsyncExitStack, controls: Controls) -> Made:
    settings = config.settings
    assert settings.kms_key_id is not None and settings.aws_region is not None
    signer = KmsSigner(
        settings.kms_key_id,
        settings.aws_region,
        endpoint_url=settings.aws_endpoint_url_kms,
        concurrency=settings.kms_concurrency,
    )
    stack.push_async_callback(signer.close)
    await _checked_key(signer)
    writer = await _writer(config, Role.SIGN, stack)
    book = await shelved(config, Role.SIGN, _log(config, Role.SIGN))
    stack.enter_context(watch(partial(of_book, Role.SIGN, book)))
    guard = _guard(config)
    if guard is not None:
        stack.push_async_callback(guard.close)
    limit = settings.kms_concurrency
    gate, gating = _gate(config, writer, controls)
    desk = SigningDesk(book, writer, signer, config.terms, limit, controls, guard, gate)
    stack.enter_context(watch(partial(of_guard, desk, guard)))
    stack.enter_context(watch(partial(of_gate, desk, gate)))
    controls.hear(desk.hear)
    app = RoleApp(config, Role.SIGN, REQUESTS)
    app.owns(book.expect, desk.own)
    app.reads(REQUESTS, desk.read)
    return app, [asyncio.create_task(desk.run(), name="sign"), gating]


def _gate(
    config: Config, writer: KafkaWriter, controls: Controls
) -> tuple[Gate, asyncio.Task[Any]]:
    for kind in ObjectionKind:
        GATE_REFUSALS.labels(kind)
    names = {number: terms.profile.contract_id for number, terms in config.terms.chains.items()}
    prefix = config.settings.kafka_prefix
    reader = KafkaLog(config.kafka, f"{prefix}-gate", prefix)
    within = config.settings.supply_compared_within_seconds
    gate = Gate(reader, writer, controls, names, within)
    return gate, asyncio.create_task(gate.run(), name="conservation gate")


def _guard(config: Config) -> PostgresGuard | None:
    """Off is said loudly, and shown by `signing_guard_on`."""
    url, own = config.signing_guard
    if url is None:
        log.warning(
            "the signing guard is OFF: a second digest of a request is kept from KMS by the log "
            "alone; set SIGNING_GUARD_URL"
        )
        return None
    for kind in RefusalKind:
        GUARD_REFUSALS.labels(kind)
    margin = config.settings.signing_guard_margin_seconds
    return PostgresGuard(url, margin, makes_schema=not own)


async def _checked_key(signer: KmsSigner) -> None:
    """A key of the wrong kind refuses the start (StartRefused); an absent KMS is waited for."""
    backoff = Backoff()
    while True:
        try:
            log.info("approvals are signed by", address=await signer.address())
            return
        except SigningError as error:
            log.warning("waiting for KMS", reason=str(error))
            await backoff.sleep()


async def _relaying(config: Config, stack: AsyncExitStack, controls: Controls) -> Made:
    lanes: dict[str, tuple[int, Callable[[], Owner]]] = {}
    nodes: dict[int, tuple[ChainConfig, EvmNode]] = {}
    facts = _log(config, Role.RELAY)
    app = RoleApp(config, Role.RELAY, LANES)
    for chain in config.chains.values():
        node = EvmNode(chain.chain_id, chain.rpc_urls)
        stack.push_async_callback(node.close)
        stack.enter_context(watch(partial(of_node, Role.RELAY, node)))
        if chain.profile.sequential:
            key = sequence_key(chain.chain_id)
            seat = partition_of(LANES, key)
            lanes[key] = (
                seat,
                partial(SequenceOwner, chain, node, facts, seat, config.settings),
            )
        for secret in chain.private_keys:
            wallet = LocalWallet(secret.get_secret_value())
            key = f"{chain.chain_id}:{wallet.address}"
            seat = partition_of(LANES, key)
            make = partial(LaneOwner, chain, wallet, node, facts, seat, config.settings, controls)
            lanes[key] = (seat, make)
        nodes[chain.chain_id] = chain, node
    policies = partition_of(LANES, POLICIES)
    lanes[POLICIES] = policies, partial(PolicyOwner, nodes, facts, policies)
    relayer = Relayer(lanes, lambda: app.generation)
    stack.push_async_callback(relayer.close)
    stack.enter_context(watch(partial(of_lanes, relayer)))
    stack.enter_context(watch(partial(of_sequences, relayer)))
    stack.enter_context(watch(partial(of_policies, relayer)))
    controls.hear(relayer.hear)
    app.owns(lambda: None, relayer.own)
    app.reads(LANES, relayer.read)
    return app, []


_MAKERS: dict[Role, Callable[[Config, AsyncExitStack, Controls], Awaitable[Made]]] = {
    Role.DECIDE: _deciding,
    Role.SIGN: _signing,
    Role.RELAY: _relaying,
}
