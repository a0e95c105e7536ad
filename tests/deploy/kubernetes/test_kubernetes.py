"""The manifests: rendered by kubectl, checked against schemas, compared with the code."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

from orchestrator.adapters.wallets import LocalWallet
from orchestrator.config import Need, load
from projections.webhooks.endpoints import load_endpoints
from schemas.topics import LANES, REQUESTS, TOPICS
from streams import ingest, worker
from tests.deploy.kubernetes.rendering import PLACEHOLDER, of_kind, problems_of, rendered
from tests.deploy.shape import CHAIN_IDS
from tests.tidy.project import ROOT

SECRET_KEY = "0x" + "01" * 32
ADDRESS = LocalWallet(SECRET_KEY).address
ROLE_NEEDS = {
    "ingest": ingest.NEEDS,
    "decide": worker.NEEDS[worker.Role.DECIDE],
    "sign": worker.NEEDS[worker.Role.SIGN],
    "relay": worker.NEEDS[worker.Role.RELAY],
    "project": {Need.KAFKA, Need.DATABASE},
    "api": {Need.DATABASE},
    "webhooks": {Need.KAFKA, Need.DATABASE},
}
READS = {
    "decide": {"requests", "kuro.events", "evm.events", "lanes"},
    "sign": {"requests"},
    "relay": {"lanes"},
}
FILLED = {
    "KAFKA_BOOTSTRAP_SERVERS": "broker:9092",
    "AWS_REGION": "eu-central-1",
    "KMS_KEY_ID": "alias/issuer",
    "KURO_WEBSOCKET_URL": "wss://kuro.example/events",
    "KURO_REST_URL": "https://kuro.example/api",
    "SEAL_KMS_KEY_ID": "alias/seals",
    "SEAL_ANCHORS": "s3://seals/orchestrator",
}

overlays = pytest.mark.parametrize("overlay", ["production", "single"])


def role_of(deployment: dict[str, Any]) -> str:
    return deployment["metadata"]["name"].removeprefix("orchestrator-")


def container_of(workload: dict[str, Any]) -> dict[str, Any]:
    [container] = workload["spec"]["template"]["spec"]["containers"]
    return container


def environment_of(overlay: str, workload: dict[str, Any], folder) -> dict[str, str]:
    """What a container of it would see, with every placeholder and every secret filled."""
    container = container_of(workload)
    found: dict[str, str] = {}
    for source in container["envFrom"]:
        if "configMapRef" in source:
            found |= of_kind(overlay, "ConfigMap")[source["configMapRef"]["name"]]["data"]
        else:
            assert source["secretRef"]["name"] == "orchestrator-nodes"
            found |= {f"EVM_CHAIN_{chain}_RPC": "https://node.example" for chain in CHAIN_IDS}
    for name, text in found.items():
        if text.startswith(PLACEHOLDER):
            found[name] = FILLED.get(name, ADDRESS)
    mounts = {mount["mountPath"] for mount in container["volumeMounts"]}
    for item in container["env"]:
        name, value = item["name"], item["value"]
        if name.endswith("_FILE"):
            assert any(value.startswith(mount + "/") for mount in mounts), name
            secret = "postgresql://someone@somewhere/x" if name.endswith("URL_FILE") else SECRET_KEY
            value = folder / name
            value.write_text(secret)
        found[name] = str(value)
    return found


@overlays
def test_every_object_is_valid(overlay):
    assert problems_of(rendered(overlay)) == []


def test_the_check_finds_what_is_wrong():
    broken = copy.deepcopy(rendered("production"))
    for found in broken:
        if found["kind"] == "Deployment":
            found["spec"]["replica"] = 1
        if found["kind"] == "ScaledObject":
            found["spec"]["triggers"][0].pop("metadata")
    told = "\n".join(problems_of(broken))
    assert told.count("replica") >= 7
    assert told.count("metadata") >= 3


@overlays
def test_each_role_gets_every_setting_that_it_needs(overlay, tmp_path):
    deployments = of_kind(overlay, "Deployment")
    assert {role_of(found) for found in deployments.values()} == set(ROLE_NEEDS)
    for found in deployments.values():
        environment = environment_of(overlay, found, tmp_path)
        config = load(ROLE_NEEDS[role_of(found)], environment)
        assert tuple(config.chains) == CHAIN_IDS


@overlays
def test_a_role_sees_only_its_own_secrets(overlay):
    holders: dict[str, set[str]] = {}
    accounts: dict[str, str] = {}
    workloads = of_kind(overlay, "Deployment") | of_kind(overlay, "Job")
    for found in workloads.values():
        pod = found["spec"]["template"]["spec"]
        accounts[role_of(found)] = pod["serviceAccountName"]
        for volume in pod["volumes"]:
            if "secret" in volume:
                holders.setdefault(volume["secret"]["secretName"], set()).add(role_of(found))
        for source in container_of(found)["envFrom"]:
            if "secretRef" in source:
                holders.setdefault(source["secretRef"]["name"], set()).add(role_of(found))
    assert holders == {
        "orchestrator-database": {"init", "project", "api", "webhooks"},
        "orchestrator-signing-guard": {"init", "sign"},
        "orchestrator-relayer-keys": {"relay"},
        "orchestrator-webhooks": {"webhooks"},
        "orchestrator-nodes": {"ingest", "relay"},
    }
    own = {role for role, account in accounts.items() if account != "orchestrator"}
    assert own == ({"sign", "api"} if overlay == "production" else {"sign"})
    assert not of_kind(overlay, "Secret"), "a secret never stands in a manifest"


@overlays
def test_containers_are_hardened_probed_and_bounded(overlay):
    for found in of_kind(overlay, "Deployment").values():
        pod, container = found["spec"]["template"]["spec"], container_of(found)
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["automountServiceAccountToken"] is False
        assert container["securityContext"]["readOnlyRootFilesystem"] is True
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert {"cpu", "memory"} == set(container["resources"]["requests"])
        assert "memory" in container["resources"]["limits"]
        assert container["livenessProbe"]["httpGet"]["path"] == "/health/live"
        assert pod["terminationGracePeriodSeconds"] >= 30
        spread = {item["topologyKey"] for item in pod["topologySpreadConstraints"]}
        assert spread == {"topology.kubernetes.io/zone", "kubernetes.io/hostname"}


@overlays
def test_what_rests_is_kept_on_the_disk_of_the_pod_s_node(overlay):
    """Of those that fold requests, each pod for itself: no claim that a scaler would leave behind,
    and no memory of the pod's."""
    for found in of_kind(overlay, "Deployment").values():
        pod, container = found["spec"]["template"]["spec"], container_of(found)
        given = {item["name"]: item.get("value") for item in container["env"]}
        kept = [mount for mount in container["volumeMounts"] if mount["name"] == "states"]
        if role_of(found) not in ("decide", "sign"):
            assert "STATE_DIR" not in given and not kept
            continue
        [mount] = kept
        assert mount["mountPath"] == given["STATE_DIR"] and not mount.get("readOnly")
        [volume] = [volume for volume in pod["volumes"] if volume["name"] == "states"]
        assert set(volume["emptyDir"]) == {"sizeLimit"}
        assert pod["securityContext"]["fsGroup"] == pod["securityContext"]["runAsUser"]


