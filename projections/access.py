"""Who asks, what they may do, and how often.

With no tokens configured everyone may read and nobody may operate. With tokens, reading needs one
too; only liveness and health, and pages without data, stay open.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from aiohttp import web

from orchestrator.config import Settings
from orchestrator.tokens import Scope, Token, find_token, parse_tokens
from projections.answers import Problem, Refusal
from projections.limits import Budget, Limiter, Standing, rate_limit
from projections.middleware import Handler, route_of

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

OPEN = ("/", "/assets/", "/docs", "/docs/", "/openapi.json", "/health", "/health/")
"""Hold no data of a request: a monitor, and the page that asks for the token, come without one.
What ends with `/` stands for all below it."""
MONITORED = ("/health", "/health/", "/metrics", "/metrics/")
PAGE = ("/", "/assets/", "/docs", "/docs/", "/openapi.json", "/overview", "/lanes", "/controls")


@dataclass(frozen=True, slots=True)
class Access:
    """The rules of one process. `proxies` may name the client in X-Forwarded-For."""

    tokens: tuple[Token, ...] = ()
    limiter: Limiter | None = None
    proxies: tuple[Network, ...] = ()


ACCESS = web.AppKey("access", Access)
TOKEN = web.RequestKey("token", Token)
STANDING = web.RequestKey("standing", Standing)

CHALLENGE = {"WWW-Authenticate": 'Bearer realm="orchestrator"'}
BAD_TOKEN = {"WWW-Authenticate": 'Bearer realm="orchestrator", error="invalid_token"'}


@web.middleware
async def guard(request: web.Request, handler: Handler) -> web.StreamResponse:
    """Counts every request, then lets through who may read."""
    access = request.app[ACCESS]
    given = _bearer(request)
    token = find_token(access.tokens, given) if given is not None else None
    if token is not None:
        request[TOKEN] = token
    route = route_of(request)
    if access.limiter is not None:
        await _limit(request, access, token, route)
    if given is not None and token is None and access.tokens:
        raise Refusal(Problem.UNAUTHENTICATED, "this token is not known here", BAD_TOKEN)
    if not among(route, OPEN):
        require_scope(request, Scope.READ)
    return await handler(request)


def require_scope(request: web.Request, scope: Scope) -> str:
    """The name of whoever asks. Raises Refusal when they may not; a handler that changes anything
    calls it with `Scope.OPERATE` before all else."""
    access = request.app[ACCESS]
    token: Token | None = request.get(TOKEN)
    if token is None:
        if not access.tokens and scope is Scope.READ:
            return "anyone"
        if not access.tokens:
            raise Refusal(
                Problem.FORBIDDEN,
                "no tokens are configured (API_TOKENS), so nobody may operate over HTTP; "
                "use the command line",
            )
        detail = f"send `Authorization: Bearer <token>` with a token of scope {scope}"
        raise Refusal(Problem.UNAUTHENTICATED, detail, CHALLENGE)
    if not token.allows(scope):
        raise Refusal(
            Problem.FORBIDDEN, f"the token {token.name!r} has scope {token.scope}, not {scope}"
        )
    return token.name


async def _limit(request: web.Request, access: Access, token: Token | None, route: str) -> None:
    assert access.limiter is not None
    if token is not None:
        budget, client = Budget.TOKEN, token.name
    else:
        client = client_of(request)
        budget = Budget.DEFAULT
        if among(route, MONITORED):
            budget = Budget.MONITORING
        elif among(route, PAGE):
            budget = Budget.PAGE
    standing = await access.limiter.count(budget, client)
    if standing is None:
        return
    request[STANDING] = standing
    if not standing.allowed:
        wait = standing.reset_seconds
        raise Refusal(
            Problem.RATE_LIMITED,
            f"more than {standing.limit} requests in {standing.window_seconds} s; "
            f"ask again in {wait} s",
            {"Retry-After": str(wait)},
        )


def among(route: str, places: Sequence[str]) -> bool:
    """Whether a route's pattern is one of `places`, or below one that ends with `/`."""
    below = (place for place in places if place.endswith("/") and place != "/")
    return route in places or any(route.startswith(place) for place in below)


def _bearer(request: web.Request) -> str | None:
    kind, _, given = request.headers.get("Authorization", "").partition(" ")
    return given.strip() if kind.lower() == "bearer" else None


def client_of(request: web.Request) -> str:
    """The address that a request counts for."""
    return client_address(request, request.app[ACCESS].proxies)


def client_address(request: web.Request, proxies: Sequence[Network]) -> str:
    """Whom to count: the peer, or the nearest address in X-Forwarded-For that is no trusted proxy.

    Only entries that a trusted proxy appended are believed, from the right. An IPv6 client counts
    by its /64: that is what one subscriber has.
    """
    hop = _address(request.remote or "")
    forwarded = ",".join(request.headers.getall("X-Forwarded-For", []))
    chain = [part.strip() for part in forwarded.split(",") if part.strip()]
    while hop is not None and chain and any(hop in network for network in proxies):
        before = _address(chain.pop())
        if before is None:
            break
        hop = before
    if isinstance(hop, ipaddress.IPv6Address):
        return str(ipaddress.ip_network((hop, 64), strict=False))
    return str(hop) if hop is not None else "unknown"


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Without port and zone; an IPv4 address in IPv6 clothes is that IPv4 address."""
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:
        return None
    inner = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return inner or found


def access_of(settings: Settings) -> Access:
    """From the checked settings."""
    limiter = Limiter(
        {
            Budget.DEFAULT: rate_limit(settings.api_rate_limit),
            Budget.PAGE: rate_limit(settings.api_rate_limit_page),
            Budget.MONITORING: rate_limit(settings.api_rate_limit_monitoring),
            Budget.TOKEN: rate_limit(settings.api_rate_limit_token),
        },
        settings.api_rate_limit_store_url.get_secret_value()
        if settings.api_rate_limit_store_url
        else None,
    )
    tokens = settings.api_tokens.get_secret_value() if settings.api_tokens else ""
    proxies = tuple(ipaddress.ip_network(text) for text in settings.api_trusted_proxies)
    return Access(parse_tokens(tokens)[0], limiter, proxies)
