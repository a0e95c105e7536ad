"""Kafka and PostgreSQL in containers in place of the embedded ones, for the same tests.

    async with container_environment() as values:
        async with EmbeddedStack(folder, parts=embedded_parts()) as stack:
            world = World(stack, **values)

Chosen by `ORCHESTRATOR_TEST_CONTAINERS=1` and by nothing else: an engine that happens to run is not
used, and one that is asked for and does not answer is an error, never a reason to fall back.
The images are those of docker-compose.yml.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Self

from docker.errors import DockerException  # type: ignore[import-untyped]
from testcontainers.community.kafka import KafkaContainer
from testcontainers.community.postgres import PostgresContainer
from testcontainers.core.docker_client import DockerClient

from orchestrator.dev.stack import ALL_PARTS

VARIABLE = "ORCHESTRATOR_TEST_CONTAINERS"
CONTAINED_PARTS = frozenset({"kafka", "postgres"})
KAFKA_IMAGE = "apache/kafka:4.3.0"
POSTGRES_IMAGE = "postgres:18.4-bookworm"
START_SECONDS = 120
ENGINE_SECONDS = 10


class ContainersUnavailable(RuntimeError):
    """Containers were asked for and cannot be had; the text says what a person can do."""


def containers_wanted() -> bool:
    """Whether the environment asks for containers. Raises ContainersUnavailable for a value that
    is neither a yes nor a no."""
    value = os.environ.get(VARIABLE, "")
    if value not in ("", "0", "1"):
        raise ContainersUnavailable(f"{VARIABLE} is {value!r}: give 1, or 0 or nothing")
    return value == "1"


def embedded_parts() -> frozenset[str]:
    """What the embedded stack has to start: all, or all that is not in containers."""
    return ALL_PARTS - CONTAINED_PARTS if containers_wanted() else ALL_PARTS


def engine_problem() -> str | None:
    """Why no container engine can be used; None when one answers."""
    try:
        engine = DockerClient(timeout=ENGINE_SECONDS).client
        try:
            engine.ping()
        finally:
            engine.close()
    except DockerException as error:
        return str(error)
    return None


@asynccontextmanager
async def container_environment() -> AsyncIterator[dict[str, str]]:
    """Settings of what runs in containers, new and empty for this block; nothing when containers
    are not asked for. Raises ContainersUnavailable when they are and no engine answers."""
    if not containers_wanted():
        yield {}
        return
    problem = await asyncio.to_thread(engine_problem)
    if problem is not None:
        raise ContainersUnavailable(
            f"{VARIABLE}=1 asks for containers, and no Docker engine answers ({problem}): start "
            "one, or point DOCKER_HOST to it; without the variable, the embedded Kafka and "
            "PostgreSQL are used"
        )
    kafka, postgres = await asyncio.to_thread(_containers)
    try:
        await _both(lambda: kafka.start(START_SECONDS), postgres.start)
        yield {
            "KAFKA_BOOTSTRAP_SERVERS": await asyncio.to_thread(kafka.get_bootstrap_server),
            "DATABASE_URL": await asyncio.to_thread(postgres.get_connection_url),
        }
    finally:
        await _both(kafka.stop, postgres.stop)


class ApacheKafka(KafkaContainer):
    """testcontainers' KRaft broker, made for another vendor's image, on the one of production.

    Its `start` lets the container wait for a script, since the port that clients must be told is
    known only then; what the script says and the settings are this class's.
    """

    def with_kraft(self) -> Self:
        """Set one node that is broker and controller; the image's tag needs no check."""
        self.env.pop("KAFKA_BROKER_ID", None)
        self.kraft_enabled = True
        return self.with_envs(
            CLUSTER_ID=self.cluster_id,
            KAFKA_NODE_ID="1",
            KAFKA_PROCESS_ROLES="broker,controller",
            KAFKA_LISTENERS=f"{self.listeners},CONTROLLER://localhost:9094",
            KAFKA_LISTENER_SECURITY_PROTOCOL_MAP=(
                f"{self.security_protocol_map},CONTROLLER:PLAINTEXT"
            ),
            KAFKA_CONTROLLER_LISTENER_NAMES="CONTROLLER",
            KAFKA_CONTROLLER_QUORUM_VOTERS="1@localhost:9094",
            KAFKA_AUTO_CREATE_TOPICS_ENABLE="false",
            KAFKA_TRANSACTION_STATE_LOG_REPLICATION_FACTOR="1",
            KAFKA_TRANSACTION_STATE_LOG_MIN_ISR="1",
            KAFKA_TRANSACTION_STATE_LOG_NUM_PARTITIONS="4",
            KAFKA_SHARE_COORDINATOR_STATE_TOPIC_REPLICATION_FACTOR="1",
            KAFKA_SHARE_COORDINATOR_STATE_TOPIC_MIN_ISR="1",
            KAFKA_HEAP_OPTS="-Xms512m -Xmx512m",
        )

    def configure(self) -> None:
        """Called by `start`; everything is set by `with_kraft`."""
        self.with_kraft()

    def start_script(self) -> str:
        """What the waiting container runs: the image's own start, told the published address."""
        address = self.get_bootstrap_server()
        listeners = f"{self.listener_name}://{address},BROKER://localhost:9092"
        return (
            "#!/bin/sh\n"
            f"export KAFKA_ADVERTISED_LISTENERS={listeners}\n"
            "exec /etc/kafka/docker/run\n"
        )

    def tc_start(self) -> None:
        """Hand over the script; the container goes on from there."""
        self.create_file(self.start_script().encode(), self.TC_START_SCRIPT)


def _containers() -> tuple[ApacheKafka, PostgresContainer]:
    """Both, not started. Names and password are given, or POSTGRES_* of this machine would be."""
    kafka = ApacheKafka(KAFKA_IMAGE, wait_strategy_check_string=r".*Kafka Server started.*")
    postgres = PostgresContainer(
        POSTGRES_IMAGE,
        username="orchestrator",
        password="orchestrator",
        dbname="orchestrator",
        driver=None,
    )
    return kafka, postgres


async def _both(first: Callable[[], object], second: Callable[[], object]) -> None:
    """Run both in threads, wait until both have ended, and only then raise what failed."""
    results = await asyncio.gather(
        asyncio.to_thread(first), asyncio.to_thread(second), return_exceptions=True
    )
    for result in results:
        if isinstance(result, BaseException):
            raise result
