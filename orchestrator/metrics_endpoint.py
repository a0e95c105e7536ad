"""`GET /metrics` and `/health/live` of a process that has no API: `METRICS_PORT`."""

from __future__ import annotations

import asyncio

import structlog
from aiohttp import web

from orchestrator.config import Settings
from orchestrator.metrics import CONTENT_TYPE, exposition

log = structlog.get_logger(__name__)


async def run_metrics(settings: Settings, stop: asyncio.Event) -> None:
    """Serve until `stop`. Raises OSError when the port is taken."""
    app = web.Application()
    app.router.add_get("/metrics", _answer)
    app.router.add_get("/health/live", _live)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=1.0)
    await runner.setup()
    try:
        await web.TCPSite(runner, settings.host, settings.metrics_port).start()
        log.info("metrics_listening", port=settings.metrics_port)
        await stop.wait()
    finally:
        await runner.cleanup()


async def _live(_request: web.Request) -> web.Response:
    """The process runs and its loop turns; nothing else is asked, as in the API."""
    return web.json_response({"status": "ok"})


async def _answer(_request: web.Request) -> web.Response:
    return web.Response(body=exposition(), headers={"Content-Type": CONTENT_TYPE})
