"""Compile the contracts to the committed artifacts, or check that they agree.

`python -m orchestrator.dev.compile_contract` writes `orchestrator/dev/artifacts/<contract>.json`;
with `--check` it writes nothing and fails when a fresh compile differs. solc-js and OpenZeppelin
come from contracts/package-lock.json (exact versions, integrity hashes), so the same source gives
the same bytes on every machine, the metadata hash at the end of the bytecode included.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from orchestrator.dev.downloads import (
    PACKAGE_FOLDER,
    Progress,
    node_executable,
    npm_modules,
)
from orchestrator.dev.processes import StackError

STABLECOIN = "Stablecoin"
LAUNCHPAD_STABLECOIN = "LaunchpadStableCoin"
KYC_REGISTRY = "KycRegistry"
CONTRACT_NAMES = (STABLECOIN, LAUNCHPAD_STABLECOIN, KYC_REGISTRY)
ARTIFACT_FOLDER = PACKAGE_FOLDER / "artifacts"
CONTRACTS_FOLDER = PACKAGE_FOLDER.parents[1] / "contracts"

SETTINGS: dict[str, Any] = {
    "optimizer": {"enabled": True, "runs": 10_000},
    "evmVersion": "cancun",
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
}


def artifact_path(name: str) -> Path:
    return ARTIFACT_FOLDER / f"{name}.json"


def compile_artifact(progress: Progress, name: str = STABLECOIN) -> dict[str, Any]:
    """A fresh artifact: contractName, compiler, settings, abi, bytecode, deployedBytecode.

    Raises `StackError` with the compiler's messages when it reports an error or a warning.
    """
    file_name = f"{name}.sol"
    modules = npm_modules(CONTRACTS_FOLDER, "contract compiler", progress)
    standard_input = {
        "language": "Solidity",
        "sources": {file_name: {"content": (CONTRACTS_FOLDER / file_name).read_text()}},
        "settings": SETTINGS,
    }
    script = CONTRACTS_FOLDER / "compile.cjs"
    result = subprocess.run(
        [str(node_executable()), str(script), str(CONTRACTS_FOLDER), str(modules)],
        input=json.dumps(standard_input),
        capture_output=True,
        check=False,
        text=True,
    )
    if result.returncode != 0:
        raise StackError(f"the compiler failed:\n{result.stderr.strip()}")
    output = json.loads(result.stdout)
    if messages := [entry["formattedMessage"] for entry in output.get("errors", [])]:
        raise StackError("\n".join(messages))
    contract = output["contracts"][file_name][name]
    solc = json.loads((modules / "solc" / "package.json").read_text())["version"]
    library = modules / "@openzeppelin" / "contracts" / "package.json"
    return {
        "contractName": name,
        "compiler": {
            "solc": solc,
            "openzeppelin": json.loads(library.read_text())["version"],
            "settings": {key: SETTINGS[key] for key in ("optimizer", "evmVersion")},
        },
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
    }


def load_artifact(name: str = STABLECOIN) -> dict[str, Any]:
    """The committed artifact."""
    artifact: dict[str, Any] = json.loads(artifact_path(name).read_text())
    return artifact


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.dev.compile_contract")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)

    def progress(text: str) -> None:
        print(text, file=sys.stderr)

    differing = 0
    for name in CONTRACT_NAMES:
        path = artifact_path(name)
        try:
            text = json.dumps(compile_artifact(progress, name), indent=2) + "\n"
        except StackError as error:
            print(error, file=sys.stderr)
            return 1
        if not options.check:
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
            print(f"wrote {path}")
        elif not path.exists() or path.read_text() != text:
            print(f"{path} differs from a fresh compile: run without --check", file=sys.stderr)
            differing += 1
        else:
            print(f"{path.name} is up to date")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
