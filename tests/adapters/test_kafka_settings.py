"""How Kafka and PostgreSQL are reached: what cannot work is refused at the start, in words, and no
secret is in them."""

from __future__ import annotations

import os
import ssl

import pytest

from orchestrator.concealing import secrets_in
from orchestrator.config import Need, load
from orchestrator.errors import ConfigurationError
from orchestrator.kafka_access import KafkaAccess, SaslMechanism, SecurityProtocol
from streams.transport import broker_of
from tests.authority import Authority

PASSWORD = "correct-horse-battery"
SASL = {
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "orchestrator-sign",
    "KAFKA_SASL_PASSWORD": PASSWORD,
}
SECURE = {"KAFKA_SECURITY_PROTOCOL": "SASL_SSL", **SASL}


@pytest.fixture(scope="module")
def authority(tmp_path_factory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


def loaded(**values):
    return load([Need.KAFKA], {"KAFKA_BOOTSTRAP_SERVERS": "kafka:9093", **values})


def problems(**values) -> list[str]:
    with pytest.raises(ConfigurationError) as refused:
        loaded(**values)
    assert PASSWORD not in str(refused.value.problems) + repr(refused.value)
    return refused.value.problems


def test_plain_text_is_what_nothing_means():
    assert loaded().kafka == KafkaAccess("kafka:9093")
    assert loaded().kafka.client_options() == {
        "bootstrap_servers": "kafka:9093",
        "security_protocol": "PLAINTEXT",
    }


def test_tls_and_scram_reach_every_client(authority):
    access = loaded(**SECURE, KAFKA_SSL_CA_FILE=str(authority.file)).kafka
    options = access.client_options()
    context = options.pop("ssl_context")
    assert options == {
        "bootstrap_servers": "kafka:9093",
        "security_protocol": "SASL_SSL",
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": "orchestrator-sign",
        "sasl_plain_password": PASSWORD,
    }
    assert context.check_hostname and context.verify_mode is ssl.CERT_REQUIRED
    credentials = broker_of(access)["broker_credentials"]
    assert credentials.protocol.value == "SASL_SSL" and credentials.password == PASSWORD
    assert credentials.ssl_context is context
    tls = KafkaAccess("kafka:9093", SecurityProtocol.SSL, ca_file=str(authority.file))
    assert broker_of(tls)["broker_credentials"].protocol.value == "SSL"
    plain = KafkaAccess(
        "kafka:9092",
        SecurityProtocol.SASL_PLAINTEXT,
        SaslMechanism.PLAIN,
        "who",
        access.sasl_password,
    )
    assert broker_of(plain)["broker_credentials"].protocol.value == "SASL_PLAINTEXT"


def test_no_secret_is_shown(tmp_path):
    file = tmp_path / "password"
    file.write_text(f"{PASSWORD}\n")
    values = {**SECURE, "KAFKA_SASL_PASSWORD_FILE": str(file)}
    del values["KAFKA_SASL_PASSWORD"]
    config = loaded(**values)
    assert config.kafka.client_options()["sasl_plain_password"] == PASSWORD
    assert PASSWORD not in repr(config) + str(config.kafka)
    assert secrets_in(values) == secrets_in(SECURE) == {PASSWORD}
    assert secrets_in({"KAFKA_SSL_KEY_PASSWORD": PASSWORD}) == {PASSWORD}


@pytest.mark.parametrize(
    ("values", "named", "says"),
    [
        ({"KAFKA_SECURITY_PROTOCOL": "TLS"}, ["KAFKA_SECURITY_PROTOCOL"], "'SASL_SSL'"),
        (SECURE | {"KAFKA_SASL_MECHANISM": "OAUTHBEARER"}, ["KAFKA_SASL_MECHANISM"], "SCRAM"),
        (SASL, [*SASL], "PLAINTEXT"),
        ({"KAFKA_SSL_CA_FILE": "/ca"}, ["KAFKA_SSL_CA_FILE"], "no meaning"),
        ({**SASL, "KAFKA_SECURITY_PROTOCOL": "SSL"}, [*SASL], "SASL_SSL"),
        ({"KAFKA_SECURITY_PROTOCOL": "SASL_SSL"}, [*SASL], "missing"),
        (SECURE | {"KAFKA_SSL_CA_FILE": "/none"}, ["KAFKA_SSL_CA_FILE"], "FileNotFoundError"),
        (SECURE | {"KAFKA_SSL_CERTIFICATE_FILE": "/c"}, ["KAFKA_SSL_KEY_FILE"], "missing"),
        (SECURE | {"KAFKA_SSL_KEY_FILE": "/k"}, ["KAFKA_SSL_CERTIFICATE_FILE"], "missing"),
        (SECURE | {"KAFKA_SSL_KEY_PASSWORD": PASSWORD}, ["KAFKA_SSL_KEY_PASSWORD"], "nothing"),
        (
            {**SECURE, "KAFKA_SASL_PASSWORD": "", "KAFKA_SASL_PASSWORD_FILE": "/none"},
            ["KAFKA_SASL_PASSWORD_FILE"],
            "cannot be read",
        ),
    ],
)
def test_what_cannot_work_together_is_refused(values, named, says):
    found = problems(**values)
    assert all(says in problem for problem in found), found
    assert {problem.partition(":")[0] for problem in found} >= set(named)


def test_files_of_no_use_are_told_apart(authority, tmp_path):
    ours, other = authority.sign("ours", password=PASSWORD), authority.sign("other")
    empty = tmp_path / "empty.pem"
    empty.write_text("no certificate\n")
    assert "holds no certificates" in problems(**SECURE, KAFKA_SSL_CA_FILE=str(empty))[0]
    files = {
        "KAFKA_SSL_CERTIFICATE_FILE": str(ours.certificate),
        "KAFKA_SSL_KEY_FILE": str(ours.key),
    }
    assert "give KAFKA_SSL_KEY_PASSWORD" in problems(**SECURE, **files)[0]
    wrong = problems(**SECURE, **files, KAFKA_SSL_KEY_PASSWORD="it is another")
    assert wrong[0].startswith("KAFKA_SSL_KEY_PASSWORD: does not open")
    loaded(**SECURE, **files, KAFKA_SSL_KEY_PASSWORD=PASSWORD)
    files["KAFKA_SSL_KEY_FILE"] = str(other.key)
    assert "is not the key of" in problems(**SECURE, **files)[0]


def test_renewed_files_are_taken_at_the_next_connection(authority, tmp_path):
    first = Authority(tmp_path, "first")
    file = tmp_path / "trusted.pem"
    file.write_bytes(first.file.read_bytes())
    context = KafkaAccess("kafka:9093", SecurityProtocol.SSL, ca_file=str(file)).tls()

    def trusted() -> set[str]:
        context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="kafka")
        return {
            dict(pair[0] for pair in ca["subject"])["commonName"] for ca in context.get_ca_certs()
        }

    assert trusted() == {"first"}
    file.write_text("half a file")
    os.utime(file, ns=(1, 1))
    assert trusted() == {"first"}, "a file of no use changes nothing"
    file.write_bytes(authority.file.read_bytes())
    os.utime(file, ns=(2, 2))
    assert trusted() == {"first", "authority"}


