"""The settings that say how Kafka lets this process in, checked together."""

from __future__ import annotations

import ssl
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from orchestrator.kafka_access import KafkaAccess, SaslMechanism

if TYPE_CHECKING:
    from orchestrator.config import Settings

SASL = ("kafka_sasl_mechanism", "kafka_sasl_username", "kafka_sasl_password")
FILES = ("kafka_ssl_ca_file", "kafka_ssl_certificate_file", "kafka_ssl_key_file")
TLS = (*FILES, "kafka_ssl_key_password")
KINDS = ", ".join(reversed(SaslMechanism))


def kafka_access(settings: Settings, problems: list[str]) -> KafkaAccess | None:
    """None without brokers. What cannot work together is told in `problems`, never a secret."""
    servers = settings.kafka_bootstrap_servers
    if servers is None:
        return None
    access = KafkaAccess(
        servers=servers,
        protocol=settings.kafka_security_protocol,
        sasl_mechanism=settings.kafka_sasl_mechanism,
        sasl_username=settings.kafka_sasl_username,
        sasl_password=settings.kafka_sasl_password,
        ca_file=settings.kafka_ssl_ca_file,
        certificate_file=settings.kafka_ssl_certificate_file,
        key_file=settings.kafka_ssl_key_file,
        key_password=settings.kafka_ssl_key_password,
    )
    found = [*_unused(settings), *_missing(settings)] or [*_files(access)]
    problems += found
    return replace(access, protocol=type(access.protocol).PLAINTEXT) if found else access


def _unused(settings: Settings) -> list[str]:
    """A setting that does nothing hides a mistake: the connection is not what somebody thinks."""
    protocol, found = settings.kafka_security_protocol, []
    for names, used, wanted in (
        (SASL, protocol.has_password, "SASL_SSL"),
        (TLS, protocol.is_encrypted, "SSL or SASL_SSL"),
    ):
        found += [
            f"{name.upper()}: has no meaning with KAFKA_SECURITY_PROTOCOL={protocol}; make that "
            f"{wanted}, or take this away"
            for name in names
            if not used and getattr(settings, name) is not None
        ]
    return found


def _missing(settings: Settings) -> list[str]:
    found = []
    if settings.kafka_security_protocol.has_password:
        needed = f"missing; KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol} needs"
        if settings.kafka_sasl_mechanism is None:
            found.append(f"KAFKA_SASL_MECHANISM: {needed} one of {KINDS}")
        if settings.kafka_sasl_username is None:
            found.append(f"KAFKA_SASL_USERNAME: {needed} the principal's name")
        if settings.kafka_sasl_password is None:
            found.append(
                f"KAFKA_SASL_PASSWORD: {needed} it, or its file in KAFKA_SASL_PASSWORD_FILE"
            )
    certificate, key = settings.kafka_ssl_certificate_file, settings.kafka_ssl_key_file
    if certificate is not None and key is None:
        found.append("KAFKA_SSL_KEY_FILE: missing; give the key of KAFKA_SSL_CERTIFICATE_FILE")
    if key is not None and certificate is None:
        found.append(
            "KAFKA_SSL_CERTIFICATE_FILE: missing; give the certificate of KAFKA_SSL_KEY_FILE"
        )
    if settings.kafka_ssl_key_password is not None and key is None:
        found.append("KAFKA_SSL_KEY_PASSWORD: opens nothing without KAFKA_SSL_KEY_FILE")
    return found


def _files(access: KafkaAccess) -> list[str]:
    """Whether the files can be used, each by itself and then together."""
    if not access.protocol.is_encrypted:
        return []
    given = {
        "KAFKA_SSL_CA_FILE": access.ca_file,
        "KAFKA_SSL_CERTIFICATE_FILE": access.certificate_file,
        "KAFKA_SSL_KEY_FILE": access.key_file,
    }
    found = []
    for name, file in given.items():
        if file is not None:
            try:
                Path(file).read_bytes()
            except OSError as error:
                found.append(f"{name}: {file} cannot be read ({type(error).__name__})")
    if found:
        return found
    try:
        replace(access, certificate_file=None, key_file=None, key_password=None).tls()
    except OSError:
        return [f"KAFKA_SSL_CA_FILE: {access.ca_file} holds no certificates (PEM)"]
    try:
        access.tls()
    except ssl.SSLError as error:
        return [_of_key(access, error)]
    return []


def _of_key(access: KafkaAccess, error: ssl.SSLError) -> str:
    if error.reason == "KEY_VALUES_MISMATCH":
        return (
            f"KAFKA_SSL_KEY_FILE: {access.key_file} is not the key of the first certificate in "
            f"{access.certificate_file}"
        )
    if access.key_password is None:
        return (
            f"KAFKA_SSL_KEY_FILE: {access.certificate_file} and {access.key_file} are no "
            "certificate and key (PEM); if the key is encrypted, give KAFKA_SSL_KEY_PASSWORD"
        )
    return (
        f"KAFKA_SSL_KEY_PASSWORD: does not open {access.key_file}, or the files are no certificate "
        "and key (PEM)"
    )
