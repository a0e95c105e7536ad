"""The component that seals the log's days, laid over the base."""

from __future__ import annotations

import os
import subprocess

import pytest
import yaml

from orchestrator.commands.seal import anchors_of, seal_key_of
from orchestrator.config import Need, load
from tests.deploy.kubernetes.rendering import PLACEHOLDER, kubectl, problems_of
from tests.tidy.project import ROOT

KUBERNETES = ROOT / "deploy" / "kubernetes"
FILLED = {"SEAL_KMS_KEY_ID": "alias/seals", "SEAL_ANCHORS": "s3://seals/orchestrator"}


@pytest.fixture(scope="module")
def objects(tmp_path_factory):
    folder = tmp_path_factory.mktemp("overlay").resolve()
    parts = {
        "resources": [os.path.relpath(KUBERNETES / "base", folder)],
        "components": [os.path.relpath(KUBERNETES / "components" / "seals", folder)],
    }
    (folder / "kustomization.yaml").write_text(yaml.safe_dump(parts))
    command = [str(kubectl()), "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def test_the_job_is_valid_has_its_settings_and_an_identity_of_its_own(objects):
    assert problems_of(objects) == []
    [job] = [found for found in objects if found["kind"] == "CronJob"]
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = job["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    accounts = {o["metadata"]["name"] for o in objects if o["kind"] == "ServiceAccount"}
    assert pod["serviceAccountName"] == "orchestrator-seal" in accounts
    assert not any("secret" in volume for volume in pod["volumes"])
    [container] = pod["containers"]
    assert container["args"] == ["seal", "--json"]
    assert container["image"].startswith("stablecoin-orchestrator")
    given = {item["name"]: item["value"] for item in container["env"]}
    assert given.keys() == FILLED.keys()
    assert all(text.startswith(PLACEHOLDER) for text in given.values())
    shared = {"KAFKA_BOOTSTRAP_SERVERS": "broker:9092", "AWS_REGION": "x", "KMS_KEY_ID": "issuer"}
    config = load([Need.KAFKA], shared | FILLED)
    assert seal_key_of(config) is not None
    assert [anchor.name for anchor in anchors_of(config, config.settings.seal_anchors)] == [
        "s3://seals/orchestrator"
    ]
