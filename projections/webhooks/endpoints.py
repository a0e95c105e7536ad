"""Who gets webhooks: `WEBHOOKS_FILE`, a JSON list, read and checked as a whole at the start.

Secrets stand in the file itself, in another file or in the environment; they are never shown. An
endpoint is named once and for all: its cursor and its dead letters are kept under its name.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import orjson

from orchestrator.config import Settings
from orchestrator.errors import ConfigurationError
from projections.feed.cursor import Cursor
from projections.feed.filters import Filter, parse
from projections.feed.serving import parse_begin
from projections.queries import InvalidQuery
from projections.webhooks.signing import BadSecret, secret_bytes

FILTERS = ("topic", "kind", "requestKey", "chainId", "changes")
SECRETS = ("secret", "secretEnv", "secretFile")
KNOWN = {"name", "url", "from", "refusals", "attempts", "timeoutSeconds", "longestDelaySeconds"}
KNOWN |= {*FILTERS, *SECRETS}
GONE = 410
MOST_ENDPOINTS = 100

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`refusals`: HTTP statuses by which it refuses an event for good. `attempts`: after so many an
    event is dead-lettered; None tries without end. Delays and time-out in seconds."""

    name: str
    url: str = field(repr=False)
    secrets: tuple[bytes, ...] = field(repr=False)
    wanted: Filter
    begin: Cursor | str | int
    refusals: frozenset[int] = frozenset({GONE})
    attempts: int | None = None
    timeout_seconds: float = 10.0
    longest_delay_seconds: float = 300.0

    @property
    def shown_url(self) -> str:
        """Without the query, where people put tokens."""
        parts = urlsplit(self.url)
        return f"{parts.scheme}://{parts.netloc}{parts.path}"


def is_forbidden(address: str) -> bool:
    """Link-local addresses (a cloud's metadata service among them), and those that are nobody's.
    Private networks are allowed: receivers live there."""
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address) and found.ipv4_mapped is not None:
        found = found.ipv4_mapped
    aws_ipv6 = ipaddress.ip_address("fd00:ec2::254")
    return found.is_link_local or found.is_multicast or found.is_unspecified or found == aws_ipv6


def load_endpoints(
    settings: Settings, environ: Mapping[str, str] | None = None
) -> tuple[Endpoint, ...]:
    """Raises ConfigurationError with every problem at once, without any secret."""
    if settings.webhooks_file is None:
        raise ConfigurationError(["WEBHOOKS_FILE: missing; give the path of a JSON list"])
    environ = os.environ if environ is None else environ
    try:
        items = orjson.loads(Path(settings.webhooks_file).read_bytes())
    except OSError as error:
        raise ConfigurationError([f"WEBHOOKS_FILE: cannot be read: {error.strerror}"]) from None
    except orjson.JSONDecodeError as error:
        reason = f"WEBHOOKS_FILE: not JSON, line {error.lineno} column {error.colno}"
        raise ConfigurationError([reason]) from None
    if not isinstance(items, list) or len(items) > MOST_ENDPOINTS:
        raise ConfigurationError([f"WEBHOOKS_FILE: not a list of at most {MOST_ENDPOINTS}"])
    problems: list[str] = []
    found = [
        _endpoint(number, item, settings, environ, problems) for number, item in enumerate(items, 1)
    ]
    names = [item["name"] for item in items if isinstance(item, dict) and "name" in item]
    problems += [
        f"WEBHOOKS_FILE: {name!r} is the name of several"
        for name in sorted({str(name) for name in names if names.count(name) > 1})
    ]
    if problems:
        raise ConfigurationError(problems)
    return tuple(endpoint for endpoint in found if endpoint is not None)


class _Wrong(ValueError):
    pass


def _endpoint(
    number: int, item: Any, settings: Settings, environ: Mapping[str, str], problems: list[str]
) -> Endpoint | None:
    try:
        if not isinstance(item, dict):
            raise _Wrong("not an object")
        if unknown := set(item) - KNOWN:
            raise _Wrong(f"unknown fields {', '.join(sorted(unknown))}")
        name = item.get("name")
        if not isinstance(name, str) or not _NAME.fullmatch(name):
            raise _Wrong("name: 1 to 63 of a-z 0-9 and -")
        values = {key: _texts(key, item[key]) for key in FILTERS if key in item}
        return Endpoint(
            name,
            _url(item.get("url"), settings.webhooks_allow_http),
            _secrets(item, environ),
            parse(values),
            parse_begin(str(item.get("from", "now"))),
            frozenset(_statuses(item.get("refusals", [GONE]))),
            None if item.get("attempts") is None else int(_number(item, "attempts", 1, 1, 10**6)),
            _number(item, "timeoutSeconds", 10.0, 0.1, 60),
            _number(item, "longestDelaySeconds", 300.0, 0.1, 3600),
        )
    except (_Wrong, InvalidQuery, BadSecret) as error:
        problems.append(f"WEBHOOKS_FILE: endpoint {number}: {error}")
        return None


def _texts(key: str, value: Any) -> list[str]:
    values = value if isinstance(value, list) else [value]
    if not all(isinstance(part, str | int) and not isinstance(part, bool) for part in values):
        raise _Wrong(f"{key}: a text or a list of texts")
    return [str(part) for part in values]


def _url(value: Any, allow_http: bool) -> str:
    if not isinstance(value, str):
        raise _Wrong("url: missing")
    try:
        parts = urlsplit(value)
        host = parts.hostname
        _ = parts.port
    except ValueError:
        raise _Wrong("url: cannot be read") from None
    if parts.scheme != "https" and not (parts.scheme == "http" and allow_http):
        raise _Wrong("url: must begin with https:// (or set WEBHOOKS_ALLOW_HTTP=true)")
    if not host or parts.username is not None or parts.password is not None or parts.fragment:
        raise _Wrong("url: needs a host, and no user, password or fragment")
    try:
        forbidden = is_forbidden(host)
    except ValueError:
        return value
    if forbidden:
        raise _Wrong(f"url: {host} is link-local or nobody's")
    return value


def _secrets(item: Mapping[str, Any], environ: Mapping[str, str]) -> tuple[bytes, ...]:
    given = [name for name in SECRETS if name in item]
    if len(given) != 1:
        raise _Wrong(f"give exactly one of {', '.join(SECRETS)}")
    [source] = given
    value = item[source]
    if source == "secretEnv":
        value = environ.get(str(value), "").split()
    elif source == "secretFile":
        try:
            value = Path(str(value)).read_text(encoding="utf-8").split()
        except (OSError, UnicodeDecodeError):
            raise _Wrong("secretFile: cannot be read") from None
    texts = value if isinstance(value, list) else [value]
    if not 1 <= len(texts) <= 3 or not all(isinstance(text, str) for text in texts):
        raise _Wrong(f"{source}: one secret, or up to three while receivers change over")
    try:
        return tuple(secret_bytes(text) for text in texts)
    except BadSecret as error:
        raise _Wrong(f"{source}: {error}") from None


def _statuses(value: Any) -> Sequence[int]:
    if not isinstance(value, list) or not all(
        isinstance(part, int) and 400 <= part <= 599 for part in value
    ):
        raise _Wrong("refusals: a list of HTTP statuses from 400 to 599")
    return value


def _number(item: Mapping[str, Any], name: str, default: float, low: float, high: float) -> float:
    value = item.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise _Wrong(f"{name}: a number from {low:g} to {high:g}")
    return float(value)
