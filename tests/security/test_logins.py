"""Every way in that the settings offer, on a real broker: the same principal, with the same rights,
by SCRAM-SHA-256, by PLAIN, and by a certificate. SCRAM-SHA-512 is what all other tests here use."""

from __future__ import annotations

from dataclasses import replace

import pytest
from pydantic import SecretStr

from orchestrator.adapters.kafka_log import KafkaLog, KafkaWriter
from orchestrator.errors import LogUnavailable, StartRefused
from orchestrator.kafka_access import KafkaAccess, SaslMechanism
from orchestrator.kafka_clients import refuse_if_not_admitted
from schemas.topics import KURO_EVENTS, LANES
from tests.authority import Authority
from tests.security.conftest import Secured
from tests.security.test_least_privilege import MINT

WAYS = ("SCRAM-SHA-256", "PLAIN", "certificate")


def access_of(secured: Secured, way: str, principal: str) -> KafkaAccess:
    if way == "certificate":
        return secured.by_certificate(principal)
    return secured.by_login(principal, SaslMechanism(way))


def settings_of(access: KafkaAccess) -> dict[str, str]:
    """The environment that makes this access."""
    values = {
        "KAFKA_BOOTSTRAP_SERVERS": access.servers,
        "KAFKA_SECURITY_PROTOCOL": access.protocol.value,
        "KAFKA_SASL_MECHANISM": access.sasl_mechanism.value if access.sasl_mechanism else "",
        "KAFKA_SSL_CERTIFICATE_FILE": access.certificate_file or "",
        "KAFKA_SSL_KEY_FILE": access.key_file or "",
    }
    if access.sasl_username is None:
        values |= {"KAFKA_SASL_USERNAME": "", "KAFKA_SASL_PASSWORD_FILE": ""}
    return values


@pytest.mark.parametrize("way", WAYS)
async def test_a_principal_does_its_own_and_nothing_else(service, secured: Secured, way: str):
    """Metadata, a consumer, transactions that fence, a plain writer; and what is refused."""
    access = access_of(secured, way, "orchestrator-relay")
    await refuse_if_not_admitted(access)
    log = KafkaLog(access, "tests")
    first, second = log.owned(f"lane.{way}"), log.owned(f"lane.{way}")
    await first.start()
    await second.start()
    await second.append(LANES, [])
    await second.close()
    await first.close()
    read = [batch async for batch in log.replay(LANES, dict.fromkeys(range(LANES.partitions), 0))]
    assert read, "the other tests' lanes"
    writer = KafkaWriter(access, "forbidden")
    with pytest.raises(LogUnavailable, match="access-control lists do not let") as refused:
        await writer.start()
        await writer.append(KURO_EVENTS, [MINT])
    await writer.close()
    assert "topics acls" in str(refused.value)


@pytest.mark.parametrize("way", WAYS)
async def test_a_command_comes_in_by_its_settings(service, secured: Secured, way: str):
    access = access_of(secured, way, "orchestrator-auditor")
    code, told = await secured.ends(
        f"look-{way}", "auditor", "replay", "--json", **settings_of(access)
    )
    assert code == 0, told


@pytest.mark.parametrize("way", ["SCRAM-SHA-256", "PLAIN"])
async def test_another_password_is_refused_in_words(secured: Secured, way: str):
    access = access_of(secured, way, "orchestrator-sign")
    wrong = replace(access, sasl_password=SecretStr("it-is-another"))
    with pytest.raises(StartRefused, match="the password of orchestrator-sign is not accepted"):
        await refuse_if_not_admitted(wrong)


async def test_nobody_comes_in_without_a_certificate_of_the_authority(secured: Secured):
    access = secured.by_certificate("orchestrator-sign")
    stranger = secured.by_certificate("orchestrator-sign", Authority(secured.folder, "outsider"))
    for other in (replace(access, certificate_file=None, key_file=None), stranger):
        with pytest.raises(StartRefused, match="does not take our certificate") as refused:
            await refuse_if_not_admitted(other)
        assert "KAFKA_SSL_CERTIFICATE_FILE" in str(refused.value)
