"""The two processes of the read side, as the command line starts them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import structlog
from aiohttp import web

from orchestrator.certifying import Certifier
from orchestrator.config import Config
from orchestrator.sealing.watching import SealWatch
from projections.access import access_of
from projections.api import make_app
from projections.consumer import Projector
from projections.context import ApiTerms
from projections.database import connection_parameters, migrate
from projections.feed.serving import FeedDoor
from projections.lag import LogProbe
from projections.measuring import expect
from projections.store import Store
from projections.tracing import Tracer

log = structlog.get_logger()

GROUPED_ROLES = ("decide", "sign", "relay")
"""Roles of the write side whose consumer groups commit how far they are."""
CLOSING_SECONDS = 5.0
"""How long answers that are under way may take once the API was told to stop."""


async def run_projection(config: Config, stop: asyncio.Event) -> None:
    """Migrate, then write the tables from the log until `stop`. Several may run: one writes.

    Raises ConfigurationError for a database URL that cannot be one; anything else is retried.
    """
    connection_parameters(config.database_url)
    expect(tuple(config.chains))
    endpoint = config.settings.otel_exporter_otlp_endpoint
    tracer = Tracer.to(endpoint) if endpoint else None
    observe = tracer.tell if tracer is not None else None
    projector = Projector(config.database_url, config.kafka, observe=observe)
    try:
        await projector.run(stop, prepare=lambda: migrate(config.database_url))
    finally:
        if tracer is not None:
            await asyncio.to_thread(tracer.close)


async def run_api(
    config: Config,
    stop: asyncio.Event,
    on_ready: Callable[[str], None] | None = None,
    certifier: Certifier | None = None,
    seals: SealWatch | None = None,
) -> None:
    """Serve until `stop`; `on_ready` gets the address that is listened on (`PORT=0`: any free).

    `certifier` makes certificates where this process knows nodes; `seals` looks at the anchors.

    Starts whether or not the database is there, and says so in `/health`. Raises
    ConfigurationError, or OSError when the port is taken.
    """
    settings = config.settings
    kafka = config.kafka_if_given
    store = Store(config.database_url)
    terms = ApiTerms(
        confirmations={chain.chain_id: chain.confirmations for chain in config.chains.values()},
        replace_after_blocks=settings.replace_after_blocks,
        token_decimals=settings.token_decimals,
        supply_compared_within_seconds=settings.supply_compared_within_seconds,
    )
    feed = FeedDoor(store, kafka, settings.feed_connections_per_address)
    groups = [f"{settings.kafka_prefix}-{role}" for role in GROUPED_ROLES]
    probe = LogProbe(kafka, groups) if kafka else None
    access = access_of(settings)
    app = make_app(store, probe, tuple(config.chains), terms, feed, access, certifier, seals)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=CLOSING_SECONDS)
    await runner.setup()
    try:
        site = web.TCPSite(runner, settings.host, settings.port)
        await site.start()
        host, port = runner.addresses[0][:2]
        shown = "127.0.0.1" if host in ("0.0.0.0", "::") else host  # noqa: S104 - compared only
        url = f"http://{shown}:{port}"
        log.info("api_listening", url=url)
        if on_ready is not None:
            on_ready(url)
        await stop.wait()
    finally:
        await runner.cleanup()


__all__ = ["migrate", "run_api", "run_projection"]
