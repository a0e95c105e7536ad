"""What `orchestrator doctor` says of certificates: how long each lasts, while there is time."""

from __future__ import annotations

import asyncio
import ssl
import struct
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509

from orchestrator.commands.findings import Check, State
from orchestrator.config import Config
from orchestrator.kafka_access import KafkaAccess

SOON = timedelta(days=14)
ANSWER_SECONDS = 5.0
SSL_REQUEST = struct.pack("!ii", 8, 80877103)
"""PostgreSQL's manual, "Message Formats"."""


async def kafka_certificates(access: KafkaAccess) -> list[Check]:
    """The brokers' and our own. A broker that does not answer is told of elsewhere."""
    if not access.protocol.is_encrypted:
        return []
    servers = [server.strip() for server in access.servers.split(",")]
    shown = await asyncio.gather(*(_of_broker(access, server) for server in servers))
    checks = [
        lasting(f"certificate of Kafka at {server}", found, "renew the broker's certificate")
        for server, found in zip(servers, shown, strict=True)
        if found is not None
    ]
    if access.certificate_file is not None:
        own = x509.load_pem_x509_certificate(_read(access.certificate_file))
        remedy = "renew KAFKA_SSL_CERTIFICATE_FILE; running processes take it by themselves"
        checks.append(lasting("our certificate for Kafka", own, remedy))
    return checks


def _read(file: str) -> bytes:
    return Path(file).read_bytes()


async def _of_broker(access: KafkaAccess, server: str) -> x509.Certificate | None:
    host, _, port = server.rpartition(":")
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            _, writer = await asyncio.open_connection(
                host.strip("[]"), int(port), ssl=access.tls(), server_hostname=host.strip("[]")
            )
    except (OSError, TimeoutError, ValueError):
        return None
    return await _shown(writer)


async def postgres_certificates(config: Config) -> list[Check]:
    """Of each server that is named with a `sslmode`; libpq has looked at it before."""
    from psycopg.conninfo import conninfo_to_dict

    urls = {"PostgreSQL": config.settings.database_url}
    urls["the signing guard's server"] = config.settings.signing_guard_url
    checks = []
    for subject, url in urls.items():
        if url is None:
            continue
        plain = url.get_secret_value().replace("postgresql+psycopg://", "postgresql://", 1)
        parts = conninfo_to_dict(plain)
        if parts.get("sslmode") in (None, "disable"):
            continue
        hosts = str(parts.get("host") or "").split(",")
        ports = str(parts.get("port") or "5432").split(",") * len(hosts)
        for host, port in zip(hosts, ports, strict=False):
            found = await _of_postgres(host, port)
            if found is not None:
                name = f"certificate of {subject} at {host}:{port}"
                checks.append(lasting(name, found, "renew the server's certificate"))
    return checks


async def _of_postgres(host: str, port: str) -> x509.Certificate | None:
    """Only its dates are read here, so whoever signed it will do."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(host, int(port))
            writer.write(SSL_REQUEST)
            if await reader.readexactly(1) != b"S":
                writer.close()
                return None
            await writer.start_tls(context, server_hostname=host)
    except (OSError, TimeoutError, ValueError, asyncio.IncompleteReadError):
        return None
    return await _shown(writer)


async def _shown(writer: asyncio.StreamWriter) -> x509.Certificate | None:
    layer = writer.get_extra_info("ssl_object")
    found = layer.getpeercert(binary_form=True) if layer is not None else None
    writer.close()
    return x509.load_der_x509_certificate(found) if found else None


def lasting(subject: str, found: x509.Certificate, remedy: str) -> Check:
    left = found.not_valid_after_utc - datetime.now(UTC)
    day = f"{found.not_valid_after_utc:%Y-%m-%d}"
    if left <= timedelta(0):
        return Check(subject, State.BROKEN, f"has expired ({day})", remedy)
    detail = f"valid for {left.days} days more ({day})"
    if left < SOON:
        return Check(subject, State.WARNING, detail, remedy)
    return Check(subject, State.WELL, detail)
