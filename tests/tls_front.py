"""TLS before PostgreSQL: the server of the wheel is built without it.

Speaks the `SSLRequest` of PostgreSQL's protocol (its manual, "Message Flow", SSL session
encryption), and hands the rest on to the real server. Whoever asks for no TLS is turned away.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct

from tests.authority import Signed

SSL_REQUEST = struct.pack("!ii", 8, 80877103)


class TlsFront:
    def __init__(self, server_port: int, identity: Signed) -> None:
        self._server_port = server_port
        self._context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        self._context.load_cert_chain(identity.certificate, identity.key)
        self.encrypted: list[str] = []
        """The application names of the sessions that came by TLS."""
        self.turned_away = 0

    async def __aenter__(self) -> TlsFront:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            if await reader.readexactly(8) != SSL_REQUEST:
                self.turned_away += 1
                writer.close()
                return
            writer.write(b"S")
            await writer.drain()
            await writer.start_tls(self._context)
            length = await reader.readexactly(4)
            startup = await reader.readexactly(int.from_bytes(length, "big") - 4)
            words = startup[4:].split(b"\0")
            if b"application_name" in words:
                name = words[words.index(b"application_name") + 1]
                self.encrypted.append(name.decode())
            inner, outer = await asyncio.open_connection("127.0.0.1", self._server_port)
            outer.write(length + startup)
            await asyncio.gather(_pumped(reader, outer), _pumped(inner, writer))


async def _pumped(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65_536):
            writer.write(data)
            await writer.drain()
    finally:
        writer.close()
