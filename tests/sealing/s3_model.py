"""A working model of S3 for the calls that seals need: objects in memory, conditional writes.

Get, list in pages, put with `If-None-Match`, over HTTP with path-style addresses, as the S3 API
Reference describes them; request signatures are not checked. `forgets_conditions` makes it one of
the stores that ignore the condition and overwrite; `failing` answers everything with that error.
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from xml.sax.saxutils import escape

from aiohttp import web

PAGE = 2


class S3Model:
    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.puts: list[tuple[str, str | None]] = []
        """Key and condition of every write that was asked for."""
        self.forgets_conditions = False
        self.conflicts = 0
        """So many writes are answered with 409 first, as another one under way makes them."""
        self.failing: tuple[int, str] | None = None

    async def handle(self, request: web.Request) -> web.Response:
        if self.failing is not None:
            return _error(*self.failing)
        bucket, _, key = request.path.lstrip("/").partition("/")
        if bucket != "seals":
            return _error(404, "NoSuchBucket")
        if request.method == "PUT":
            return await self._put(key, request)
        return self._get(key) if key else self._list(request.query)

    async def _put(self, key: str, request: web.Request) -> web.Response:
        condition = request.headers.get("If-None-Match")
        self.puts.append((key, condition))
        if self.conflicts:
            self.conflicts -= 1
            return _error(409, "ConditionalRequestConflict")
        if condition == "*" and key in self.objects and not self.forgets_conditions:
            return _error(412, "PreconditionFailed")
        self.objects[key] = await request.read()
        return web.Response(headers={"ETag": _tag(self.objects[key])})

    def _get(self, key: str) -> web.Response:
        if key not in self.objects:
            return _error(404, "NoSuchKey")
        body = self.objects[key]
        return web.Response(body=body, headers={"ETag": _tag(body)})

    def _list(self, query) -> web.Response:
        names = sorted(name for name in self.objects if name.startswith(query.get("prefix", "")))
        first = int(query.get("continuation-token", "0"))
        rows = "".join(
            f"<Contents><Key>{escape(name)}</Key><Size>{len(self.objects[name])}</Size></Contents>"
            for name in names[first : first + PAGE]
        )
        more = first + PAGE < len(names)
        token = f"<NextContinuationToken>{first + PAGE}</NextContinuationToken>" if more else ""
        text = (
            '<?xml version="1.0" encoding="UTF-8"?>'
            '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
            f"<Name>seals</Name><IsTruncated>{str(more).lower()}</IsTruncated>{token}{rows}"
            "</ListBucketResult>"
        )
        return web.Response(text=text, content_type="application/xml")


def _tag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'


def _error(status: int, code: str) -> web.Response:
    text = f'<?xml version="1.0"?><Error><Code>{code}</Code><Message>secret text</Message></Error>'
    return web.Response(status=status, text=text, content_type="application/xml")


@asynccontextmanager
async def s3_model() -> AsyncIterator[tuple[S3Model, str]]:
    """The model, and the URL where it answers."""
    model = S3Model()
    application = web.Application(client_max_size=2**26)
    application.router.add_route("*", "/{path:.*}", model.handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield model, f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()
