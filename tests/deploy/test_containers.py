"""Containers are used when they are asked for, and only then."""

from __future__ import annotations

import pytest

from orchestrator.dev.stack import ALL_PARTS
from tests.containers import (
    VARIABLE,
    ApacheKafka,
    ContainersUnavailable,
    container_environment,
    embedded_parts,
    engine_problem,
)


@pytest.mark.parametrize("value", [None, "", "0"])
async def test_without_the_variable_everything_is_embedded(monkeypatch, value):
    monkeypatch.delenv(VARIABLE, raising=False)
    if value is not None:
        monkeypatch.setenv(VARIABLE, value)
    assert embedded_parts() == ALL_PARTS
    async with container_environment() as values:
        assert values == {}


def test_with_the_variable_kafka_and_postgresql_are_not_embedded(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    assert ALL_PARTS - embedded_parts() == {"kafka", "postgres"}


async def test_a_value_that_means_nothing_is_refused(monkeypatch):
    monkeypatch.setenv(VARIABLE, "yes")
    with pytest.raises(ContainersUnavailable, match="give 1"):
        async with container_environment():
            pass


async def refused() -> str:
    with pytest.raises(ContainersUnavailable) as caught:
        async with container_environment():
            pytest.fail("it went on without an engine")
    return str(caught.value)


async def test_asking_for_containers_without_an_engine_says_so(monkeypatch):
    if engine_problem() is None:
        pytest.skip("a Docker engine answers on this machine, so its absence cannot be seen")
    monkeypatch.setenv(VARIABLE, "1")
    text = await refused()
    assert f"{VARIABLE}=1" in text
    assert "no Docker engine answers" in text
    assert "embedded" in text


async def test_an_engine_at_a_wrong_address_is_no_engine(monkeypatch):
    monkeypatch.setenv(VARIABLE, "1")
    monkeypatch.setenv("DOCKER_HOST", "tcp://127.0.0.1:1")
    assert "no Docker engine answers" in await refused()


def test_the_broker_is_told_its_published_address():
    """What can be seen without an engine of how the container is started."""
    kafka = ApacheKafka.__new__(ApacheKafka)
    kafka.listener_name = "PLAINTEXT"
    kafka.get_bootstrap_server = lambda: "127.0.0.1:32768"
    script = kafka.start_script()
    assert "KAFKA_ADVERTISED_LISTENERS=PLAINTEXT://127.0.0.1:32768," in script
    assert script.splitlines()[-1] == "exec /etc/kafka/docker/run"
