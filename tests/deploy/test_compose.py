"""docker-compose.yml and its overlay against the code. Static: no engine is asked for anything."""

from __future__ import annotations

import re
import tomllib

import click
import pytest
import typer
from botocore.configprovider import BOTOCORE_DEFAUT_SESSION_VARIABLES
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator import cli
from orchestrator.commands import seal
from orchestrator.config import CHAIN_SETTINGS, FILE_SETTINGS, Config, Need, Settings, load
from projections.health_routes import routes as health_routes
from streams.topics import TOPIC_CONFIG
from tests import containers
from tests.deploy.composed import unnamed
from tests.deploy.shape import (
    CHAIN_IDS,
    COMPOSE,
    EXAMPLE,
    OVERLAY,
    OWN_IMAGE,
    compose,
    example_names,
    filled,
    own,
    services,
    variables,
)
from tests.tidy.project import ROOT

BOTH = (COMPOSE, OVERLAY)
PINNED = re.compile(r"([a-z0-9-]+/)?[a-z0-9-]+:v?\d+\.\d+[a-z0-9.-]*(@sha256:[0-9a-f]{64})?")
SECRET = re.compile(
    r"DATABASE_URL|SIGNING_GUARD_URL|RELAYER_PRIVATE_KEY_\d+|.*PASSWORD"
    r"|AWS_(ACCESS|SECRET|SESSION).*"
)
CONDITIONS = {"service_healthy", "service_completed_successfully"}
NOT_GIVEN = {
    *("DATABASE_URL", "SIGNING_GUARD_URL", "HOST", "PORT"),
    *("KAFKA_SASL_PASSWORD", "KAFKA_SSL_KEY_PASSWORD"),
    *("KAFKA_SSL_CA_FILE", "KAFKA_SSL_CERTIFICATE_FILE", "KAFKA_SSL_KEY_FILE"),
}
"""Settings that the compose file decides itself: a secret in a file, and where the API listens. The
files of a login to brokers outside of it come with the overlay that names those brokers."""


def known_names() -> set[str]:
    """Every environment name that the service reads, itself or through the AWS library."""
    names = {name.upper() for name in Settings.model_fields}
    for chain_id in CHAIN_IDS:
        both = (*CHAIN_SETTINGS, *FILE_SETTINGS)
        names |= {name.replace("<id>", str(chain_id)) for name in both}
    for _, given, *_ in BOTOCORE_DEFAUT_SESSION_VARIABLES.values():
        names |= {name for name in (given if isinstance(given, list) else [given]) if name}
    return names


def parsed(arguments: list[str]) -> click.Context:
    """The context of `orchestrator <arguments>`; click.UsageError when there is no such command."""
    group = typer.main.get_command(cli.app)
    assert isinstance(group, click.Group) or hasattr(group, "commands")
    name, *rest = arguments
    assert name in group.commands, f"no command {name}"
    return group.commands[name].make_context(name, list(rest))


