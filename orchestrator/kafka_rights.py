"""What each role may do on Kafka: one principal a role, nothing that it does not do.

`deploy/security/kafka-acls.json` and `.sh` are written from this; another KAFKA_PREFIX has its own
(`orchestrator topics acls`). A broker must deny what no list allows, which is Kafka's default
(`allow.everyone.if.no.acl.found=false`). IdempotentWrite on the cluster is not among them: whoever
may write a topic has it (KIP-679).
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from schemas.topics import (
    CONTROLS,
    DEAD_LETTERS,
    EVM_EVENTS,
    KURO_EVENTS,
    LANES,
    REQUESTS,
    TOPICS,
    Topic,
)

ALL = tuple(TOPICS.values())
DECIDING = ("decide", "sign", "relay")
"""Groups whose positions the API shows and orders wait for."""


@dataclass(frozen=True, slots=True)
class Rights:
    """Of one role. `owns` are the beginnings of transactional ids; `group`: it is member of the
    consumer group that bears its name; `watches`: groups whose positions it may ask for.
    Every role may see that the topics are there and how they are set, as `doctor` does."""

    reads: Sequence[Topic] = ()
    writes: Sequence[Topic] = ()
    creates: Sequence[Topic] = ()
    owns: Sequence[str] = ()
    group: bool = False
    watches: Sequence[str] = ()


RIGHTS: dict[str, Rights] = {
    "init": Rights(creates=ALL),
    "ingest": Rights(
        reads=(KURO_EVENTS, EVM_EVENTS),
        writes=(KURO_EVENTS, EVM_EVENTS, DEAD_LETTERS),
        owns=("follower.",),
        group=True,
    ),
    "decide": Rights(
        reads=(KURO_EVENTS, EVM_EVENTS, REQUESTS, LANES, CONTROLS),
        writes=(REQUESTS, LANES, DEAD_LETTERS),
        group=True,
    ),
    "sign": Rights(
        reads=(KURO_EVENTS, EVM_EVENTS, REQUESTS, CONTROLS),
        writes=(REQUESTS, CONTROLS),
        group=True,
    ),
    "relay": Rights(
        reads=(LANES, CONTROLS),
        writes=(LANES, DEAD_LETTERS),
        owns=("lane.", "policies.", "sequence."),
        group=True,
    ),
    "project": Rights(reads=ALL),
    "api": Rights(reads=ALL, watches=DECIDING),
    "webhooks": Rights(reads=ALL),
    "operator": Rights(reads=ALL, writes=(CONTROLS,), watches=DECIDING),
    "repair": Rights(reads=ALL, writes=ALL, watches=DECIDING),
    "auditor": Rights(reads=ALL),
    "seal": Rights(reads=ALL),
}
"""`repair` is for `release` and `dead-letters replay`: it can append a fact that nobody said. Keep
its password sealed, and change it after use."""


@dataclass(frozen=True, slots=True)
class AccessRule:
    """One allowance, in Kafka's words; `pattern` is LITERAL or PREFIXED."""

    principal: str
    operation: str
    resource: str
    name: str
    pattern: str = "LITERAL"

    def shown(self) -> dict[str, str]:
        return {
            "principal": self.principal,
            "operation": self.operation,
            "resourceType": self.resource,
            "resourceName": self.name,
            "patternType": self.pattern,
        }


def rules_of(role: str, prefix: str) -> Iterator[AccessRule]:
    rights, who = RIGHTS[role], f"User:{prefix}-{role}"
    for operation, topics in (
        ("DESCRIBE", ALL),
        ("DESCRIBE_CONFIGS", ALL),
        ("READ", rights.reads),
        ("WRITE", rights.writes),
        ("CREATE", rights.creates),
    ):
        for topic in topics:
            yield AccessRule(who, operation, "TOPIC", topic.name)
    if rights.group:
        yield AccessRule(who, "READ", "GROUP", f"{prefix}-{role}")
    for group in rights.watches:
        yield AccessRule(who, "DESCRIBE", "GROUP", f"{prefix}-{group}")
    for name in rights.owns:
        yield AccessRule(who, "WRITE", "TRANSACTIONAL_ID", f"{prefix}.{name}", "PREFIXED")


def rules(prefix: str) -> list[AccessRule]:
    return [rule for role in RIGHTS for rule in rules_of(role, prefix)]


def listed(prefix: str) -> str:
    """JSON, a rule a line: a difference between two versions can be read."""
    lines = ",\n".join(json.dumps(rule.shown()) for rule in rules(prefix))
    return f"[\n{lines}\n]\n"


_HEAD = """\
#!/usr/bin/env bash
# Allows each role what it does on Kafka, nothing else. Written by: orchestrator topics acls --sh
# Needs Kafka's own kafka-acls.sh on the path, the brokers, and an administrator's client settings:
#   BOOTSTRAP=kafka:9093 COMMAND_CONFIG=admin.properties kafka-acls.sh
# Adding a rule twice changes nothing. Rules of an older version that are no longer here stay: list
# and remove them with kafka-acls.sh.
set -euo pipefail
allow() {
  kafka-acls.sh --bootstrap-server "${BOOTSTRAP:?}" --command-config "${COMMAND_CONFIG:?}" \\
    --add --force "$@"
}
"""


def script(prefix: str) -> str:
    """As few calls as there can be, for each starts a JVM: resources of which a principal may do
    the same stand in one, and so do principals that may do the same with the same resources."""
    operations: dict[tuple[str, str, str, str], list[str]] = {}
    for rule in rules(prefix):
        key = (rule.resource, rule.pattern, rule.principal, rule.name)
        operations.setdefault(key, []).append(rule.operation)
    names: dict[tuple[str, str, str, tuple[str, ...]], list[str]] = {}
    for (resource, pattern, principal, name), allowed in operations.items():
        names.setdefault((resource, pattern, principal, tuple(allowed)), []).append(name)
    calls: dict[tuple[str, str, tuple[str, ...], tuple[str, ...]], list[str]] = {}
    for (resource, pattern, principal, done), found in names.items():
        calls.setdefault((resource, pattern, done, tuple(found)), []).append(principal)
    return _HEAD + "\n".join(_call(*call, who) for call, who in calls.items()) + "\n"


def _call(
    resource: str,
    pattern: str,
    operations: Sequence[str],
    names: Sequence[str],
    principals: Sequence[str],
) -> str:
    option = f"--{resource.lower().replace('_', '-')}"
    words = [
        "allow",
        f"--resource-pattern-type {pattern.lower()}",
        *(f"--allow-principal {shlex.quote(principal)}" for principal in principals),
        *(f"--operation {name.title().replace('_', '')}" for name in operations),
        *(f"{option} {shlex.quote(name)}" for name in names),
    ]
    return " \\\n  ".join(words)
