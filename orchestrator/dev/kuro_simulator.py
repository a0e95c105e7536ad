"""A simulator of Kuro: mints over a WebSocket and a REST list, with the faults of a real service.

Run by the stack as `python -m orchestrator.dev.kuro_simulator`.

    GET  /events                       the WebSocket
    GET  /api/mint-requests/pending    JSON list, oldest first, of the newest unsettled requests

Kuro has no acknowledgement in its protocol. Here the driver of a test says what is settled;
whatever is not is pending, and the REST list shows the newest `--pending-limit` of it. A message
that is accepted while no socket is connected is only in the REST list.

Control, for tests and load (the names of behaviour are the fields of `Behaviour`):
    POST /__control/mint        a mint object, a list of them, or {"mints": […]}, or {"count": n}
                                with defaults for what a mint object lacks
    POST /__control/settle      {"requestIds": […]} or {"all": true}
    GET/POST /__control/behaviour
    POST /__control/drop        close all sockets abruptly
    POST /__control/send        {"text": "…"}: any text to all sockets
    GET  /__control/state       counts
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import time
import uuid
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, TextIO

from aiohttp import WSMsgType, web

Mint = dict[str, Any]

GARBAGE = ("not json", "{", "[]", "null", '{"type":"mintOk"}', '{"requestId":7}', "\x00\ufffd", "")


@dataclass
class Behaviour:
    """How Kuro misbehaves; everything off by default. Zero means never."""

    garbage_every: int = 0
    """Before every nth message comes one that is not a mint."""
    repeat: int = 0
    """How many more times each message is sent."""
    shuffle_window: int = 0
    """Messages are held back until so many wait, then sent in random order."""
    wrap: str = "mixed"
    """`always`: {"type":"mintOk","data":…}; `never`: bare; `mixed`: in turns."""
    change_amount_every: int = 0
    """After every nth mint, the same request id comes again with another amount."""
    drop_every: int = 0
    """After every nth message to a socket, that socket is closed abruptly."""
    half_open: bool = False
    """Sockets stay open; nothing is sent on them, not even pongs."""
    rest_status: int = 0
    """The REST list answers this HTTP status, for example 503."""
    rest_latency_ms: float = 0
    down: bool = False
    """Sockets are closed and every request's connection is closed without an answer."""


@dataclass(eq=False)
class Socket:
    """One connected client and what waits to be sent to it."""

    response: web.WebSocketResponse
    request: web.Request
    outbox: asyncio.Queue[str] = field(default_factory=asyncio.Queue)
    sent: int = 0


