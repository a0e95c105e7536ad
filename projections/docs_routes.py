"""`/openapi.json`, and `/docs`: a page that shows it, made of three files and nothing else."""

from __future__ import annotations

from pathlib import Path

from aiohttp import web

from projections.openapi import encoded

_FOLDER = Path(__file__).parent / "docs"
_TYPES = {"docs.js": "text/javascript", "docs.css": "text/css"}
_KEPT = {"Cache-Control": "no-cache"}


def routes() -> list[web.RouteDef]:
    return [
        web.get("/openapi.json", document),
        web.get("/docs", page),
        web.get("/docs/{name}", part),
    ]


async def document(request: web.Request) -> web.Response:
    return web.Response(text=encoded(), content_type="application/json", headers=_KEPT)


async def page(request: web.Request) -> web.Response:
    text = (_FOLDER / "index.html").read_text(encoding="utf-8")
    return web.Response(text=text, content_type="text/html", headers=_KEPT)


async def part(request: web.Request) -> web.Response:
    name = request.match_info["name"]
    if name not in _TYPES:
        raise web.HTTPNotFound
    text = (_FOLDER / name).read_text(encoding="utf-8")
    return web.Response(text=text, content_type=_TYPES[name], headers=_KEPT)