OPEN = "postgresql://who:secret-of-who@db.example/orchestrator"


def exposed(**values) -> dict[str, bool]:
    found = load([], values).exposures
    return {item.name: item.is_loud for item in found}


def test_a_password_in_the_clear_is_told_and_can_be_refused(authority):
    assert exposed(DATABASE_URL=OPEN, SIGNING_GUARD_URL=OPEN) == {
        "DATABASE_URL": True,
        "SIGNING_GUARD_URL": True,
    }
    for here in ("127.0.0.1", "localhost", "[::1]", "%2Frun%2Fpostgres"):
        assert exposed(DATABASE_URL=OPEN.replace("db.example", here)) == {}
    assert exposed(DATABASE_URL=OPEN, PGSSLMODE="verify-full") == {}
    assert exposed(DATABASE_URL=f"{OPEN}?sslmode=allow") == {"DATABASE_URL": True}
    assert exposed(DATABASE_URL="postgresql://db.example/orchestrator") == {"DATABASE_URL": False}
    servers = {"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:9092,kafka:9092"}
    assert exposed(**servers) == {"KAFKA_SECURITY_PROTOCOL": False}
    clear = {**servers, **SASL, "KAFKA_SECURITY_PROTOCOL": "SASL_PLAINTEXT"}
    assert exposed(**clear) == {"KAFKA_SECURITY_PROTOCOL": True}
    encrypted = f"{OPEN}?sslmode=require"
    assert exposed(DATABASE_URL=encrypted, **servers, **SECURE) == {}
    with pytest.raises(ConfigurationError) as refused:
        load([], {"REQUIRE_TLS": "true", "DATABASE_URL": encrypted, **clear})
    names = [problem.partition(":")[0] for problem in refused.value.problems]
    assert names == ["KAFKA_SECURITY_PROTOCOL", "DATABASE_URL"]
    assert "verify-full" in refused.value.problems[1] and "secret-of-who" not in str(refused.value)
    load([], {"REQUIRE_TLS": "true", "DATABASE_URL": f"{OPEN}?sslmode=verify-full", **SECURE})
