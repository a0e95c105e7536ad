"""What the brokers let this principal do with each topic, as they say it themselves (KIP-430)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from aiokafka.errors import KafkaError
from aiokafka.protocol.api import Request, RequestStruct, Response
from aiokafka.protocol.types import Array, Boolean, Int16, Int32, Schema, String

from orchestrator.errors import LogUnavailable
from orchestrator.kafka_access import KafkaAccess
from orchestrator.kafka_clients import asked, reason_of
from orchestrator.kafka_rights import RIGHTS, rules_of

OPERATIONS = {"READ": 3, "WRITE": 4, "CREATE": 5, "DESCRIBE": 8, "DESCRIBE_CONFIGS": 10}
"""Codes of Kafka's AclOperation; bit n of an answer stands for code n."""
NOT_TOLD = -(2**31)


class _Answer(Response):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    SCHEMA = Schema(
        ("throttle_time_ms", Int32),
        (
            "brokers",
            Array(
                ("node_id", Int32),
                ("host", String("utf-8")),
                ("port", Int32),
                ("rack", String("utf-8")),
            ),
        ),
        ("cluster_id", String("utf-8")),
        ("controller_id", Int32),
        (
            "topics",
            Array(
                ("error_code", Int16),
                ("name", String("utf-8")),
                ("is_internal", Boolean),
                (
                    "partitions",
                    Array(
                        ("error_code", Int16),
                        ("partition", Int32),
                        ("leader", Int32),
                        ("leader_epoch", Int32),
                        ("replicas", Array(Int32)),
                        ("in_sync", Array(Int32)),
                        ("offline", Array(Int32)),
                    ),
                ),
                ("allowed", Int32),
            ),
        ),
        ("cluster_allowed", Int32),
    )


class _Question(RequestStruct):  # type: ignore[misc]
    API_KEY = 3
    API_VERSION = 8
    RESPONSE_TYPE = _Answer
    SCHEMA = Schema(
        ("topics", Array(String("utf-8"))),
        ("allow_auto_topic_creation", Boolean),
        ("include_cluster_authorized_operations", Boolean),
        ("include_topic_authorized_operations", Boolean),
    )


class _Asking(Request[_Question]):  # type: ignore[misc]
    API_KEY = 3

    def __init__(self, topics: list[str]) -> None:
        self._topics = topics

    def build(self, request_struct_class: type[_Question]) -> _Question:
        return request_struct_class(self._topics, False, False, True)


async def lacking(access: KafkaAccess, role: str, prefix: str) -> list[str]:
    """What a role does with topics and this principal may not, as `READ evm.events`; nothing where
    the brokers do not tell. Raises LogUnavailable."""
    wanted = [rule for rule in rules_of(role, prefix) if rule.resource == "TOPIC"]
    allowed = await _allowed(access, dict.fromkeys(rule.name for rule in wanted))
    return [
        f"{rule.operation} {rule.name}"
        for rule in wanted
        if rule.name in allowed and not allowed[rule.name] >> OPERATIONS[rule.operation] & 1
    ]


async def _allowed(access: KafkaAccess, topics: Iterable[str]) -> dict[str, int]:
    """By topic, one bit an operation; topics that may not even be seen have none."""
    try:
        answer = await asked(access, _Asking(list(topics)))
    except NotImplementedError:  # so aiokafka names a broker that does not speak this version
        text = "the brokers do not tell what is allowed (KIP-430, Kafka 2.3): look at their ACLs"
        raise LogUnavailable(text) from None
    except KafkaError as error:
        text = f"what is allowed cannot be asked: {reason_of(error, access)}"
        raise LogUnavailable(text) from error
    return dict(_read(answer.topics))


def _read(topics: Iterable[tuple[int, str, bool, object, int]]) -> Iterator[tuple[str, int]]:
    for error_code, name, _, _, allowed in topics:
        if error_code == 29:
            yield name, 0
        elif not error_code and allowed != NOT_TOLD:
            yield name, allowed


def role_of(access: KafkaAccess, prefix: str) -> str | None:
    """Whose principal this is, where it is named as `topics acls` names them."""
    name = (access.sasl_username or "").removeprefix(f"{prefix}-")
    return name if f"{prefix}-{name}" == access.sasl_username and name in RIGHTS else None
