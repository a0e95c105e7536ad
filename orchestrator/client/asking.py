"""One question, asked again while the API says that it cannot be answered now."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Collection, Mapping
from typing import TypeVar

import aiohttp
from pydantic import BaseModel, ValidationError
from yarl import URL

from orchestrator.client.models import Problem
from orchestrator.errors import OrchestratorError

Shape = TypeVar("Shape", bound=BaseModel)

AGAIN = (429, 502, 503, 504)
"""Statuses that say nothing of the question itself."""
FIRST_DELAY_SECONDS = 0.25
LONGEST_DELAY_SECONDS = 15.0


class ApiError(OrchestratorError):
    """The API refused. `problem` is None where the answer was no problem detail; `retry_after` is
    what the header of that name said."""

    def __init__(
        self,
        status: int,
        text: str,
        problem: Problem | None = None,
        retry_after: str | None = None,
    ) -> None:
        super().__init__(f"HTTP {status}: {text}" if status else text)
        self.status = status
        self.problem = problem
        self.retry_after = retry_after


class ApiUnavailable(ApiError):
    """No answer within the patience; `status` is 0 where none came at all."""


def delay_seconds(tried: int, retry_after: str | None) -> float:
    """What the API asks for; else growing, shortened by up to half at random, so that many clients
    do not come back in step."""
    if retry_after is not None:
        try:
            return max(0.0, float(retry_after))
        except ValueError:
            pass  # a date: no API of this kind sends one
    whole = min(LONGEST_DELAY_SECONDS, FIRST_DELAY_SECONDS * 2 ** min(tried, 10))
    return float(whole * random.uniform(0.5, 1))  # noqa: S311 - not a secret


async def error_of(response: aiohttp.ClientResponse) -> ApiError:
    text = await response.text(errors="replace")
    kind = ApiUnavailable if response.status in AGAIN else ApiError
    after = response.headers.get("Retry-After")
    try:
        problem = Problem.model_validate_json(text)
    except ValidationError:
        return kind(response.status, text[:300] or response.reason or "", None, after)
    return kind(response.status, problem.error, problem, after)


class Asker:
    """Asks for JSON. `patience_seconds` bounds all waiting for one answer."""

    def __init__(
        self, session: aiohttp.ClientSession, base_url: str, patience_seconds: float
    ) -> None:
        self.session = session
        self._base_url = base_url.rstrip("/")
        self._patience_seconds = patience_seconds

    def url(self, path: str, parameters: Mapping[str, str]) -> URL:
        """`path` is percent-encoded already."""
        found = URL(self._base_url + path, encoded=True)
        return found.with_query(parameters) if parameters else found

    async def ask(
        self,
        shape: type[Shape],
        path: str,
        parameters: Mapping[str, str],
        accepted: Collection[int] = (200,),
    ) -> Shape:
        """Raises ApiError, ApiUnavailable."""
        url, tried = self.url(path, parameters), 0
        last_moment = time.monotonic() + self._patience_seconds
        while True:
            try:
                async with self.session.get(url) as response:
                    if response.status in accepted:
                        return shape.model_validate_json(await response.read())
                    error = await error_of(response)
            except (aiohttp.ClientError, TimeoutError, OSError) as broken:
                error = ApiUnavailable(0, f"{type(broken).__name__}: {broken}")
            except ValidationError as unread:
                raise ApiError(200, f"an answer of another shape: {unread}") from None
            if not isinstance(error, ApiUnavailable):
                raise error
            wait = delay_seconds(tried, error.retry_after)
            if time.monotonic() + wait > last_moment:
                raise error
            await asyncio.sleep(wait)
            tried += 1
