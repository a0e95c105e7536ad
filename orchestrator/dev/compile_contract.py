"""Compile contracts/Stablecoin.sol to the committed artifact, or check that they agree.

`python -m orchestrator.dev.compile_contract` writes `orchestrator/dev/artifacts/Stablecoin.json`;
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

CONTRACT_NAME = "Stablecoin"
ARTIFACT_PATH = PACKAGE_FOLDER / "artifacts" / f"{CONTRACT_NAME}.json"
CONTRACTS_FOLDER = PACKAGE_FOLDER.parents[1] / "contracts"

SETTINGS: dict[str, Any] = {
    "optimizer": {"enabled": True, "runs": 10_000},
    "evmVersion": "cancun",
    "outputSelection": {"*": {"*": ["abi", "evm.bytecode.object", "evm.deployedBytecode.object"]}},
}


def compile_artifact(progress: Progress) -> dict[str, Any]:
    """A fresh artifact: contractName, compiler, settings, abi, bytecode, deployedBytecode.

    Raises `StackError` with the compiler's messages when it reports an error or a warning.
    """
    file_name = f"{CONTRACT_NAME}.sol"
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
    contract = output["contracts"][file_name][CONTRACT_NAME]
    solc = json.loads((modules / "solc" / "package.json").read_text())["version"]
    library = modules / "@openzeppelin" / "contracts" / "package.json"
    return {
        "contractName": CONTRACT_NAME,
        "compiler": {
            "solc": solc,
            "openzeppelin": json.loads(library.read_text())["version"],
            "settings": {key: SETTINGS[key] for key in ("optimizer", "evmVersion")},
        },
        "abi": contract["abi"],
        "bytecode": "0x" + contract["evm"]["bytecode"]["object"],
        "deployedBytecode": "0x" + contract["evm"]["deployedBytecode"]["object"],
    }


def load_artifact(path: Path = ARTIFACT_PATH) -> dict[str, Any]:
    """The committed artifact."""
    artifact: dict[str, Any] = json.loads(path.read_text())
    return artifact


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.dev.compile_contract")
    parser.add_argument("--check", action="store_true", help="compare only, write nothing")
    options = parser.parse_args(arguments)

    def progress(text: str) -> None:
        print(text, file=sys.stderr)

    try:
        text = json.dumps(compile_artifact(progress), indent=2) + "\n"
    except StackError as error:
        print(error, file=sys.stderr)
        return 1
    if not options.check:
        ARTIFACT_PATH.parent.mkdir(exist_ok=True)
        ARTIFACT_PATH.write_text(text)
        print(f"wrote {ARTIFACT_PATH}")
        return 0
    if not ARTIFACT_PATH.exists() or ARTIFACT_PATH.read_text() != text:
        print(f"{ARTIFACT_PATH} differs from a fresh compile: run without --check", file=sys.stderr)
        return 1
    print("the artifact is up to date")
    return 0


if __name__ == "__main__":
    sys.exit(main())
