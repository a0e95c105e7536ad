"""What seals the log's days in production, and what looks at the seals."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.commands.seal import anchors_of, seal_key_of, seal_watch_of
from orchestrator.config import Need, load
from tests.deploy.kubernetes.rendering import PLACEHOLDER, of_kind, rendered
from tests.deploy.kubernetes.test_kubernetes import FILLED, environment_of
from tests.deploy.test_security_files import policy

ROLE = "eks.amazonaws.com/role-arn"


def spec_of(name: str) -> dict:
    return of_kind("production", "CronJob")[name]["spec"]


def test_production_seals_every_hour_and_misses_no_day():
    """A day is overdue when it has been over for six hours."""
    assert set(of_kind("production", "CronJob")) == {"orchestrator-seal"}
    spec = spec_of("orchestrator-seal")
    minute, *others = spec["schedule"].split()
    assert int(minute) >= 5 and others == ["*"] * 4 and spec["timeZone"] == "Etc/UTC"
    assert spec["concurrencyPolicy"] == "Forbid"
    assert spec["jobTemplate"]["spec"]["activeDeadlineSeconds"] < 3600
    assert not of_kind("single", "CronJob"), "one to try out has no key and no bucket"


def test_the_job_has_what_it_uses_and_nothing_else():
    pod = spec_of("orchestrator-seal")["jobTemplate"]["spec"]["template"]["spec"]
    assert pod["automountServiceAccountToken"] is False
    assert pod["securityContext"]["runAsNonRoot"] is True
    kinds = {kind for volume in pod["volumes"] for kind in volume if kind != "name"}
    assert kinds == {"configMap", "emptyDir"}, "no secret of another role"
    [container] = pod["containers"]
    assert container["args"] == ["seal", "--json"]
    assert container["image"].startswith("stablecoin-orchestrator")
    assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
    assert container["securityContext"]["readOnlyRootFilesystem"] is True
    assert "envFrom" not in container
    [settings] = [
        found["data"]
        for name, found in of_kind("production", "ConfigMap").items()
        if name.startswith("orchestrator-settings")
    ]
    given = {}
    for item in container["env"]:
        if item["name"] == "SEAL_PUBLIC_KEYS_FILE":
            assert item["value"].rpartition("/")[0] in {
                mount["mountPath"] for mount in container["volumeMounts"]
            }
            continue
        source = item["valueFrom"]["configMapKeyRef"]
        assert source["name"] in of_kind("production", "ConfigMap")
        if source["key"] in settings:
            assert settings[source["key"]].startswith(PLACEHOLDER)
            given[item["name"]] = FILLED[source["key"]]
        else:
            assert source["optional"] is True
    config = load([Need.KAFKA], given)
    assert seal_key_of(config) is not None
    [anchor] = anchors_of(config, config.settings.seal_anchors)
    assert anchor.name == FILLED["SEAL_ANCHORS"]


def test_each_identity_is_its_own_and_has_a_role_in_aws():
    pod = spec_of("orchestrator-seal")["jobTemplate"]["spec"]["template"]["spec"]
    api = of_kind("production", "Deployment")["orchestrator-api"]["spec"]["template"]["spec"]
    accounts = of_kind("production", "ServiceAccount")
    names = [pod["serviceAccountName"], api["serviceAccountName"]]
    assert names == ["orchestrator-seal", "orchestrator-api"]
    told = {name: accounts[name]["metadata"]["annotations"][ROLE] for name in names}
    for name, file in zip(names, ("kms-seal-policy", "s3-seal-reading-policy"), strict=True):
        assert told[name].startswith(PLACEHOLDER) and f"{file}.json" in told[name]
        assert policy(f"{file}.json")
    assert accounts["orchestrator-sign"]["metadata"]["annotations"][ROLE] not in told.values()


def test_they_reach_aws_and_the_log_and_nobody_reaches_them():
    [matched] = of_kind("production", "NetworkPolicy")["orchestrator-seal-outside"]["spec"][
        "podSelector"
    ]["matchExpressions"]
    assert set(matched["values"]) == {"seal", "api"}
    for name in ("orchestrator-database", "orchestrator-outside"):
        [reached] = of_kind("production", "NetworkPolicy")[name]["spec"]["podSelector"][
            "matchExpressions"
        ]
        assert "seal" not in reached["values"]


def test_the_api_looks_at_the_anchor_with_the_key_that_is_mounted(tmp_path):
    deployment = of_kind("production", "Deployment")["orchestrator-api"]
    environment = environment_of("production", deployment, tmp_path)
    public = ec.generate_private_key(ec.SECP256R1()).public_key()
    pem = public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    (tmp_path / "SEAL_PUBLIC_KEYS_FILE").write_bytes(pem)
    watch = seal_watch_of(load({Need.DATABASE}, environment))
    assert watch is not None
    assert [one.anchor for one in watch.standings()] == [FILLED["SEAL_ANCHORS"]]


@pytest.mark.parametrize("overlay", ["single"])
def test_where_nothing_is_sealed_nothing_is_asked_of_aws(overlay):
    assert "orchestrator-api" not in of_kind(overlay, "ServiceAccount")
    assert not any("SEAL_" in str(found) for found in rendered(overlay))