def test_production_survives_a_machine_and_one_machine_needs_no_second():
    deployments = of_kind("production", "Deployment")
    assert deployments["orchestrator-api"]["spec"]["replicas"] == 3
    scaled = {o["spec"]["scaleTargetRef"]["name"] for o in _scalers().values()}
    for name, found in deployments.items():
        assert ("replicas" not in found["spec"]) == (name in scaled)
        assert name in scaled or found["spec"]["replicas"] >= 2
    assert set(of_kind("production", "PodDisruptionBudget")) == set(deployments)
    assert {o["spec"]["replicas"] for o in of_kind("single", "Deployment").values()} == {1}
    assert not of_kind("single", "PodDisruptionBudget")


def _scalers() -> dict[str, dict[str, Any]]:
    return of_kind("production", "ScaledObject")


def test_workers_are_scaled_on_the_lag_of_what_they_read():
    assert {role_of(found) for found in _scalers().values()} == set(READS)
    for found in _scalers().values():
        role, triggers = role_of(found), found["spec"]["triggers"]
        assert {trigger["metadata"]["topic"] for trigger in triggers} == READS[role] <= set(TOPICS)
        for trigger in triggers:
            assert trigger["metadata"]["consumerGroup"] == f"orchestrator-{role}"
            assert trigger["metadata"]["bootstrapServers"] != "kafka.invalid:9092"
        owned = LANES if role == "relay" else REQUESTS
        assert found["spec"]["maxReplicaCount"] == owned.partitions


def _reads_a_database(_role: str, workload: dict[str, Any]) -> bool:
    names = {item["name"] for item in container_of(workload)["env"]}
    return bool(names & {"DATABASE_URL_FILE", "SIGNING_GUARD_URL_FILE"})


def _asks_the_outside(role: str, _workload: dict[str, Any]) -> bool:
    outer = {Need.NODES, Need.KURO, Need.KMS}
    return role == "webhooks" or bool(ROLE_NEEDS.get(role, set()) & outer)


@overlays
def test_webhooks_find_their_list_where_it_is_mounted(overlay, tmp_path):
    found = of_kind(overlay, "Deployment")["orchestrator-webhooks"]
    file = {item["name"]: item["value"] for item in container_of(found)["env"]}["WEBHOOKS_FILE"]
    key = (ROOT / "deploy" / "kubernetes" / "README.md").read_text(encoding="utf-8")
    assert f"--from-file={file.rpartition('/')[2]}=" in key, "the key that the secret is made with"
    environment = environment_of(overlay, found, tmp_path)
    Path(environment["WEBHOOKS_FILE"]).write_text("[]")
    assert load_endpoints(load(ROLE_NEEDS["webhooks"], environment).settings, environment) == ()


@overlays
def test_nothing_comes_in_or_goes_out_by_default(overlay):
    policies = of_kind(overlay, "NetworkPolicy")
    everything = policies["orchestrator-nothing"]["spec"]
    assert set(everything["policyTypes"]) == {"Ingress", "Egress"}
    assert "ingress" not in everything and "egress" not in everything
    workloads = of_kind(overlay, "Deployment") | of_kind(overlay, "Job")
    for policy, holds in (
        ("orchestrator-database", _reads_a_database),
        ("orchestrator-outside", _asks_the_outside),
    ):
        [matched] = policies[policy]["spec"]["podSelector"]["matchExpressions"]
        assert set(matched["values"]) == {
            role_of(found) for found in workloads.values() if holds(role_of(found), found)
        }
