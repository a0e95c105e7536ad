"""The embedded stack's parts that adapters talk to, and small servers that misbehave."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from orchestrator.dev.stack import EmbeddedStack

CHAIN_ID = 5920

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStack]:
    """KMS endpoint, Kuro simulator and one chain, with AWS credentials in the environment."""
    folder = tmp_path_factory.mktemp("adapters")
    with (
        pytest.MonkeyPatch.context() as patch,
        EmbeddedStack(
            folder,
            chain_ids=[CHAIN_ID],
            block_time=0.2,
            wallets_per_chain=2,
            parts={"kms", "kuro", "chains"},
        ) as running,
    ):
        for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
            patch.setenv(name, running.environment[name])
        yield running


@asynccontextmanager
async def serving(*routes: tuple[str, str, Handler]) -> AsyncIterator[str]:
    """An HTTP server on 127.0.0.1; gives its base URL."""
    application = web.Application(client_max_size=2**26)
    for method, path, handler in routes:
        application.router.add_route(method, path, handler)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        await runner.cleanup()
