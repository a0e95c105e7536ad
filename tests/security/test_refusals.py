"""Who cannot be let in is told at the start, in words, with what to do; and `doctor` says the same,
and which certificates end soon."""

from __future__ import annotations

import asyncio
import json
import ssl
from dataclasses import replace
from urllib.parse import urlsplit

import pytest
from cryptography import x509
from pydantic import SecretStr

from orchestrator.commands.findings import State
from orchestrator.commands.tls_checks import lasting
from orchestrator.errors import StartRefused
from orchestrator.kafka_access import SaslMechanism, SecurityProtocol
from orchestrator.kafka_clients import refuse_if_not_admitted, troubles_of
from tests.authority import Authority
from tests.security.conftest import COMMANDS, Secured


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"sasl_password": SecretStr("it-is-another")}, "the password of orchestrator-sign is not"),
        ({"sasl_username": "nobody"}, "the password of nobody is not accepted"),
        ({"sasl_mechanism": SaslMechanism.PLAIN}, "does not offer PLAIN"),
        ({"ca_file": None}, "its certificate comes from none of the system's authorities"),
    ],
)
async def test_waiting_would_not_help(secured: Secured, change, says):
    access = replace(secured.access("orchestrator-sign"), **change)
    with pytest.raises(StartRefused, match=says) as refused:
        await refuse_if_not_admitted(access)
    assert "it-is-another" not in str(refused.value)
    assert secured.passwords["orchestrator-sign"] not in str(refused.value)


async def test_the_name_must_be_that_of_the_certificate(secured: Secured):
    access = secured.access("orchestrator-sign")
    with pytest.raises(StartRefused, match="its certificate is for another name"):
        await refuse_if_not_admitted(
            replace(access, servers=access.servers.replace("127.0.0.1", "localhost"))
        )


async def test_an_expired_certificate_is_called_so(secured: Secured):
    late = secured.authority.sign("late", hosts=("127.0.0.1",), days=-1)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(late.certificate, late.key)

    async def serve(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0, ssl=context) as server:
        port = server.sockets[0].getsockname()[1]
        access = replace(secured.access("orchestrator-sign"), servers=f"127.0.0.1:{port}")
        with pytest.raises(StartRefused, match=r"has expired; renew the broker's certificate"):
            await refuse_if_not_admitted(access)


async def test_a_broker_that_is_away_or_on_another_listener_is_waited_for(secured: Secured):
    access = secured.access("orchestrator-sign")
    await refuse_if_not_admitted(replace(access, servers="127.0.0.1:1"))
    await refuse_if_not_admitted(replace(access, servers=f"{access.servers},127.0.0.1:1"))
    plain = replace(access, protocol=SecurityProtocol.PLAINTEXT)
    await refuse_if_not_admitted(plain)
    [trouble] = await troubles_of(plain)
    assert trouble is not None and "is this its PLAINTEXT listener?" in str(trouble)


async def test_a_role_ends_with_the_reason(secured: Secured):
    code, told = await secured.ends(
        "wrong", "decide", "worker", "--roles", "decide", KAFKA_SASL_USERNAME="orchestrator-sign"
    )
    assert code == 2
    assert "the password of orchestrator-sign is not accepted; check KAFKA_SASL_USERNAME" in told


async def test_a_command_ends_with_the_reason(secured: Secured):
    stranger = Authority(secured.folder, "stranger")
    code, told = await secured.ends(
        "strange", "auditor", "replay", KAFKA_SSL_CA_FILE=str(stranger.file)
    )
    assert code == 2
    assert f"its certificate comes from none of {stranger.file}" in told


async def examined(secured: Secured, role: str, **more: str) -> dict[str, dict[str, str]]:
    _, told = await secured.ends(f"doctor-{len(more)}", role, "doctor", "--json", **more)
    return {check["subject"]: check for check in json.loads(told.splitlines()[-1])}


async def test_doctor_says_how_long_certificates_last(service, secured: Secured):
    found = await examined(secured, "sign")
    broker = secured.access("orchestrator-sign").servers
    assert found["Kafka"]["state"] == "well", found["Kafka"]
    for subject in (
        f"certificate of Kafka at {broker}",
        f"certificate of PostgreSQL at 127.0.0.1:{secured.stack.postgres.port}",
    ):
        check = found[subject]
        assert check["state"] == "warning" and "valid for 4 days more" in check["detail"], check
        assert check["remedy"].startswith("renew")


async def test_doctor_names_what_to_do(service, secured: Secured):
    found = await examined(
        secured,
        "sign",
        KAFKA_BOOTSTRAP_SERVERS=secured.stack.kafka.bootstrap_servers.replace(
            "127.0.0.1", "localhost"
        ),
        DATABASE_URL=secured.database_url.replace("127.0.0.1", "localhost"),
        AWS_ENDPOINT_URL_KMS="http://127.0.0.1:1",
    )
    kafka = found["Kafka"]
    assert kafka["state"] == "broken" and "KAFKA_BOOTSTRAP_SERVERS" in kafka["remedy"]
    assert found["PostgreSQL"]["state"] == "broken"
    assert "its certificate is for another name" in found["PostgreSQL"]["remedy"]
    assert found["KMS"]["state"] == "broken" and "AWS_ENDPOINT_URL_KMS" in found["KMS"]["remedy"]


async def test_doctor_names_the_rights_that_a_role_lacks(service, secured: Secured):
    """As before an upgrade: what the new version's signing role needs, asked as who has less."""
    code, told = await secured.ends(
        "doctor-rights", "relay", "doctor", "--json", "--roles", "sign,relay"
    )
    found = {check["subject"]: check for check in json.loads(told.splitlines()[-1])}
    assert code == 1
    lacking = found["Kafka rights of sign"]
    for right in ("READ kuro.events", "READ evm.events", "READ requests", "WRITE controls"):
        assert right in lacking["detail"], lacking
    assert "READ controls" not in lacking["detail"], lacking
    assert "kafka-acls.sh" in lacking["remedy"]
    assert found["Kafka rights of relay"]["state"] == "well"
    own = await examined(secured, "sign")
    assert own["Kafka rights of sign"]["state"] == "well", own


def test_expired_soon_and_long(secured: Secured):
    states = {}
    for days in (-1, 10, 40):
        signed = secured.authority.sign(f"for-{days}", days=days)
        found = x509.load_pem_x509_certificate(signed.certificate.read_bytes())
        states[days] = lasting("it", found, "renew it").state
    assert states == {-1: State.BROKEN, 10: State.WARNING, 40: State.WELL}


async def test_no_process_has_written_a_password(service, secured: Secured):
    database = urlsplit(secured.database_url).password
    assert database
    written = {
        file.name: file.read_text(errors="replace")
        for file in (secured.stack.data_dir / "logs").glob("*.log")
        if file.stem in {*COMMANDS, "init", "wrong", "strange", "doctor-0", "doctor-3"}
    }
    assert len(written) == len(COMMANDS) + 5
    for name, text in written.items():
        for secret in (*secured.passwords.values(), database):
            assert secret not in text, name
