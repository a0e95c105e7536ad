"""Creating and checking the topics of `schemas.topics` on a broker."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping

import structlog
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from orchestrator.errors import LogUnavailable, StartRefused
from orchestrator.kafka_access import KafkaAccess
from orchestrator.kafka_clients import reason_of
from schemas.topics import TOPICS

log = structlog.get_logger(__name__)

TOPIC_CONFIG = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
"""Facts are kept for ever."""
KNOWN_WITHIN_SECONDS = 15.0


async def prepare_topics(kafka: KafkaAccess, replication_factor: int) -> list[str]:
    """Create what is missing, check what is there; returns the names created.

    `replication_factor` 0 means three, or as many as there are brokers when they are fewer.
    Raises StartRefused when a topic has another
    number of partitions or would forget facts, LogUnavailable when no broker answers.
    """
    admin = kafka.admin(client_id="orchestrator-init")
    try:
        await admin.start()
        created = await _create_missing(admin, replication_factor)
        await _await_known(admin, created)
        await _check(admin)
    except KafkaError as error:
        raise LogUnavailable(f"preparing the topics: {reason_of(error, kafka)}") from error
    finally:
        await admin.close()
    return created


async def missing_topics(kafka: KafkaAccess) -> list[str]:
    """Of ours, those that the broker does not have. Raises LogUnavailable."""
    admin = kafka.admin(client_id="orchestrator-init")
    try:
        await admin.start()
        existing = set(await admin.list_topics())
    except KafkaError as error:
        raise LogUnavailable(f"looking for the topics: {reason_of(error, kafka)}") from error
    finally:
        await admin.close()
    return [name for name in TOPICS if name not in existing]


async def check_topics(kafka: KafkaAccess) -> list[tuple[str, str]]:
    """What is wrong, each with its remedy; creates nothing. Raises LogUnavailable."""
    admin = kafka.admin(client_id="orchestrator-doctor")
    try:
        await admin.start()
        missing = [name for name in TOPICS if name not in set(await admin.list_topics())]
        if missing:
            told = [(f"topics are missing: {', '.join(missing)}", "run: orchestrator init")]
            return told + [(text, "as it says") for text in await _misshapen(admin, missing)]
        await _check(admin)
    except KafkaError as error:
        raise LogUnavailable(f"no broker answers: {reason_of(error, kafka)}") from error
    except StartRefused as error:
        return [(str(error), "as it says")]
    finally:
        await admin.close()
    return []


async def _create_missing(admin: AIOKafkaAdminClient, replication_factor: int) -> list[str]:
    existing = set(await admin.list_topics())
    missing = [topic for topic in TOPICS.values() if topic.name not in existing]
    if not missing:
        return []
    if replication_factor == 0:
        replication_factor = min(3, len((await admin.describe_cluster())["brokers"]))
    response = await admin.create_topics(
        [
            NewTopic(
                topic.name,
                topic.partitions,
                replication_factor,
                topic_configs=TOPIC_CONFIG,
            )
            for topic in missing
        ]
    )
    for name, code, *message in response.topic_errors:
        kind = for_code(code)
        if code and kind is not TopicAlreadyExistsError:
            raise StartRefused(f"topic {name} cannot be created: {kind.__name__} {message}")
    log.info("topics created", topics=[topic.name for topic in missing])
    return [topic.name for topic in missing]


async def _await_known(admin: AIOKafkaAdminClient, created: list[str]) -> None:
    """A broker acknowledges a topic some moments before it can describe it; what it does not know
    after `KNOWN_WITHIN_SECONDS` is left to `_check`."""
    until = asyncio.get_running_loop().time() + KNOWN_WITHIN_SECONDS
    while created and asyncio.get_running_loop().time() < until:
        described = await admin.describe_topics(created)
        if not any(found["error_code"] for found in described):
            return
        await asyncio.sleep(0.1)


async def _misshapen(admin: AIOKafkaAdminClient, missing: Collection[str] = ()) -> list[str]:
    problems: list[str] = []
    for found in await admin.describe_topics([name for name in TOPICS if name not in missing]):
        wanted = TOPICS[found["topic"]].partitions
        count = len(found["partitions"])
        if found["error_code"]:
            problems.append(f"{found['topic']}: {for_code(found['error_code']).__name__}")
        elif count != wanted:
            problems.append(
                f"{found['topic']} has {count} partitions and must have {wanted}: keys would leave "
                "their history; use another cluster, or move the topic aside"
            )
    return problems


async def _check(admin: AIOKafkaAdminClient) -> None:
    problems = await _misshapen(admin)
    settings = await _settings(admin)
    for name, values in settings.items():
        for setting, wanted_value in TOPIC_CONFIG.items():
            if values.get(setting) != wanted_value:
                problems.append(
                    f"{name} has {setting}={values.get(setting)} and must have {wanted_value}: "
                    "facts would be lost; change it with kafka-configs"
                )
    if problems:
        raise StartRefused("topics: " + "; ".join(problems))


async def _settings(admin: AIOKafkaAdminClient) -> Mapping[str, Mapping[str, str]]:
    responses = await admin.describe_configs(
        [ConfigResource(ConfigResourceType.TOPIC, name) for name in TOPICS]
    )
    return {
        resource[3]: {entry[0]: entry[1] for entry in resource[4]}
        for response in responses
        for resource in response.resources
    }
