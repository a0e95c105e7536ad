"""How this process is let in by Kafka: the one place that makes clients of it.

A client that is made elsewhere would speak plain text where the settings say TLS; a test forbids
it. Made once from the settings (`kafka_settings`), handed to whoever reads or writes the log.
"""

from __future__ import annotations

import ssl
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import structlog
from pydantic import SecretStr

if TYPE_CHECKING:
    from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
    from aiokafka.admin import AIOKafkaAdminClient

log = structlog.get_logger(__name__)


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

    No secret is shown by `repr`. `client_options` reads the files.
    """

    servers: str
    protocol: SecurityProtocol = SecurityProtocol.PLAINTEXT
    sasl_mechanism: SaslMechanism | None = None
    sasl_username: str | None = None
    sasl_password: SecretStr | None = field(default=None, repr=False)
    ca_file: str | None = None
    certificate_file: str | None = None
    key_file: str | None = None
    key_password: SecretStr | None = field(default=None, repr=False)

    def consumer(self, **options: Any) -> AIOKafkaConsumer:
        from orchestrator.kafka_clients import Consumer

        return Consumer(self, **options)

    def producer(self, **options: Any) -> AIOKafkaProducer:
        from orchestrator.kafka_clients import Producer

        return Producer(self, **options)

    def admin(self, **options: Any) -> AIOKafkaAdminClient:
        from orchestrator.kafka_clients import Admin

        return Admin(self, **options)

    def client_options(self) -> dict[str, Any]:
        """aiokafka's arguments. Raises OSError (ssl.SSLError is one) for files of no use."""
        return {"bootstrap_servers": self.servers, **self.security_options()}

    def security_options(self) -> dict[str, Any]:
        found: dict[str, Any] = {"security_protocol": self.protocol.value}
        if self.protocol.has_password:
            assert self.sasl_mechanism is not None and self.sasl_password is not None
            found |= {
                "sasl_mechanism": self.sasl_mechanism.value,
                "sasl_plain_username": self.sasl_username,
                "sasl_plain_password": self.sasl_password.get_secret_value(),
            }
        if self.protocol.is_encrypted:
            found["ssl_context"] = self.tls()
        return found

    def tls(self) -> ssl.SSLContext:
        """Brokers must show a certificate of `ca_file`'s authorities (without it: of those that the
        system trusts) for the very name in `servers`; nothing turns that off."""
        return _tls(self.ca_file, self.certificate_file, self.key_file, self.key_password)


@lru_cache(maxsize=16)
def _tls(
    ca_file: str | None,
    certificate_file: str | None,
    key_file: str | None,
    key_password: SecretStr | None,
) -> ssl.SSLContext:
    context = _Renewing(ssl.PROTOCOL_TLS_CLIENT)
    context.follow(ca_file, certificate_file, key_file, key_password)
    return context


class _Renewing(ssl.SSLContext):
    """Takes renewed files at the next connection: certificates are shorter-lived than processes.

    An authority that is no longer in the file stays trusted until the process ends.
    """

    def follow(
        self,
        ca_file: str | None,
        certificate_file: str | None,
        key_file: str | None,
        key_password: SecretStr | None,
    ) -> None:
        self._ca_file, self._certificate_file, self._key_file = ca_file, certificate_file, key_file
        self._key_password = key_password
        self._taken: list[int] = []
        if ca_file is None:
            self.load_default_certs()
        self._take()

    def _take(self) -> None:
        files = (self._ca_file, self._certificate_file, self._key_file)
        changed = [Path(file).stat().st_mtime_ns for file in files if file is not None]
        if changed == self._taken:
            return
        if self._ca_file is not None:
            self.load_verify_locations(self._ca_file)
        if self._certificate_file is not None:
            secret = self._key_password
            password = "" if secret is None else secret.get_secret_value()
            self.load_cert_chain(self._certificate_file, self._key_file, lambda: password)
        self._taken = changed

    def wrap_bio(self, *args: Any, **kwargs: Any) -> ssl.SSLObject:
        """What an event loop calls for each connection. Files that are just being replaced, or are
        of no use, leave what was taken before."""
        try:
            self._take()
        except OSError as error:
            log.warning("renewed certificates cannot be used yet", reason=str(error))
        return super().wrap_bio(*args, **kwargs)
