"""The component that gives each role its own principal on Kafka, laid over the base."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml

from orchestrator.config import load
from orchestrator.errors import ConfigurationError
from orchestrator.kafka_access import SecurityProtocol
from orchestrator.kafka_rights import RIGHTS
from tests.authority import Authority
from tests.deploy.kubernetes.rendering import kubectl, problems_of
from tests.tidy.project import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlay").resolve()
    parts = {
        "resources": [os.path.relpath(KUBERNETES / "base", folder)],
        "components": [
            os.path.relpath(KUBERNETES / "components" / name, folder)
            for name in ("seals", "kafka-login")
        ],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    command = [str(kubectl()), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_every_role_logs_in_as_itself_with_its_own_secret(objects, tmp_path):
    assert problems_of(objects) == []
    authority, roles = Authority(tmp_path), set()
    for found in objects:
        if found["kind"] not in ("Deployment", "Job", "CronJob"):
            continue
        role = found["metadata"]["name"].removeprefix("orchestrator-")
        roles.add(role)
        spec = found["spec"].get("jobTemplate", found)["spec"]
        pod = spec["template"]["spec"]
        [container] = pod["containers"]
        given = {item["name"]: item["value"] for item in container["env"] if "value" in item}
        secrets = {
            volume["secret"]["secretName"]
            for volume in pod["volumes"]
            if "secret" in volume and "kafka" in volume["secret"]["secretName"]
        }
        assert secrets == {f"orchestrator-kafka-{role}"}
        mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(mounts) == len(set(mounts))
        for name in ("KAFKA_SASL_PASSWORD_FILE", "KAFKA_SSL_CA_FILE"):
            assert any(given[name].startswith(f"{mount}/") for mount in mounts)
        (tmp_path / "password").write_text("the secret of it")
        files = {
            "KAFKA_SASL_PASSWORD_FILE": str(tmp_path / "password"),
            "KAFKA_SSL_CA_FILE": str(authority.file),
        }
        kafka = {name: text for name, text in given.items() if name.startswith("KAFKA_")}
        servers = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9093", "REQUIRE_TLS": given["REQUIRE_TLS"]}
        access = load([], kafka | files | servers).kafka
        assert access.protocol is SecurityProtocol.SASL_SSL
        assert access.sasl_username == f"orchestrator-{role}"
        with pytest.raises(ConfigurationError, match="DATABASE_URL"):
            load([], kafka | files | servers | {"DATABASE_URL": "postgresql://who:x@db/o"})
    assert roles == set(RIGHTS) - {"operator", "repair", "auditor"}
