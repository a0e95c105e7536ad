"""aiokafka's clients as `KafkaAccess` makes them, and what a broker holds against us, in words.

aiokafka 0.14 says "Unable to bootstrap" whatever the cause is, and leaves the cause to its own log.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from dataclasses import dataclass
from typing import Any

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    IllegalSaslStateError,
    KafkaConnectionError,
    KafkaError,
    SaslAuthenticationFailed,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
    UnsupportedSaslMechanismError,
)
from aiokafka.protocol.metadata import MetadataRequest

from orchestrator.errors import StartRefused
from orchestrator.kafka_access import KafkaAccess

ANSWER_SECONDS = 5.0
REFUSAL_SECONDS = 2.0

NOT_YET_VALID, EXPIRED = 9, 10
OTHER_NAME = (62, 64)
UNTRUSTED = (2, 18, 19, 20, 21)
"""X509_V_ERR_… of OpenSSL's x509_vfy.h."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """Why a broker does not serve us. `is_final`: waiting does not mend it."""

    server: str
    detail: str
    remedy: str
    is_final: bool = True

    def __str__(self) -> str:
        return f"{self.server}: {self.detail}; {self.remedy}"


class _Explaining:
    """A start that fails says why."""

    def __init__(self, access: KafkaAccess, **options: Any) -> None:
        super().__init__(**access.client_options(), **options)
        self._access = access

    async def start(self) -> None:
        try:
            await super().start()  # type: ignore[misc]
        except KafkaConnectionError as error:
            raise await _explained(self._access, error) from error


class Consumer(_Explaining, AIOKafkaConsumer):  # type: ignore[misc]
    pass


class Producer(_Explaining, AIOKafkaProducer):  # type: ignore[misc]
    pass


class Admin(_Explaining, AIOKafkaAdminClient):  # type: ignore[misc]
    pass


DENIED = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
    TransactionalIdAuthorizationFailed,
)


def reason_of(error: BaseException, access: KafkaAccess) -> str:
    """In words where the broker's access-control lists are the cause; else as it names itself."""
    if not isinstance(error, DENIED):
        return repr(error)
    who = access.sasl_username or "this principal"
    what = type(error).__name__.partition("Authorization")[0].lower()
    named = ", ".join(sorted(_names(error))) or f"this {what}"
    return (
        f"Kafka's access-control lists do not let {who} do this with {named} ({what}); what each "
        "role must be allowed: orchestrator topics acls"
    )


def _names(error: BaseException) -> set[str]:
    found: set[str] = set()
    for item in error.args:
        found |= set(map(str, item)) if isinstance(item, set | list | tuple) else {str(item)}
    return found


async def _explained(access: KafkaAccess, error: KafkaConnectionError) -> KafkaConnectionError:
    troubles = [trouble for trouble in await troubles_of(access) if trouble is not None]
    if not troubles:
        return error
    return KafkaConnectionError("; ".join(map(str, troubles)))


async def refuse_if_not_admitted(access: KafkaAccess) -> None:
    """Raises StartRefused when every broker that is named turns us away for good. Brokers that are
    down are no reason: they are waited for."""
    troubles = await troubles_of(access)
    final = [trouble for trouble in troubles if trouble is not None and trouble.is_final]
    if final and len(final) == len(troubles):
        raise StartRefused("Kafka does not let this process in: " + "; ".join(map(str, final)))


async def asked(access: KafkaAccess, request: Any) -> Any:
    """The answer to one request of Kafka's protocol, of the first broker that gives one. Raises
    KafkaConnectionError."""
    problem: Exception | None = None
    for host, port, _ in collect_hosts(access.servers):
        connection = None
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                connection = await create_conn(
                    host, port, request_timeout_ms=4_000, **access.security_options()
                )
                return await connection.send(request)
        except (OSError, KafkaError, TimeoutError) as error:
            problem = error
        finally:
            if connection is not None:
                connection.close()
    raise KafkaConnectionError(repr(problem))


async def troubles_of(access: KafkaAccess) -> list[Trouble | None]:
    """For each broker that is named; None where it answers."""
    return await asyncio.gather(
        *(_trouble_of(access, host, port) for host, port, _ in collect_hosts(access.servers))
    )


