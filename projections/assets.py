"""The page at `/` and its files, from this package alone: no build step, no other host.

The files are read once. Their URLs carry a hash of all of them, so that a browser keeps them for
ever and still never mixes two versions; the page itself is asked for anew every time. The policy
forbids inline scripts and styles and every other origin: whatever text the log brings, it stays
text.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

from aiohttp import web

from projections.overview import lifecycle_table

FOLDER = Path(__file__).parent / "page"
TYPES = {
    ".css": "text/css",
    ".html": "text/html",
    ".js": "text/javascript",
    ".json": "application/json",
    ".svg": "image/svg+xml",
}
# Stricter than what every answer carries: this page needs no more, and trusted types besides.
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    )
)
HEADERS = {"Content-Security-Policy": POLICY}
_VERSION = "{version}"


class Page:
    """All files in memory."""

    def __init__(self, folder: Path = FOLDER) -> None:
        files = {
            path.name: path.read_bytes()
            for path in sorted(folder.iterdir())
            if path.suffix in TYPES
        }
        self._index = files.pop("index.html").decode()
        self._files = {**files, "lifecycle.json": lifecycle_table()}
        digest = hashlib.sha256(self._index.encode())
        for name, body in sorted(self._files.items()):
            digest.update(name.encode() + b"\0" + body)
        self.version = digest.hexdigest()[:16]

    def routes(self) -> list[web.RouteDef]:
        return [
            web.get("/", self.index),
            web.get("/assets/{version}/{name}", self.asset),
        ]

    async def index(self, request: web.Request) -> web.Response:
        tag = f'"{self.version}"'
        headers = {**HEADERS, "ETag": tag, "Cache-Control": "no-cache"}
        if self.version in {etag.value for etag in request.if_none_match or ()}:
            return web.Response(status=304, headers=headers)
        text = self._index.replace(_VERSION, self.version)
        return web.Response(text=text, content_type="text/html", headers=headers)

    async def asset(self, request: web.Request) -> web.Response:
        """Raises 404 for other names, and for another version: it would be kept for ever."""
        name = request.match_info["name"]
        if request.match_info["version"] != self.version or name not in self._files:
            raise web.HTTPNotFound
        headers = {**HEADERS, "Cache-Control": "public, max-age=31536000, immutable"}
        response = web.Response(
            body=self._files[name],
            content_type=TYPES[Path(name).suffix],
            charset="utf-8",
            headers=headers,
        )
        response.enable_compression()
        return response


def routes() -> list[web.RouteDef]:
    return Page().routes()