class KuroSimulator:
    """All state in memory; with a journal file, unsettled requests survive a restart."""

    def __init__(self, pending_limit: int = 5_000, journal: Path | None = None) -> None:
        self.behaviour = Behaviour()
        self.pending_limit = pending_limit
        self.pending: dict[str, Mint] = {}
        self.accepted = 0
        self.settled = 0
        self.sockets: set[Socket] = set()
        self._messages = 0
        self._held: list[str] = []
        self._journal: TextIO | None = None
        if journal is not None:
            self._replay(journal)
            self._journal = journal.open("a")

    def _replay(self, journal: Path) -> None:
        """A last line that a kill cut short is left out."""
        lines = journal.read_text().splitlines() if journal.exists() else []
        for line in lines:
            try:
                entry = json.loads(line)
            except ValueError:
                continue
            if "mint" in entry:
                self.pending[entry["mint"]["requestId"]] = entry["mint"]
            for request_id in entry.get("settled", []):
                self.pending.pop(request_id, None)
        with journal.open("w") as file:
            file.writelines(json.dumps({"mint": mint}) + "\n" for mint in self.pending.values())

    def _write(self, entries: list[dict[str, Any]]) -> None:
        if self._journal is not None:
            self._journal.writelines(json.dumps(entry) + "\n" for entry in entries)
            self._journal.flush()

    def application(self) -> web.Application:
        app = web.Application(client_max_size=256 * 2**20)
        app.router.add_get("/events", self.events)
        app.router.add_get("/api/mint-requests/pending", self.list_pending)
        app.router.add_post("/__control/mint", self.control_mint)
        app.router.add_post("/__control/settle", self.control_settle)
        app.router.add_get("/__control/behaviour", self.control_behaviour)
        app.router.add_post("/__control/behaviour", self.control_behaviour)
        app.router.add_post("/__control/drop", self.control_drop)
        app.router.add_post("/__control/send", self.control_send)
        app.router.add_get("/__control/state", self.control_state)
        return app

    # What clients of Kuro see

    async def events(self, request: web.Request) -> web.StreamResponse:
        if self.behaviour.down:
            return _hang_up(request)
        response = web.WebSocketResponse(autoping=False, max_msg_size=2**20)
        await response.prepare(request)
        socket = Socket(response, request)
        socket.outbox.put_nowait(json.dumps({"type": "connection", "status": "connected"}))
        self.sockets.add(socket)
        writer = asyncio.create_task(self._write_out(socket))
        try:
            async for message in response:
                if message.type is WSMsgType.PING and not self.behaviour.half_open:
                    await response.pong(message.data)
        finally:
            self.sockets.discard(socket)
            writer.cancel()
        return response

    async def _write_out(self, socket: Socket) -> None:
        while True:
            text = await socket.outbox.get()
            if self.behaviour.half_open:
                continue
            try:
                await socket.response.send_str(text)
            except (ConnectionError, RuntimeError):
                return
            socket.sent += 1
            if _is_nth(socket.sent, self.behaviour.drop_every):
                _abort(socket.request)

    async def list_pending(self, request: web.Request) -> web.StreamResponse:
        if self.behaviour.down:
            return _hang_up(request)
        if self.behaviour.rest_latency_ms:
            await asyncio.sleep(self.behaviour.rest_latency_ms / 1000)
        if self.behaviour.rest_status:
            status = self.behaviour.rest_status
            return web.json_response({"error": "simulated"}, status=status)
        return web.json_response(list(self.pending.values())[-self.pending_limit :])

    # What the driver does

    def accept(self, mint: Mint) -> None:
        """A new mint: listed as pending, and sent to whoever is connected."""
        self.accepted += 1
        self.pending.setdefault(mint["requestId"], mint)
        behaviour = self.behaviour
        self._send_mint(mint)
        for _ in range(behaviour.repeat):
            self._send_mint(mint)
        if _is_nth(self.accepted, behaviour.change_amount_every):
            self._send_mint({**mint, "amount": str(int(mint["amount"]) + 1)})

    def _send_mint(self, mint: Mint) -> None:
        self._messages += 1
        behaviour = self.behaviour
        wrapped = behaviour.wrap == "always"
        if behaviour.wrap == "mixed":
            wrapped = self._messages % 2 == 0
        message = {"type": "mintOk", "data": mint} if wrapped else mint
        if _is_nth(self._messages, behaviour.garbage_every):
            self._broadcast(GARBAGE[self._messages // behaviour.garbage_every % len(GARBAGE)])
        if not behaviour.shuffle_window:
            self._broadcast(json.dumps(message))
            return
        self._held.append(json.dumps(message))
        if len(self._held) >= behaviour.shuffle_window:
            self._release_held()

    def _release_held(self) -> None:
        random.shuffle(self._held)
        for text in self._held:
            self._broadcast(text)
        self._held.clear()

    def _broadcast(self, text: str) -> None:
        for socket in self.sockets:
            socket.outbox.put_nowait(text)

    async def control_mint(self, request: web.Request) -> web.Response:
        body = await request.json()
        try:
            mints = [_with_defaults(mint) for mint in _requested_mints(body)]
        except (TypeError, ValueError) as error:
            return web.json_response({"error": str(error)}, status=400)
        self._write([{"mint": mint} for mint in mints])
        for mint in mints:
            self.accept(mint)
        ids = [mint["requestId"] for mint in mints]
        return web.json_response({"requestIds": ids, "sockets": len(self.sockets)})

    async def control_settle(self, request: web.Request) -> web.Response:
        body = await request.json()
        ids = list(self.pending) if body.get("all") else list(body["requestIds"])
        known = [request_id for request_id in ids if self.pending.pop(request_id, None)]
        self.settled += len(known)
        self._write([{"settled": known}])
        return web.json_response({"settled": len(known)})

    async def control_behaviour(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            changes = await request.json()
            unknown = set(changes) - {entry.name for entry in fields(Behaviour)}
            if unknown:
                return web.json_response({"error": f"unknown: {sorted(unknown)}"}, status=400)
            self.behaviour = Behaviour(**(asdict(self.behaviour) | changes))
            if not self.behaviour.shuffle_window:
                self._release_held()
            if self.behaviour.down:
                self._drop_all()
        return web.json_response(asdict(self.behaviour))

    def _drop_all(self) -> int:
        for socket in list(self.sockets):
            _abort(socket.request)
        return len(self.sockets)

    async def control_drop(self, _request: web.Request) -> web.Response:
        return web.json_response({"dropped": self._drop_all()})

    async def control_send(self, request: web.Request) -> web.Response:
        self._broadcast((await request.json())["text"])
        return web.json_response({"sockets": len(self.sockets)})

    async def control_state(self, _request: web.Request) -> web.Response:
        return web.json_response(
            {
                "accepted": self.accepted,
                "settled": self.settled,
                "pending": len(self.pending),
                "sockets": len(self.sockets),
                "waiting": sum(socket.outbox.qsize() for socket in self.sockets),
            }
        )


def _requested_mints(body: Any) -> list[Mint]:
    """The mint objects of a control request; raises TypeError or ValueError."""
    if isinstance(body, list):
        return body
    if not isinstance(body, dict):
        raise TypeError("a mint object, a list, {'mints': …} or {'count': …} is wanted")
    if "mints" in body:
        return list(body["mints"])
    if "count" in body:
        template = {key: value for key, value in body.items() if key != "count"}
        return [dict(template) for _ in range(int(body["count"]))]
    return [body]


def _with_defaults(mint: Mint) -> Mint:
    request_id = str(mint.get("requestId") or uuid.uuid4())
    return {
        "requestId": request_id,
        "user": "0x" + uuid.uuid5(uuid.NAMESPACE_OID, request_id).hex + "00000001",
        "amount": "1000000000000000000",
        "fiatRef": f"FIAT-{request_id[:8]}",
        "timestamp": int(time.time() * 1000),
        **mint,
    }


def _is_nth(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


def _abort(request: web.Request) -> None:
    if request.transport is not None:
        request.transport.abort()


def _hang_up(request: web.Request) -> web.Response:
    _abort(request)
    return web.Response()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.dev.kuro_simulator")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--pending-limit", type=int, default=5_000)
    parser.add_argument("--journal", type=Path, help="file that keeps pending requests")
    options = parser.parse_args()
    simulator = KuroSimulator(options.pending_limit, options.journal)
    web.run_app(
        simulator.application(),
        host=options.host,
        port=options.port,
        print=lambda *_: None,
        access_log=None,
        shutdown_timeout=0.5,
    )


if __name__ == "__main__":
    main()
