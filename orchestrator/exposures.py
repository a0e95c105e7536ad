"""What would go to another machine in the clear: told at the start, or refused (`REQUIRE_TLS`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import TYPE_CHECKING

import structlog
from pydantic import SecretStr

if TYPE_CHECKING:
    from orchestrator.config import Settings

log = structlog.get_logger(__name__)

ENCRYPTED = ("require", "verify-ca", "verify-full")
CHECKED = ("verify-ca", "verify-full")
"""libpq's `sslmode`; `require` encrypts, and takes anybody for the server."""


@dataclass(frozen=True, slots=True)
class Exposure:
    """A setting, what it lets out, and what to give instead. `is_loud`: a password is in it."""

    name: str
    detail: str
    remedy: str
    is_loud: bool


def exposures(settings: Settings, environ: Mapping[str, str]) -> tuple[Exposure, ...]:
    return (
        *_of_kafka(settings),
        *_of_postgres("DATABASE_URL", settings.database_url, settings, environ),
        *_of_postgres("SIGNING_GUARD_URL", settings.signing_guard_url, settings, environ),
    )


def tell_loud(found: Iterable[Exposure]) -> None:
    for item in found:
        if item.is_loud:
            log.warning(
                "a password crosses the network in the clear",
                setting=item.name,
                reason=item.detail,
                remedy=item.remedy,
            )


def _of_kafka(settings: Settings) -> Iterable[Exposure]:
    servers, protocol = settings.kafka_bootstrap_servers, settings.kafka_security_protocol
    if servers is None or protocol.is_encrypted:
        return
    hosts = [server.strip().rpartition(":")[0] for server in servers.split(",")]
    if all(map(_is_here, hosts)):
        return
    detail = f"{protocol} to another machine: who is on the way reads facts, and can append some"
    if protocol.has_password:
        detail += f"; the login goes in the clear too ({settings.kafka_sasl_mechanism})"
    yield Exposure("KAFKA_SECURITY_PROTOCOL", detail, "give SASL_SSL", protocol.has_password)


def _of_postgres(
    name: str, url: SecretStr | None, settings: Settings, environ: Mapping[str, str]
) -> Iterable[Exposure]:
    """As libpq reads it: what the URL does not say, PGHOST and PGSSLMODE do."""
    from psycopg import ProgrammingError
    from psycopg.conninfo import conninfo_to_dict

    if url is None:
        return
    try:
        plain = url.get_secret_value().replace("postgresql+psycopg://", "postgresql://", 1)
        parts = conninfo_to_dict(plain)
    except ProgrammingError:
        return  # told where it is used
    hosts = str(parts.get("host") or parts.get("hostaddr") or environ.get("PGHOST") or "")
    if all(map(_is_here, hosts.split(","))):
        return
    mode = str(parts.get("sslmode") or environ.get("PGSSLMODE") or "prefer")
    has_password = bool(parts.get("password"))
    if mode not in ENCRYPTED:
        detail = f"sslmode={mode} to another machine, which may end in plain text"
        yield Exposure(name, detail, _REMEDY, has_password)
    elif settings.require_tls and mode not in CHECKED:
        detail = f"sslmode={mode} takes anybody for the server"
        yield Exposure(name, detail, _REMEDY, has_password)


_REMEDY = "end it in ?sslmode=verify-full&sslrootcert=/path/of/authorities.pem"


def _is_here(host: str) -> bool:
    """This machine: a socket's folder, localhost, a loopback address."""
    host = host.strip().strip("[]")
    if not host or host.startswith(("/", "@")) or host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False
