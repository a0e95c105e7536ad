"""How commands ask the API: where it is, with which token, and what to say when it does not answer.

The token is never an argument: the process list shows those to everyone on the machine.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, TypeVar
from urllib.parse import urlsplit

import typer

from orchestrator.commands.showing import moment_ms, plain
from orchestrator.errors import ConfigurationError, OrchestratorError
from orchestrator.wallet_settings import text_of_file

if TYPE_CHECKING:
    from orchestrator.client import ApiError, Client

URL, TOKEN = "ORCHESTRATOR_API_URL", "ORCHESTRATOR_API_TOKEN"
DEFAULT_URL = "http://127.0.0.1:3000"
PATIENCE_SECONDS = 5.0
"""A person waits at the other end."""

Answered = TypeVar("Answered")

ChainOf = Annotated[
    int | None, typer.Option("--chain", help="The chain, where several requests have this id.")
]
At = Annotated[
    str | None,
    typer.Option("--at", help="As of a past moment: an age (10m, 2h) or a time with its zone."),
]
Json = Annotated[bool, typer.Option("--json", help="The API's answer as JSON.")]


class NotAnswered(OrchestratorError):
    """The API is away or refused, in words that say what to do."""


def place() -> tuple[str, str | None]:
    """The API's URL and the token, if there is one. Raises ConfigurationError."""
    problems: list[str] = []
    url = os.environ.get(URL) or DEFAULT_URL
    if not url.startswith(("http://", "https://")):
        problems.append(f"{URL}: does not begin with http:// or https://")
    token = os.environ.get(TOKEN)
    if not token and os.environ.get(f"{TOKEN}_FILE"):
        token = (text_of_file(os.environ, f"{TOKEN}_FILE", problems) or "").strip()
    if token and not (token.isascii() and token.isprintable() and " " not in token):
        problems.append(f"{TOKEN}: what is given is no bearer token")
    if problems:
        raise ConfigurationError(problems)
    return url, token or None


def asked(question: Callable[[Client], Awaitable[Answered]]) -> Answered:
    """The answer to a question, waiting a little for an API that is busy. Raises NotAnswered."""
    from orchestrator.client import ApiError, Client

    url, token = place()

    async def ask() -> Answered:
        async with Client(url, token, PATIENCE_SECONDS) as api:
            return await question(api)

    try:
        return asyncio.run(ask())
    except ApiError as error:
        raise NotAnswered(words_of(error)) from None


def words_of(error: ApiError) -> str:
    """What happened and what to do; one line, without the URL's user and password."""
    url, token = place()
    parts = urlsplit(url)
    where = f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}"
    told = plain(error.problem.detail if error.problem else error)
    match error.status:
        case 0:
            return (
                f"no answer from {where}: is `orchestrator api` running there? ({URL} says where)"
            )
        case 401:
            what = "does not know the token" if token else "wants a token"
            return (
                f"the API at {where} {what}: give one in {TOKEN} or {TOKEN}_FILE "
                "(`orchestrator token NAME` makes them)"
            )
        case 403:
            return f"the token may not do this: {told}"
        case 404:
            return told
        case 429:
            after = f"again in {error.retry_after} s" if error.retry_after else "again later"
            budget = "" if token else f"; with a token in {TOKEN} you have a budget of your own"
            return f"the API was asked too often: {after}{budget}"
        case 502 | 503 | 504:
            return f"the API at {where} cannot answer now: {told}"
    return f"the API at {where} refused ({error.status}): {told}"


def moment_of(text: str | None) -> datetime | None:
    """Raises BadParameter."""
    return None if text is None else datetime.fromtimestamp(moment_ms(text) / 1000, UTC)
