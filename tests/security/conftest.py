"""A stack that lets nobody in without TLS: Kafka with a login and access-control lists, a principal
a role; PostgreSQL behind TLS; the whole service, a process a role, each with its own principal."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest_asyncio
from aiokafka.protocol.admin import CreateAclsRequest
from pydantic import SecretStr

from orchestrator.dev.kafka_security import ADMINISTRATOR, BROKER, KafkaSecurity
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol
from orchestrator.kafka_rights import RIGHTS
from tests.authority import Authority
from tests.e2e.harness import World, free_port
from tests.tidy.project import ROOT
from tests.tls_front import TlsFront

CHAIN = 5920
LISTED = json.loads((ROOT / "deploy/security/kafka-acls.json").read_text())
KINDS = {"TOPIC": 2, "GROUP": 3, "CLUSTER": 4, "TRANSACTIONAL_ID": 5}
PATTERNS = {"LITERAL": 3, "PREFIXED": 4}
OPERATIONS = {"READ": 3, "WRITE": 4, "CREATE": 5, "DESCRIBE": 8, "DESCRIBE_CONFIGS": 10}
ALLOW = 3
"""Codes of KIP-140 and KIP-290."""
COMMANDS = {
    "ingest": ["ingest"],
    "decide": ["worker", "--roles", "decide"],
    "sign": ["worker", "--roles", "sign"],
    "relay": ["worker", "--roles", "relay"],
    "project": ["project"],
    "api": ["api"],
}


@dataclass
class Secured:
    stack: EmbeddedStack
    authority: Authority
    front: TlsFront
    folder: Path
    passwords: dict[str, str]

    @property
    def database_url(self) -> str:
        inner, outer = f":{self.stack.postgres.port}/", f":{self.front.port}/"
        url = self.stack.postgres.url.replace(inner, outer)
        return f"{url}?sslmode=verify-full&sslrootcert={self.authority.file}"

    def access(self, principal: str) -> KafkaAccess:
        return KafkaAccess(
            self.stack.kafka.bootstrap_servers,
            SecurityProtocol.SASL_SSL,
            SaslMechanism.SCRAM_SHA_512,
            principal,
            SecretStr(self.passwords[principal]),
            str(self.authority.file),
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


async def allow_what_is_listed(access: KafkaAccess) -> None:
    admin = access.admin()
    await admin.start()
    try:
        for rule in LISTED:
            answer = await admin._send_request(
                CreateAclsRequest(
                    KINDS[rule["resourceType"]],
                    rule["resourceName"],
                    PATTERNS[rule["patternType"]],
                    rule["principal"],
                    "*",
                    OPERATIONS[rule["operation"]],
                    ALLOW,
                )
            )
            assert all(code == 0 for code, _ in answer.creation_responses), answer
    finally:
        await admin.close()


@pytest_asyncio.fixture(scope="session")
async def secured(tmp_path_factory: Any) -> AsyncIterator[Secured]:
    folder = tmp_path_factory.mktemp("secured")
    authority = Authority(folder)
    identity = authority.sign("server", hosts=("127.0.0.1",), days=5)
    principals = [BROKER, ADMINISTRATOR, *(f"orchestrator-{role}" for role in RIGHTS)]
    passwords = {name: secrets.token_hex(16) for name in principals}
    security = KafkaSecurity(identity.both, authority.file, passwords)
    async with (
        EmbeddedStack(
            folder / "stack", chain_ids=[CHAIN], block_time=1.0, kafka_security=security
        ) as stack,
        TlsFront(stack.postgres.port, identity) as front,
    ):
        found = Secured(stack, authority, front, folder, passwords)
        await allow_what_is_listed(found.access(ADMINISTRATOR))
        yield found


@pytest_asyncio.fixture(scope="session")
async def service(secured: Secured) -> AsyncIterator[World]:
    """Every role in a process of its own, with its own principal and no more."""
    code, told = await secured.ends("init", "init", "init")
    assert code == 0, told
    world = World(secured.stack)
    parts = {name: secured.part(name, name, *arguments) for name, arguments in COMMANDS.items()}
    world.service = parts["api"]
    await asyncio.gather(*(part.start() for part in parts.values()))
    yield world
    await asyncio.gather(*(part.stop() for part in parts.values()))
