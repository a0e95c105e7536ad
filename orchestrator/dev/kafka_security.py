"""A broker that speaks TLS, wants a login or a certificate, and obeys access-control lists.

Its listeners let the same principals in, each in another way: `BROKER` by SCRAM-SHA-512, `LOGINS`
by SCRAM-SHA-256 and PLAIN, `CERTIFICATES` by a certificate whose common name is the principal's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

BROKER = "broker"
"""The broker's own name; it may do everything."""
ADMINISTRATOR = "administrator"

_MODULES = "org.apache.kafka.common.security"
_SCRAM = f"{_MODULES}.scram.ScramLoginModule required"
_PLAIN = f"{_MODULES}.plain.PlainLoginModule required"
_PROTOCOLS = {"BROKER": "SASL_SSL", "LOGINS": "SASL_SSL", "CERTIFICATES": "SSL"}


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """`identity` holds the broker's key and certificate (PEM, in this order), `authorities` what it
    trusts; `passwords` by principal, those of the two above among them. `listeners` are ports of
    `LOGINS` and `CERTIFICATES`, where these are wanted. Development only: passwords stand in the
    process list while the log is formatted."""

    identity: Path
    authorities: Path
    passwords: Mapping[str, str]
    listeners: Mapping[str, int] = field(default_factory=dict)

    def settings(self, port: int, controller_port: int) -> str:
        """What comes after the plain broker's settings, and counts instead of theirs."""
        login = f'{_SCRAM} username="{BROKER}" password="{self.passwords[BROKER]}";'
        known = " ".join(f'user_{name}="{word}"' for name, word in self.passwords.items())
        ports = {"BROKER": port, **self.listeners}
        open_to = ",".join(f"{name}://127.0.0.1:{ports[name]}" for name in ports)
        protocols = ",".join(f"{name}:{_PROTOCOLS[name]}" for name in ports)
        return f"""\
listeners={open_to},CONTROLLER://127.0.0.1:{controller_port}
advertised.listeners={open_to}
listener.security.protocol.map={protocols},CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.broker.scram-sha-512.sasl.jaas.config={login}
listener.name.logins.sasl.enabled.mechanisms=SCRAM-SHA-256,PLAIN
listener.name.logins.scram-sha-256.sasl.jaas.config={_SCRAM};
listener.name.logins.plain.sasl.jaas.config={_PLAIN} {known};
listener.name.certificates.ssl.client.auth=required
ssl.principal.mapping.rules=RULE:^CN=([^,]+).*$/$1/,DEFAULT
ssl.keystore.type=PEM
ssl.keystore.location={self.identity}
ssl.truststore.type=PEM
ssl.truststore.location={self.authorities}
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:{BROKER};User:{ADMINISTRATOR};User:ANONYMOUS
"""

    def format_arguments(self) -> list[str]:
        return [
            argument
            for name, password in self.passwords.items()
            for bits in (256, 512)
            for argument in ("--add-scram", f"SCRAM-SHA-{bits}=[name={name},password={password}]")
        ]
