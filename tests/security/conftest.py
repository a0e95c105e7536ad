"""A stack that lets nobody in without TLS: Kafka with logins, certificates and access-control
lists, a principal a role; PostgreSQL with its own TLS; the whole service, a process a role, each
with its own principal."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest_asyncio
from pydantic import SecretStr

from orchestrator.dev.kafka_security import ADMINISTRATOR, BROKER, KafkaSecurity
from orchestrator.dev.ports import assign_ports
from orchestrator.dev.postgres_security import PostgresSecurity
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol
from orchestrator.kafka_rights import RIGHTS
from tests.authority import Authority
from tests.e2e.harness import World, free_port
from tests.feed.receiving import Receiver
from tests.security import acls, postgres

CHAIN = 5920
COMMANDS = {
    "ingest": ["ingest"],
    "decide": ["worker", "--roles", "decide"],
    "sign": ["worker", "--roles", "sign"],
    "relay": ["worker", "--roles", "relay"],
    "project": ["project"],
    "api": ["api"],
    "webhooks": ["webhooks"],
}
METRICS = {name: free_port() for name in ("decide", "sign", "relay")}
"""Ports of the roles' metrics."""
LOGINS, CERTIFICATES = "LOGINS", "CERTIFICATES"


@dataclass
class Secured:
    stack: EmbeddedStack
    authority: Authority
    folder: Path
    passwords: dict[str, str]
    listeners: dict[str, int]

    @property
    def database_url(self) -> str:
        return self.stack.postgres.url + self.encrypted(self.authority)

    @property
    def tool(self) -> acls.Tool:
        return acls.Tool(self.folder, self.access(ADMINISTRATOR))

    @staticmethod
    def encrypted(authority: Authority) -> str:
        return f"?sslmode=verify-full&sslrootcert={authority.file}"

    def access(self, principal: str) -> KafkaAccess:
        return KafkaAccess(
            self.stack.kafka.bootstrap_servers,
            SecurityProtocol.SASL_SSL,
            SaslMechanism.SCRAM_SHA_512,
            principal,
            SecretStr(self.passwords[principal]),
            str(self.authority.file),
        )

    def by_login(self, principal: str, mechanism: SaslMechanism) -> KafkaAccess:
        """At the listener of the other logins."""
        server = f"127.0.0.1:{self.listeners[LOGINS]}"
        return replace(self.access(principal), servers=server, sasl_mechanism=mechanism)

    def by_certificate(self, principal: str, authority: Authority | None = None) -> KafkaAccess:
        """Without a password: who it is says the certificate."""
        own = (authority or self.authority).sign(principal)
        return KafkaAccess(
            f"127.0.0.1:{self.listeners[CERTIFICATES]}",
            SecurityProtocol.SSL,
            ca_file=str(self.authority.file),
            certificate_file=str(own.certificate),
            key_file=str(own.key),
        )

    def environment(self, role: str, **more: str) -> dict[str, str]:
        principal = f"orchestrator-{role}"
        secret = self.folder / f"{principal}.password"
        secret.write_text(self.passwords[principal])
        values = {
            "CHAIN_IDS": str(CHAIN),
            "DATABASE_URL": self.database_url,
            "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
            "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
            "KAFKA_SASL_USERNAME": principal,
            "KAFKA_SASL_PASSWORD_FILE": str(secret),
            "KAFKA_SSL_CA_FILE": str(self.authority.file),
            "REQUIRE_TLS": "true",
        }
        return service_environment(self.stack, **(values | more))

    def part(self, name: str, role: str, *arguments: str, **more: str) -> Service:
        port = free_port() if name == "api" else None
        return Service(self.stack, name, arguments, self.environment(role, **more), api_port=port)

    async def ends(self, name: str, role: str, *arguments: str, **more: str) -> tuple[Any, str]:
        """Exit code and all that a command wrote."""
        part = self.part(name, role, *arguments, **more)
        await part.start()
        code = await asyncio.to_thread(part.wait_blocking)
        return code, part.log.read_text()


@pytest_asyncio.fixture(scope="session")
async def secured(tmp_path_factory: Any) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    identity = authority.sign("server", hosts=("127.0.0.1",), days=5)
    principals = [BROKER, ADMINISTRATOR, *(f"orchestrator-{role}" for role in RIGHTS)]
    passwords = {name: secrets.token_hex(16) for name in principals}
    listeners = assign_ports([LOGINS, CERTIFICATES], {}, folder / "listeners.json")
    async with EmbeddedStack(
        folder / "stack",
        chain_ids=[CHAIN],
        block_time=1.0,
        kafka_security=KafkaSecurity(identity.both, authority.file, passwords, listeners),
        postgres_security=PostgresSecurity(
            await asyncio.to_thread(postgres.binaries), identity.certificate, identity.key
        ),
    ) as stack:
        found = Secured(stack, authority, folder, passwords, listeners)
        code, told = await found.tool.run("bash", str(acls.SCRIPT))
        assert code == 0, told
        yield found


@pytest_asyncio.fixture(scope="session")
async def receiver() -> AsyncIterator[Receiver]:
    found = Receiver()
    await found.start()
    yield found
    await found.stop()


@pytest_asyncio.fixture(scope="session")
async def parts(secured: Secured, receiver: Receiver) -> AsyncIterator[dict[str, Service]]:
    """Every role in a process of its own, with its own principal and no more."""
    code, told = await secured.ends("init", "init", "init")
    assert code == 0, told
    hooks = {"name": "ledger", "url": receiver.url, "secret": receiver.secret}
    file = secured.folder / "webhooks.json"
    file.write_text(json.dumps([hooks]))
    more = {"WEBHOOKS_FILE": str(file), "WEBHOOKS_ALLOW_HTTP": "true"}
    parts = {
        name: secured.part(name, name, *arguments, **_own_settings(name, more))
        for name, arguments in COMMANDS.items()
    }
    await asyncio.gather(*(part.start() for part in parts.values()))
    yield parts
    await asyncio.gather(*(part.stop() for part in parts.values()))


def _own_settings(name: str, of_webhooks: dict[str, str]) -> dict[str, str]:
    if name == "webhooks":
        return of_webhooks
    return {"METRICS_PORT": str(METRICS[name])} if name in METRICS else {}


@pytest_asyncio.fixture(scope="session")
async def service(secured: Secured, parts: dict[str, Service]) -> World:
    world = World(secured.stack)
    world.service = parts["api"]
    return world
