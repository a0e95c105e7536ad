"""The questions that the API answers, as methods."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from types import TracebackType
from typing import Self
from urllib.parse import quote

import aiohttp

from orchestrator.client import models
from orchestrator.client.asking import Asker
from orchestrator.client.feed import FeedItem, follow
from schemas.certificates import MintCertificate

ANSWER_SECONDS = 30.0
PATIENCE_SECONDS = 120.0
ENDED = ("COMPLETED", "FAILED")


@dataclass(frozen=True, slots=True)
class Filters:
    """Of a list of requests; all that are given must hold. `created_from` is inclusive,
    `created_to` exclusive; `at` asks for the list as of a past moment."""

    type: models.RequestTypeName | None = None
    status: models.StatusName | None = None
    stage: str | None = None
    chain_id: int | None = None
    user: str | None = None
    fiat_ref: str | None = None
    tx_hash: str | None = None
    created_from: datetime | None = None
    created_to: datetime | None = None
    search: str | None = None
    at: datetime | None = None

    def parameters(self) -> dict[str, str]:
        return _given(
            type=self.type,
            status=self.status,
            stage=self.stage,
            chainId=self.chain_id,
            user=self.user,
            fiatRef=self.fiat_ref,
            txHash=self.tx_hash,
            createdFrom=self.created_from,
            createdTo=self.created_to,
            search=self.search,
            at=self.at,
        )


class Client:
    """Asks one API. `patience_seconds` bounds the waiting for one answer while the API is busy or
    away; 0 asks once. Every method raises ApiError for what the API refuses, and ApiUnavailable
    when the patience ended.

        async with Client(url) as api:
            async for request in api.requests(Filters(status="FAILED")):
                print(request.request_key, request.error_message)
    """

    def __init__(
        self, base_url: str, token: str | None = None, patience_seconds: float = PATIENCE_SECONDS
    ) -> None:
        self._base_url = base_url
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self._patience_seconds = patience_seconds
        self._asker: Asker | None = None

    async def __aenter__(self) -> Self:
        session = aiohttp.ClientSession(
            headers=self._headers, timeout=aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        )
        self._asker = Asker(session, self._base_url, self._patience_seconds)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._ask.session.close()

    @property
    def _ask(self) -> Asker:
        if self._asker is None:
            raise RuntimeError("use it as `async with Client(...) as api`")
        return self._asker

    async def status(
        self, request_key: str, *, chain_id: int | None = None, at: datetime | None = None
    ) -> models.StatusWithTimeline:
        """One request by its key, or its id where only one has it, with its timeline."""
        given = _given(chainId=chain_id, at=at)
        return await self._ask.ask(models.StatusWithTimeline, _path(request_key), given)

    async def explain(
        self, request_key: str, *, chain_id: int | None = None, at: datetime | None = None
    ) -> models.Explanation:
        """What it waits for, since when, whose turn it is, what an operator can do."""
        given = _given(chainId=chain_id, at=at)
        return await self._ask.ask(models.Explanation, _path(request_key) + "/explain", given)

    async def certificate(
        self, request_key: str, *, chain_id: int | None = None
    ) -> MintCertificate:
        """A completed mint's certificate; verify it with `core.certificates_checks`."""
        path = _path(request_key) + "/certificate"
        return await self._ask.ask(MintCertificate, path, _given(chainId=chain_id))

    async def ended(
        self, request_key: str, *, chain_id: int | None = None, every_seconds: float = 10.0
    ) -> models.StatusWithTimeline:
        """Waits until a request that is known is COMPLETED or FAILED. Bound it with
        `asyncio.timeout`; for many requests, follow the feed instead."""
        while True:
            found = await self.status(request_key, chain_id=chain_id)
            if found.status in ENDED:
                return found
            await asyncio.sleep(every_seconds)

    async def page(
        self, filters: Filters | None = None, *, cursor: str | None = None, limit: int = 50
    ) -> models.StatusPage:
        """One page, newest first, and the cursor of the next one."""
        given = (filters or Filters()).parameters() | _given(cursor=cursor, limit=limit)
        return await self._ask.ask(models.StatusPage, "/status", given)

    async def requests(
        self, filters: Filters | None = None, *, limit: int = 200
    ) -> AsyncIterator[models.Status]:
        """All that fit, newest first, page by page as they are asked for. None is skipped or told
        twice, whatever happens meanwhile; newer ones than the first page are not seen."""
        cursor: str | None = None
        while True:
            found = await self.page(filters, cursor=cursor, limit=limit)
            for item in found.items:
                yield item
            cursor = found.next
            if cursor is None:
                return

    async def lanes(self) -> models.Lanes:
        return await self._ask.ask(models.Lanes, "/lanes", {})

    async def lane(self, chain_id: int, wallet: str, *, at: datetime | None = None) -> models.Lane:
        """One wallet's nonces, who owns each, and what blocks what."""
        path = f"/lanes/{chain_id}/{quote(wallet, safe='')}"
        return await self._ask.ask(models.Lane, path, _given(at=at))

    async def controls(self, *, at: datetime | None = None) -> models.Controls:
        """What operators paused."""
        return await self._ask.ask(models.Controls, "/controls", _given(at=at))

    async def queues(self) -> models.Queues:
        return await self._ask.ask(models.Queues, "/metrics/queues", {})

    async def overview(self) -> models.Overview:
        """Queues, stages, chains and flow of the last hour, from one moment."""
        return await self._ask.ask(models.Overview, "/overview", {})

    async def health(self) -> models.Health:
        """Also when it is down: then `status` says so."""
        return await self._ask.ask(models.Health, "/health", {}, accepted=(200, 503))

    async def feed(
        self,
        start: str = "now",
        *,
        topics: Iterable[str] = (),
        kinds: Iterable[str] = (),
        request_key: str | None = None,
        chain_id: int | None = None,
    ) -> AsyncIterator[FeedItem]:
        """The log's facts, for ever: from `start` (a cursor, "start", "now", or a time), each once,
        in order, also across breaks. Keep `item.cursor` with what you made of the fact.

            async for item in api.feed(cursor, topics=["requests"]):
                ...
        """
        given = [("topic", topic) for topic in topics]
        given += [("kind", kind) for kind in kinds]
        given += list(_given(requestKey=request_key, chainId=chain_id).items())
        async for item in follow(self._ask, given, start):
            yield item


def _path(request_key: str) -> str:
    return "/status/" + quote(request_key, safe="")


def _given(**parameters: str | int | datetime | None) -> dict[str, str]:
    return {name: _text(value) for name, value in parameters.items() if value is not None}


def _text(value: str | int | datetime) -> str:
    if isinstance(value, datetime):
        if value.tzinfo is None:
            raise ValueError(f"{value} has no zone")
        return value.astimezone(UTC).isoformat()
    return str(value)