async def _trouble_of(access: KafkaAccess, host: str, port: int) -> Trouble | None:
    server, connection = f"{host}:{port}", None
    try:
        async with asyncio.timeout(ANSWER_SECONDS):
            connection = await create_conn(
                host, port, request_timeout_ms=4_000, **access.security_options()
            )
            await connection.send(MetadataRequest([]))
        return None
    except (OSError, KafkaError, TimeoutError) as error:
        refused = None
        if isinstance(error, KafkaConnectionError) and access.protocol.is_encrypted:
            refused = await _refusal(access, host, port)
        return _read(access, server, refused or error)
    finally:
        if connection is not None:
            connection.close()


async def _refusal(access: KafkaAccess, host: str, port: int) -> ssl.SSLError | None:
    """What the broker says of our certificate. In TLS 1.3 it does so after our side has finished,
    and who writes meanwhile may lose it (RFC 8446, section 4.4.2.4): nothing is written here."""
    try:
        async with asyncio.timeout(REFUSAL_SECONDS):
            reader, writer = await asyncio.open_connection(
                host, port, ssl=access.tls(), server_hostname=host
            )
            try:
                await reader.read(1)
            finally:
                writer.close()
    except ssl.SSLError as error:
        return error
    except (OSError, TimeoutError):
        return None
    return None


def _read(access: KafkaAccess, server: str, error: Exception) -> Trouble:
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(access, server, error)
    if isinstance(error, ssl.SSLError):
        return _of_tls(server, error)
    if isinstance(error, UnsupportedSaslMechanismError):
        detail = f"it does not offer {access.sasl_mechanism}"
        return Trouble(server, detail, "give a KAFKA_SASL_MECHANISM that it offers")
    if isinstance(error, SaslAuthenticationFailed):
        detail = f"the password of {access.sasl_username} is not accepted"
        remedy = "check KAFKA_SASL_USERNAME, KAFKA_SASL_PASSWORD and KAFKA_SASL_MECHANISM"
        return Trouble(server, detail, remedy)
    if isinstance(error, socket.gaierror):
        remedy = "check KAFKA_BOOTSTRAP_SERVERS and the name service"
        return Trouble(server, "its name is not known", remedy, is_final=False)
    if isinstance(error, ConnectionRefusedError):
        remedy = "start the broker, or check KAFKA_BOOTSTRAP_SERVERS"
        return Trouble(server, "nobody listens there", remedy, is_final=False)
    if isinstance(error, KafkaConnectionError | IllegalSaslStateError | ConnectionError):
        detail = f"it ends the connection ({type(error).__name__})"
        remedy = f"is this its {access.protocol} listener? See KAFKA_SECURITY_PROTOCOL"
        return Trouble(server, detail, remedy, is_final=False)
    remedy = "may this machine reach it, and is this its listener for " + access.protocol + "?"
    return Trouble(server, f"no answer ({type(error).__name__})", remedy, is_final=False)


def _of_certificate(
    access: KafkaAccess, server: str, error: ssl.SSLCertVerificationError
) -> Trouble:
    authorities = access.ca_file or "the system's authorities (KAFKA_SSL_CA_FILE is not set)"
    if error.verify_code == EXPIRED:
        return Trouble(server, "its certificate has expired", "renew the broker's certificate")
    if error.verify_code == NOT_YET_VALID:
        return Trouble(server, "its certificate is not valid yet", "compare the clocks")
    if error.verify_code in OTHER_NAME:
        remedy = "name the broker in KAFKA_BOOTSTRAP_SERVERS as its certificate does"
        return Trouble(server, "its certificate is for another name", remedy)
    if error.verify_code in UNTRUSTED:
        detail = f"its certificate comes from none of {authorities}"
        return Trouble(server, detail, "give the authority that signed it as KAFKA_SSL_CA_FILE")
    return Trouble(server, f"its certificate: {error.verify_message}", "see KAFKA_SSL_CA_FILE")


def _of_tls(server: str, error: ssl.SSLError) -> Trouble:
    reason = error.reason or "no reason given"
    if "ALERT" in reason:
        remedy = "check KAFKA_SSL_CERTIFICATE_FILE, when it ends and who signed it"
        return Trouble(server, f"it does not take our certificate ({reason})", remedy)
    remedy = "is this the port of its TLS listener? See KAFKA_SECURITY_PROTOCOL"
    return Trouble(server, f"it speaks no TLS there ({reason})", remedy)