def needs_of(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> set[Need]:
    """What a command asks of its configuration, heard from the command itself."""

    class Asked(Exception):
        pass

    heard: set[Need] = set()

    def configured(needs) -> Config:
        heard.update(needs)
        raise Asked

    monkeypatch.setattr(cli, "_configured", configured)
    monkeypatch.setattr(seal, "_configured", lambda needs, as_json: configured(needs))
    context = parsed(arguments)
    with pytest.raises(Asked), context:
        context.command.invoke(context)
    return heard


@pytest.mark.parametrize("path", BOTH, ids=lambda path: path.name)
def test_the_service_is_given_only_names_that_it_knows(path):
    for name, service in own(path).items():
        unknown = set(service.get("environment", {})) - known_names()
        assert not unknown, f"{name}: {unknown}"


def test_every_setting_can_be_given():
    given = {name for service in own().values() for name in service["environment"]}
    missing = {name.upper() for name in Settings.model_fields} - NOT_GIVEN - given
    assert not missing, f"name them in docker-compose.yml: {missing}"
    for chain_id in CHAIN_IDS:
        for form in ("KADENA_EVM_CHAIN_{}_RPC", "STABLECOIN_CONTRACT_ADDRESS_{}"):
            assert form.format(chain_id) in given
        for form in ("CONFIRMATIONS_{}", "START_BLOCK_{}", "RELAYER_PRIVATE_KEY_{}_FILE"):
            assert form.format(chain_id) in given
    assert Settings.model_fields["chain_ids"].default == CHAIN_IDS


@pytest.mark.parametrize("name", sorted(own()))
def test_each_command_is_one_of_the_command_line(name):
    command = own()[name]["command"]
    context = parsed(command)
    if command[0] == "worker":
        assert cli._roles(context.params["roles"])


def test_who_seals_has_an_identity_of_its_own_and_who_looks_signs_nothing():
    holders: dict[str, set[str]] = {}
    for name, service in own().items():
        for secret in service.get("secrets", []):
            holders.setdefault(secret, set()).add(name)
    assert holders["seal_aws_credentials"] == {"seal"}
    assert holders["seal_reading_aws_credentials"] == {"api"}
    assert set(own()["seal"]["secrets"]) == {"seal_aws_credentials", "seal_public_keys"}
    named = {name for name, service in own().items() if "SEAL_KMS_KEY_ID" in service["environment"]}
    assert named == {"seal"}
    assert own()["seal"]["profiles"] == ["seals"], "without a key and a bucket it cannot run"
    assert not [name for name, service in own().items() if "profiles" in service and name != "seal"]


def test_what_seals_finds_its_key_and_its_anchors(tmp_path):
    given = {"AWS_REGION": "x", "SEAL_KMS_KEY_ID": "alias/seals", "SEAL_ANCHORS": "s3://seals/a"}
    environment = {n: filled(v, given) for n, v in own()["seal"]["environment"].items()}
    config = load([Need.KAFKA], environment)
    assert seal.seal_key_of(config) is not None
    anchors = seal.anchors_of(config, config.settings.seal_anchors)
    assert [anchor.name for anchor in anchors] == ["s3://seals/a"]
    looking = {n: filled(v, given) for n, v in own()["api"]["environment"].items()}
    pem = tmp_path / "seals.pem"
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem.write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    files = {n: str(pem) for n in looking if n.endswith("_FILE")}
    watch = seal.seal_watch_of(load([], looking | files))
    assert watch is not None and [one.anchor for one in watch.standings()] == ["s3://seals/a"]


def test_every_role_runs():
    commands = {service["command"][0] for service in own().values()}
    assert commands == {"init", "ingest", "worker", "project", "api", "webhooks", "seal"}
    assert own()["worker"]["deploy"]["replicas"] == 2


@pytest.mark.parametrize("name", sorted(own()))
def test_what_each_role_is_given_is_enough_and_no_more(name, monkeypatch, tmp_path):
    """The container's environment is loaded as the command would, with secrets in files."""
    key = "0x" + "1f" * 32
    given = {variable: f"https://{variable.lower()}" for variable in example_names(EXAMPLE)}
    given |= {n: f"0x{'11' * 20}" for n in given if n.startswith("STABLECOIN")}
    given |= {
        n: "" for n in given if n.startswith(("CONFIRMATIONS", "START", "DE", "ORCH", "SEAL"))
    }
    for secret in compose()["secrets"]:
        (tmp_path / secret).write_text(key if "relayer" in secret else "postgresql://u:p@h/d")
    service = own()[name]
    environment = {
        variable: filled(value, given).replace("/run/secrets", str(tmp_path))
        for variable, value in service["environment"].items()
    }
    needs = needs_of(service["command"], monkeypatch)
    config = load(needs, environment)
    assert tuple(config.chains) == CHAIN_IDS
    assert ("database_url" in service.get("secrets", [])) == (Need.DATABASE in needs)
    for need, part in (
        (Need.WALLET_KEYS, "RELAYER_PRIVATE"),
        (Need.KMS, "KMS_KEY_ID"),
        (Need.KURO, "KURO"),
    ):
        assert any(variable.startswith(part) for variable in environment) == (need in needs), part


@pytest.mark.parametrize("name", sorted(services()))
def test_secrets_stand_in_files_and_only_where_they_are_used(name):
    service = services()[name]
    environment = service["environment"]
    assert not [n for n in environment if SECRET.fullmatch(n)]
    used = {v.removeprefix("/run/secrets/") for v in environment.values() if "/run/secrets/" in v}
    assert used == set(service.get("secrets", []))
    files = {n for n in environment if n.endswith("_FILE")}
    assert all(environment[n].startswith("/run/secrets/") for n in files)
    assert "env_file" not in service


def test_secrets_come_from_one_folder_that_git_does_not_see():
    defined = compose()["secrets"]
    for name, secret in defined.items():
        assert secret == {"file": f"${{SECRETS_DIR:-./deploy/secrets}}/{name}"}
    used = {name for service in services().values() for name in service.get("secrets", [])}
    assert used == set(defined)
    assert "secrets/" in (ROOT / "deploy" / ".gitignore").read_text(encoding="utf-8").split()
    text = (ROOT / "deploy" / "README.md").read_text(encoding="utf-8")
    for name in {re.sub(r"_\d+$", "_<id>", name) for name in defined}:
        assert f"`{name}`" in text, f"deploy/README.md does not tell of {name}"


def test_the_file_that_is_filled_in_is_not_seen_by_git():
    lines = (ROOT / ".gitignore").read_text(encoding="utf-8").split()
    assert ".env" in lines, ".gitignore must name .env: people fill in addresses and keys there"


def test_variables_are_documented_and_what_is_required_is_listed():
    documented = set(example_names(ROOT / "env.example")) | set(example_names(EXAMPLE))
    documented |= {n.replace("5920", str(c)) for n in documented for c in CHAIN_IDS}
    used: dict[str, set[str]] = {}
    for path in BOTH:
        for name, kinds in variables(path).items():
            used.setdefault(name, set()).update(kinds)
    assert not set(used) - documented
    listed = example_names(EXAMPLE)
    assert len(listed) == len(set(listed))
    assert not set(listed) - set(used), "listed and used nowhere"
    required = {name for name, kinds in used.items() if "?" in kinds}
    text = EXAMPLE.read_text(encoding="utf-8")
    section = text[text.index("--- Required") : text.index("--- Optional")]
    assert set(re.findall(r"^([A-Z0-9_]+)=", section, re.MULTILINE)) == required
    assert not [n for n in listed if SECRET.fullmatch(n)]


@pytest.mark.parametrize("name", sorted(services()))
def test_images_are_pinned_and_name_no_host(name):
    image = filled(services()[name]["image"], {})
    assert PINNED.fullmatch(image), image


def test_own_image_has_the_version_of_the_project_and_is_built_once():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    images = {filled(service["image"], {}) for service in own().values()}
    assert images == {f"{OWN_IMAGE}:{project['version']}"}
    assert project["name"] == OWN_IMAGE
    built = [service["build"] for service in services().values() if "build" in service]
    assert built == [{"context": ".", "dockerfile": "deploy/Dockerfile", "target": "service"}]


def test_the_same_kafka_and_postgresql_everywhere():
    assert services()["kafka"]["image"] == containers.KAFKA_IMAGE
    assert services()["postgres"]["image"] == containers.POSTGRES_IMAGE
    jars = (ROOT / "orchestrator" / "dev" / "kafka-jars.lock").read_text(encoding="utf-8")
    [version] = re.findall(r"^org\.apache\.kafka:kafka_2\.13:(\S+)", jars, re.MULTILINE)
    assert f"apache/kafka:{version}" == containers.KAFKA_IMAGE


@pytest.mark.parametrize("name", sorted(services()))
def test_containers_may_do_little(name):
    service = services()[name]
    assert service["user"].split(":")[0] not in ("", "0", "root")
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    assert "cap_add" not in service and "privileged" not in service
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert any(entry.startswith("/tmp:") for entry in service["tmpfs"])
    assert all("size=" in entry for entry in service["tmpfs"])
    limits = service["deploy"]["resources"]["limits"]
    assert set(limits) == {"cpus", "memory", "pids"}
    assert service["restart"] == ("no" if name == "init" else "unless-stopped")
    assert service["logging"]["options"].keys() == {"max-size", "max-file"}
    assert "ports" not in service
    named = compose()["volumes"]
    bound = set(service.get("volumes", [])) - set(unnamed(service))
    assert all(entry.split(":")[0] in named for entry in bound)


def test_what_rests_is_kept_by_each_worker_for_itself():
    """No name, or two replicas would share it; the image's folder gives the volume its owner."""
    holders = {name: unnamed(service) for name, service in services().items()}
    assert {name: found for name, found in holders.items() if found} == {
        "worker": [own()["worker"]["environment"]["STATE_DIR"]]
    }
    [folder] = holders["worker"]
    uid, gid = own()["worker"]["user"].split(":")
    text = (ROOT / "deploy" / "Dockerfile").read_text(encoding="utf-8")
    service = text[text.index("AS service") : text.index("AS tools")]
    assert f"install -d -o {uid} -g {gid} -m 0700 {folder}" in service
    given = {name for name, service in own().items() if "STATE_DIR" in service["environment"]}
    assert given == {"worker"}


def test_data_and_roles_without_outer_business_reach_no_outer_network():
    assert compose()["networks"]["inner"] == {"internal": True}
    outside = {name for name, service in services().items() if "outer" in service["networks"]}
    assert outside == {"ingest", "worker", "api", "webhooks", "seal", "grafana"}
    assert all("inner" in service["networks"] for service in services().values())


def test_what_is_waited_for_can_come_true():
    for name, service in services().items():
        for other, condition in service.get("depends_on", {}).items():
            assert condition["condition"] in CONDITIONS, name
            if condition["condition"] == "service_healthy":
                assert "test" in services()[other]["healthcheck"]
            else:
                assert services()[other]["restart"] == "no"
    for name in set(own()) - {"init"}:
        waits = own()[name]["depends_on"]
        assert waits["init"] == {"condition": "service_completed_successfully"}
        assert "database_url" not in own()[name].get("secrets", []) or "postgres" in waits


def test_health_is_asked_where_the_api_answers():
    routes = {route.path for route in health_routes()}
    port = Settings.model_fields["port"].default
    api = services()["api"]
    [(asked, path)] = re.findall(
        r"http://127\.0\.0\.1:(\d+)(/[\w/]+)", api["healthcheck"]["test"][-1]
    )
    assert (int(asked), path) == (port, "/health/ready")
    assert path in routes
    compile(api["healthcheck"]["test"][-1], "healthcheck", "exec")
    assert api["expose"] == [str(port)]
    with_checks = {name for name, service in services().items() if "healthcheck" in service}
    assert with_checks == {"kafka", "postgres", "api"}


def test_the_broker_keeps_facts_for_ever_and_invents_no_topics():
    environment = services()["kafka"]["environment"]
    assert environment["KAFKA_AUTO_CREATE_TOPICS_ENABLE"] == "false"
    for setting, value in TOPIC_CONFIG.items():
        name = "KAFKA_LOG_" + setting.upper().replace(".", "_")
        assert environment[name] == value, name
    assert environment["KAFKA_PROCESS_ROLES"] == "broker,controller"
    [volume] = services()["kafka"]["volumes"]
    assert volume.endswith(environment["KAFKA_LOG_DIRS"])
    default = filled(own()["api"]["environment"]["KAFKA_BOOTSTRAP_SERVERS"], {})
    assert environment["KAFKA_ADVERTISED_LISTENERS"] == f"BROKER://{default}"
    [config] = services()["kafka"]["configs"]
    assert config["target"] in environment["KAFKA_LOG4J_OPTS"]
    assert (ROOT / compose()["configs"][config["source"]]["file"]).is_file()
