"""A broker that speaks TLS, wants a login (SCRAM) and obeys access-control lists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

BROKER = "broker"
"""The broker's own name; it may do everything."""
ADMINISTRATOR = "administrator"


@dataclass(frozen=True, slots=True)
class KafkaSecurity:
    """`identity` holds the broker's key and certificate (PEM, in this order), `authorities` what it
    trusts; `passwords` by principal, those of the two above among them. Development only: they
    stand in the process list while the log is formatted."""

    identity: Path
    authorities: Path
    passwords: Mapping[str, str]

    def settings(self) -> str:
        login = "org.apache.kafka.common.security.scram.ScramLoginModule required"
        login += f' username="{BROKER}" password="{self.passwords[BROKER]}";'
        return f"""\
listener.security.protocol.map=BROKER:SASL_SSL,CONTROLLER:PLAINTEXT
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
listener.name.broker.scram-sha-512.sasl.jaas.config={login}
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
            for argument in ("--add-scram", f"SCRAM-SHA-512=[name={name},password={password}]")
        ]
