"""A receiver of webhooks on a real port: verifies as docs/webhooks.md tells its readers to, and
answers what a test tells it to."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from tests.tidy.project import ROOT

BEGIN, END = "<!-- verify:begin -->\n```python\n", "```\n<!-- verify:end -->"
SECRET = "whsec_" + "c2VjcmV0" * 4


def documented_verify() -> Callable[[str, dict[str, str], bytes], str]:
    """The function of docs/webhooks.md, as its readers copy it."""
    text = (ROOT / "docs/webhooks.md").read_text(encoding="utf-8")
    source = text[text.index(BEGIN) + len(BEGIN) : text.index(END)]
    names: dict[str, Any] = {}
    exec(compile(source, "docs/webhooks.md", "exec"), names)
    return names["verify"]


@dataclass
class Receiver:
    """`answer` is given the event's data and the number of deliveries so far; a status, or None to
    hang. What was answered with 2xx is `taken`, everything that came is `seen`."""

    answer: Callable[[dict[str, Any], int], int | None] = lambda _data, _number: 200
    secret: str = SECRET
    port: int = 0
    seen: list[dict[str, Any]] = field(default_factory=list)
    taken: list[dict[str, Any]] = field(default_factory=list)
    ids: list[str] = field(default_factory=list)
    delay_seconds: float = 0.0
    _runner: web.AppRunner | None = None

    async def start(self) -> None:
        app = web.Application()
        app.router.add_post("/hook", self._post)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook"

    async def _post(self, request: web.Request) -> web.Response:
        body = await request.read()
        headers = {name.lower(): value for name, value in request.headers.items()}
        webhook_id = documented_verify()(self.secret, headers, body)
        assert re.fullmatch(r"[a-z_-]+-\d+-\d+-[0-9a-f]{16}", webhook_id)
        message = json.loads(body)
        data = message["data"]
        assert message["type"] == data["kind"] and message["timestamp"] == data["at"]
        self.seen.append(data)
        await asyncio.sleep(self.delay_seconds)
        status = self.answer(data, len(self.seen))
        if status is None:
            await asyncio.sleep(3600)
        assert status is not None
        if status == 302:
            raise web.HTTPFound("/elsewhere")
        if status < 300:
            self.taken.append(data)
            self.ids.append(webhook_id)
        return web.Response(status=status)

    def places(self) -> list[tuple[str, int, int]]:
        """Of what was taken, each once, in the order of its first delivery."""
        found = [(data["topic"], data["partition"], data["offset"]) for data in self.taken]
        return list(dict.fromkeys(found))
