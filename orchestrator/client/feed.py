"""The feed as an endless iterator: every fact once, in order, also across breaks.

The stream's format is that of server-sent events (WHATWG HTML, section 9.2).
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass

import aiohttp

from orchestrator.client.asking import ApiUnavailable, Asker, delay_seconds, error_of
from orchestrator.client.models import FeedEvent
from orchestrator.errors import OrchestratorError

SILENCE_SECONDS = 45.0
"""The API sends a comment every 15 s; after so long without one the connection is dead."""
LARGEST_LINE_BYTES = 4 * 1024 * 1024


class FeedLost(OrchestratorError):
    """The log no longer holds what follows the cursor; start anew from `start` or `now`."""


@dataclass(frozen=True, slots=True)
class FeedItem:
    """A fact, and the position behind it: keep it with what you made of the fact."""

    cursor: str
    event: FeedEvent


@dataclass(slots=True)
class Message:
    """One dispatched event; `id` None where none was given."""

    id: str | None = None
    event: str = "message"
    data: str = ""


class Parser:
    """Lines to messages. An event without data only moves the id."""

    def __init__(self) -> None:
        self._message = Message()

    def feed(self, line: str) -> Message | None:
        """A message when this line, an empty one, ends it."""
        if not line:
            done, self._message = self._message, Message()
            return done if done.data or done.id is not None else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id" and "\0" not in value:
            self._message.id = value
        elif name == "event":
            self._message.event = value
        elif name == "data":
            held = self._message.data
            self._message.data = f"{held}\n{value}" if held else value
        return None


async def follow(
    asker: Asker, parameters: list[tuple[str, str]], start: str
) -> AsyncIterator[FeedItem]:
    """From `start` on, for ever; after a break it goes on behind what was last yielded.

    Raises FeedLost, and ApiError for what asking again cannot mend.
    """
    cursor, tried = "", 0
    while True:
        wait: str | None = None
        try:
            async for message in _connected(asker, parameters, start, cursor):
                tried = 0
                cursor = message.id or cursor
                if message.event == "error":
                    raise FeedLost(message.data)
                if message.data:
                    yield FeedItem(cursor, FeedEvent.model_validate_json(message.data))
        except ApiUnavailable as error:
            wait = error.retry_after
        except (aiohttp.ClientError, TimeoutError, OSError):
            pass
        await asyncio.sleep(delay_seconds(tried, wait))
        tried += 1


async def _connected(
    asker: Asker, parameters: list[tuple[str, str]], start: str, cursor: str
) -> AsyncIterator[Message]:
    headers: Mapping[str, str] = {"Last-Event-ID": cursor} if cursor else {}
    url = asker.url("/feed", {}).with_query([*parameters, ("from", start)])
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=15, sock_read=SILENCE_SECONDS)
    async with asker.session.get(url, headers=headers, timeout=timeout) as response:
        if response.status != 200:
            raise await error_of(response)
        parser, held = Parser(), b""
        async for piece in response.content.iter_any():
            *lines, held = (held + piece).split(b"\n")
            if len(held) > LARGEST_LINE_BYTES:
                raise aiohttp.ClientPayloadError("a line without end")
            for line in lines:
                found = parser.feed(line.decode().removesuffix("\r"))
                if found is not None:
                    yield found
