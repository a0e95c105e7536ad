"""How this process is let in by Kafka: the one place that makes clients of it.

A client that is made elsewhere would speak plain text where the settings say TLS; a test forbids
it. Made once from the settings (`kafka_settings`), handed to whoever reads or writes the log.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from pydantic import SecretStr

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient


class SecurityProtocol(StrEnum):
    """Kafka's own names (`security.protocol`)."""

    PLAINTEXT = "PLAINTEXT"
    SSL = "SSL"
    SASL_PLAINTEXT = "SASL_PLAINTEXT"
    SASL_SSL = "SASL_SSL"

    @property
    def is_encrypted(self) -> bool:
        return self in (SecurityProtocol.SSL, SecurityProtocol.SASL_SSL)

    @property
    def has_password(self) -> bool:
        return self in (SecurityProtocol.SASL_PLAINTEXT, SecurityProtocol.SASL_SSL)


class SaslMechanism(StrEnum):
    """Those that need a name and a password only. OAUTHBEARER and AWS_MSK_IAM are not spoken: both
    need a source of tokens that this service has not."""

    PLAIN = "PLAIN"
    SCRAM_SHA_256 = "SCRAM-SHA-256"
    SCRAM_SHA_512 = "SCRAM-SHA-512"


@dataclass(frozen=True, slots=True)
class KafkaAccess:
    """Where the brokers are (`host:port`, comma-separated) and how they let this process in.

    No secret is shown by `repr`. Files are read when a client is made.
    """

    servers: str
    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    sasl_mechanism: SaslMechanism = SaslMechanism.SCRAM_SHA_512
    sasl_username: str | None = None
    sasl_password: SecretStr | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: SecretStr | None = field(default=None, repr=False)

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        from aiokafka import AIOKafkaConsumer

        return AIOKafkaConsumer(**self.options(), **options)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        from aiokafka import AIOKafkaProducer

        return AIOKafkaProducer(**self.options(), **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        from aiokafka.admin import AIOKafkaAdminClient

        return AIOKafkaAdminClient(**self.options(), **options)

    def options(self) -> dict[str, Any]:
        """aiokafka's arguments. Raises OSError and ssl.SSLError for files that cannot be used."""
        found: dict[str, Any] = {
            "bootstrap_servers": self.servers,
            "security_protocol": self.protocol.value,
        }
        if self.protocol.has_password:
            found |= {
                "sasl_mechanism": self.sasl_mechanism.value,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": _plain(self.sasl_password),
            }
        if self.protocol.is_encrypted:
            found["ssl_context"] = self.tls()
        return found

    def tls(self) -> ssl.SSLContext:
        """Brokers must show a certificate of `ca_file`'s authorities (without it: those that the
        system trusts) for the very name in `servers`; nothing turns that off."""
        context = ssl.create_default_context(cafile=self.ca_file)
        if self.certificate_file is not None:
            password = _plain(self.key_password) or ""
            context.load_cert_chain(self.certificate_file, self.key_file, lambda: password)
        return context


def _plain(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()
