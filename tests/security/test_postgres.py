"""PostgreSQL's own TLS, and nothing without it: whoever reads or writes it checks its name, and
is told what to do where the two sides do not agree."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass

import psycopg
import pytest

from orchestrator.adapters.postgres_guard import PostgresGuard
from orchestrator.errors import GuardUnavailable, StartRefused
from orchestrator.postgres_troubles import refuse_if_not_admitted
from projections.database import migrate
from tests.authority import Authority
from tests.e2e.harness import World, until
from tests.feed.receiving import Receiver
from tests.security.conftest import CHAIN, Secured

WORDS = {
    "stranger": "its certificate comes from none of the authorities in sslrootcert",
    "plain": "it lets nobody in without TLS; end DATABASE_URL in ?sslmode=verify-full",
    "name": "its certificate is for another name",
    "missing": "there is nothing to check its certificate with",
    "empty": "sslrootcert holds no certificates",
}
COMMANDS = {
    "migrations": ("init", ["init"]),
    "projector": ("project", ["project"]),
    "api": ("api", ["api"]),
    "rebuild": ("project", ["rebuild"]),
    "verify": ("project", ["verify"]),
    "deliverer": ("webhooks", ["webhooks"]),
    "deliveries": ("webhooks", ["webhooks", "list"]),
}


@dataclass
class Urls:
    secured: Secured

    def __getitem__(self, case: str) -> str:
        url, folder = self.secured.stack.postgres.url, self.secured.folder
        stranger = Authority(folder, "somebody")
        (folder / "empty.pem").write_text("")
        checked = "?sslmode=verify-full&sslrootcert="
        return {
            "stranger": url + self.secured.encrypted(stranger),
            "plain": f"{url}?sslmode=disable",
            "name": self.secured.database_url.replace("127.0.0.1", "localhost"),
            "missing": f"{url}{checked}{folder}/nobody.pem",
            "empty": f"{url}{checked}{folder}/empty.pem",
        }[case]


async def test_every_session_is_encrypted(service: World, secured: Secured, receiver: Receiver):
    [key] = await service.mint(chain_id=CHAIN)
    await service.ended([key])
    code, told = await secured.ends("made-anew", "project", "rebuild")
    assert code == 0, told
    code, told = await secured.ends("delivered", "webhooks", "webhooks", "list")
    assert code == 0 and "ledger" in told, told

    async def delivered() -> bool:
        return any(data.get("requestKey") == key for data in receiver.taken)

    await until(delivered, "the deliverer tells the receiver of the mint")
    async with await psycopg.AsyncConnection.connect(secured.database_url) as link:
        found = await link.execute(
            "SELECT application_name, ssl, version FROM pg_stat_ssl JOIN pg_stat_activity "
            "USING (pid) WHERE backend_type = 'client backend' AND pid <> pg_backend_pid()"
        )
        sessions = await found.fetchall()
    assert {"projections", "projections-api", "signing guard"} <= {name for name, *_ in sessions}
    assert {(ssl, version) for _, ssl, version in sessions} == {(True, "TLSv1.3")}


@pytest.mark.parametrize("case", WORDS)
async def test_waiting_would_not_help(secured: Secured, case: str):
    url = Urls(secured)[case]
    with pytest.raises(StartRefused, match="PostgreSQL does not let this process in") as refused:
        await refuse_if_not_admitted(url)
    assert WORDS[case] in str(refused.value)
    guard = PostgresGuard(url, 60)
    with pytest.raises(GuardUnavailable) as unavailable:
        await guard.prepare()
    assert WORDS[case].replace("DATABASE_URL", "SIGNING_GUARD_URL") in str(unavailable.value)
    with pytest.raises(Exception, match="connection failed"):
        await migrate(url)


async def test_one_that_is_away_is_waited_for(secured: Secured):
    port = f":{secured.stack.postgres.port}/"
    await refuse_if_not_admitted(secured.database_url.replace(port, ":1/"))
    await refuse_if_not_admitted(secured.database_url)


async def test_a_command_or_role_ends_with_the_reason(secured: Secured):
    urls = Urls(secured)

    async def tried(name: str, case: str) -> None:
        role, arguments = COMMANDS[name]
        code, told = await secured.ends(
            f"{name}-{case}", role, *arguments, DATABASE_URL=urls[case], WEBHOOKS_FILE=str(hooks)
        )
        assert code == 2, (name, case, told)
        assert WORDS[case] in told and "Traceback" not in told, (name, case, told)

    hooks = secured.folder / "hooks.json"
    hooks.write_text('[{"name": "x", "url": "https://example.org/", "secret": "whsec_c2VjcmV0"}]')
    await asyncio.gather(*(tried(name, "stranger") for name in COMMANDS), tried("api", "plain"))


async def test_a_server_without_tls_is_not_spoken_to(secured: Secured, tmp_path):
    """Its answer to the request for TLS is N (PostgreSQL's manual, "SSL Session Encryption")."""

    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readexactly(8)
        writer.write(b"N")
        await writer.drain()
        await reader.read()
        writer.close()

    async with await asyncio.start_server(refuse, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        url = secured.database_url.replace(f":{secured.stack.postgres.port}/", f":{port}/")
        with pytest.raises(StartRefused, match="it speaks no TLS, which sslmode in DATABASE_URL"):
            await refuse_if_not_admitted(url)
