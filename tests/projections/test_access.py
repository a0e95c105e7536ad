"""Tokens, limits, addresses behind proxies, and the headers of every answer."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web
from aiohttp.test_utils import TestClient, TestServer, make_mocked_request
from typer.testing import CliRunner

from orchestrator.cli import app as command_line
from orchestrator.config import Settings, load
from orchestrator.dev.ports import chosen_port
from orchestrator.errors import ConfigurationError
from orchestrator.tokens import Scope, Token, find_token, new_token, parse_tokens, sha256_of
from projections.access import Access, access_of, client_address, require_scope
from projections.answers import answer
from projections.api import make_app
from projections.limits import Budget, Limiter, rate_limit
from projections.store import Store
from tests.projections.conftest import Client

Serve = Callable[..., Awaitable[Client]]
READER, OPERATOR = new_token(), new_token()
TOKENS = (
    Token("reader", Scope.READ, sha256_of(READER)),
    Token("operator", Scope.OPERATE, sha256_of(OPERATOR)),
)
NOWHERE = "postgresql://nobody@127.0.0.1:1/none"


def bearing(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def limited(**limits: str) -> Limiter:
    return Limiter({Budget(name): rate_limit(text) for name, text in limits.items()})


async def problem(response: Any, status: int) -> dict[str, Any]:
    assert response.status == status, await response.text()
    assert response.content_type == "application/problem+json"
    body: dict[str, Any] = await response.json()
    return body


async def test_reading_with_and_without_tokens(serve: Serve, database: str) -> None:
    api = await serve(database, access=Access(TOKENS))
    refused = await api.get("/status")
    assert "Bearer <token>" in (await problem(refused, 401))["error"]
    assert refused.headers["WWW-Authenticate"] == 'Bearer realm="orchestrator"'
    forged = await api.get("/status", headers=bearing("sco_guess"))
    await problem(forged, 401)
    assert "invalid_token" in forged.headers["WWW-Authenticate"]
    for token in (READER, OPERATOR):
        assert (await api.get("/status", headers=bearing(token))).status == 200
    for path in ("/metrics", "/lanes", "/nowhere"):
        await problem(await api.get(path), 401)
    for path in ("/health/live", "/health/ready", "/health"):
        assert (await api.get(path)).status in (200, 503)
    await problem(await api.get("/health", headers=bearing("sco_guess")), 401)
    nobody = await serve(database)
    assert (await nobody.get("/status")).status == 200
    assert (await nobody.get("/status", headers=bearing("sco_any"))).status == 200


@pytest.mark.parametrize(
    ("tokens", "given", "status"),
    [
        ((), None, 403),
        ((), OPERATOR, 403),
        (TOKENS, None, 401),
        (TOKENS, READER, 403),
        (TOKENS, OPERATOR, 200),
    ],
)
async def test_operating_needs_its_scope(
    tokens: tuple[Token, ...], given: str | None, status: int
) -> None:
    async def order(request: web.Request) -> web.Response:
        return answer({"by": require_scope(request, Scope.OPERATE)})

    app = make_app(Store(NOWHERE), None, [], access=Access(tokens))
    app.router.add_post("/order", order)
    async with TestClient(TestServer(app)) as client:
        response = await client.post("/order", headers=bearing(given) if given else {})
        body = await response.json()
        assert response.status == status, body
        assert (body == {"by": "operator"}) is (status == 200)


async def test_the_limit_is_told_and_kept(serve: Serve, database: str) -> None:
    limits = limited(
        default="3/15minutes", page="5/minute", monitoring="6/minute", token="4/minute"
    )
    api = await serve(database, access=Access(TOKENS, limits))
    shown = []
    for _ in range(4):
        response = await api.get("/status")
        shown.append((response.status, response.headers["RateLimit-Remaining"]))
    assert shown == [(401, "2"), (401, "1"), (401, "0"), (429, "0")]
    assert (await problem(response, 429))["type"] == "/docs#problem-rate-limited"
    assert response.headers["RateLimit-Limit"] == "3"
    assert 1 <= int(response.headers["Retry-After"]) <= 900
    assert response.headers["RateLimit-Policy"] == '"default";q=3;w=900'
    assert response.headers["RateLimit"].startswith('"default";r=0;t=')
    await problem(await api.get("/status", headers=bearing("sco_guess")), 429)
    await problem(await api.get("/nowhere"), 429)
    for number in range(4):
        with_token = await api.get("/status", headers=bearing(READER))
        assert with_token.status == 200, "a token has a budget of its own"
        assert with_token.headers["RateLimit-Remaining"] == str(3 - number)
    await problem(await api.get("/lanes", headers=bearing(READER)), 429)
    assert (await api.get("/status", headers=bearing(OPERATOR))).status == 200
    for _ in range(6):
        assert (await api.get("/health/live")).status == 200
    await problem(await api.get("/health/live"), 429)


async def test_no_limit_where_it_is_off(serve: Serve, database: str) -> None:
    api = await serve(database, access=Access(limiter=limited(default="off")))
    for _ in range(5):
        response = await api.get("/status")
        assert response.status == 200 and "RateLimit-Limit" not in response.headers


async def test_a_store_that_is_gone_stops_nothing() -> None:
    limiter = Limiter({Budget.DEFAULT: rate_limit("2/minute")}, "redis://127.0.0.1:1/0")
    seen = [await limiter.count(Budget.DEFAULT, "1.2.3.4") for _ in range(3)]
    assert [standing.allowed for standing in seen if standing] == [True, True, False]


@pytest.fixture
def redis_url(tmp_path: Path) -> Iterator[str]:
    program = shutil.which("redis-server") or shutil.which("valkey-server")
    if program is None:
        pytest.skip(
            "NEITHER redis-server NOR valkey-server IS INSTALLED: the shared store of the "
            "rate limits is not tested here (Debian: apt-get install redis-server)"
        )
    port = chosen_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--dir", tmp_path]
    process = subprocess.Popen([*map(str, command)], stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            break
        except OSError:
            time.sleep(0.05)
    yield f"redis://127.0.0.1:{port}/0"
    process.terminate()
    process.wait(30)


async def test_replicas_count_together(redis_url: str) -> None:
    limits = {Budget.DEFAULT: rate_limit("5/minute")}
    first, second = (
        Limiter(limits, redis_url),
        Limiter(limits, redis_url.replace("redis", "valkey")),
    )
    seen = [
        await replica.count(Budget.DEFAULT, "1.2.3.4") for replica in (first, second) for _ in "123"
    ]
    assert [standing.allowed for standing in seen if standing] == [True] * 5 + [False]
    other = await second.count(Budget.DEFAULT, "1.2.3.5")
    assert other is not None and other.allowed and other.remaining == 4


PROXIES = (ip_network("192.0.2.0/24"), ip_network("fd00::/8"))


@pytest.mark.parametrize(
    ("peer", "forwarded", "client"),
    [
        ("203.0.113.9", None, "203.0.113.9"),
        ("203.0.113.9", "198.51.100.1", "203.0.113.9"),
        ("192.0.2.1", "198.51.100.1", "198.51.100.1"),
        ("192.0.2.1", "6.6.6.6, 198.51.100.1, 192.0.2.99", "198.51.100.1"),
        ("192.0.2.1", "198.51.100.1:4711", "198.51.100.1"),
        ("192.0.2.1", "nonsense", "192.0.2.1"),
        ("192.0.2.1", "nonsense, 198.51.100.1", "198.51.100.1"),
        ("192.0.2.1", None, "192.0.2.1"),
        ("192.0.2.1", "192.0.2.2, 192.0.2.3", "192.0.2.2"),
        ("fd00::1", "[2001:db8:1:2:3::4]:443", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:ffff::1", None, "2001:db8:1:2::/64"),
        ("::ffff:203.0.113.9", None, "203.0.113.9"),
    ],
)
def test_who_is_counted(peer: str, forwarded: str | None, client: str) -> None:
    headers = {} if forwarded is None else {"X-Forwarded-For": forwarded}
    request = make_mocked_request("GET", "/", headers=headers).clone(remote=peer)
    assert client_address(request, PROXIES) == client


async def test_headers_of_every_answer(api: Client) -> None:
    for path in ("/status", "/nowhere", "/metrics", "/health/live"):
        headers = (await api.get(path)).headers
        policy = headers["Content-Security-Policy"]
        assert "default-src 'none'" in policy and "frame-ancestors 'none'" in policy
        assert "unsafe" not in policy and "http" not in policy and "*" not in policy
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert headers["Server"] == "orchestrator", "no version of any library"
        assert headers["X-Request-Id"]


def test_tokens_are_parsed_and_never_repeated() -> None:
    entries = "\n".join(["# who asks", *(token.entry() for token in TOKENS), ""])
    assert parse_tokens(entries) == (TOKENS, [])
    assert parse_tokens(entries.replace("\n", ",").removeprefix("# who asks,"))[0] == TOKENS
    secret = new_token()
    tokens, problems = parse_tokens(
        f"{secret}, x:read:{secret}, {TOKENS[0].entry()}, x:all:{'0' * 64}"
    )
    assert tokens == TOKENS[:1] and len(problems) == 3 and secret not in str(problems)
    _, twice = parse_tokens(f"{TOKENS[0].entry()} {TOKENS[0].entry()}")
    assert "the name of an earlier one" in twice[0]
    assert find_token(TOKENS, OPERATOR) == TOKENS[1]
    assert find_token(TOKENS, OPERATOR + "x") is None and find_token((), "") is None


def test_settings_of_access(tmp_path: Path) -> None:
    file = tmp_path / "tokens"
    file.write_text(TOKENS[0].entry() + "\n" + TOKENS[1].entry())
    config = load([], {"API_TOKENS_FILE": str(file), "API_TRUSTED_PROXIES": "192.0.2.0/24, ::1"})
    access = access_of(config.settings)
    assert access.tokens == TOKENS and len(access.proxies) == 2
    assert access_of(Settings()).tokens == ()
    secret = new_token()
    with pytest.raises(ConfigurationError) as caught:
        load(
            [],
            {
                "API_TOKENS": f"me:read:{secret}",
                "API_RATE_LIMIT": "many",
                "API_TRUSTED_PROXIES": "192.0.2.1/8",
                "API_RATE_LIMIT_STORE_URL": f"http://user:{secret}@store",
            },
        )
    told = str(caught.value)
    for name in ("API_TOKENS", "API_RATE_LIMIT:", "API_TRUSTED_PROXIES", "STORE_URL"):
        assert name in told
    assert secret not in told


def test_the_command_shows_a_token_once_and_its_hash() -> None:
    done = CliRunner().invoke(command_line, ["token", "ops-1", "--scope", "operate"])
    assert done.exit_code == 0
    token = done.stdout.splitlines()[0]
    entry = done.stdout.splitlines()[-1]
    [kept] = parse_tokens(entry)[0]
    assert kept == Token("ops-1", Scope.OPERATE, sha256_of(token)) and token not in entry
    assert CliRunner().invoke(command_line, ["token", "a b"]).exit_code != 0
