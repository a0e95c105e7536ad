"""Shell completion, as README tells to install it, in a real bash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("orchestrator")


def environment(home: Path) -> dict[str, str]:
    path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
    return {"PATH": path, "HOME": str(home), "SHELL": "/bin/bash", "LANG": "C.UTF-8"}


def completed(home: Path, words: str) -> set[str]:
    asked = {"_ORCHESTRATOR_COMPLETE": "complete_bash", "COMP_WORDS": words}
    asked["COMP_CWORD"] = str(words.count(" "))
    done = subprocess.run(
        [PROGRAM], env=environment(home) | asked, capture_output=True, text=True, check=True
    )
    return set(done.stdout.split())


def test_commands_and_options_are_completed(tmp_path):
    assert completed(tmp_path, "orchestrator do") == {"doctor"}
    assert {"list", "show", "replay"} <= completed(tmp_path, "orchestrator dead-letters ")
    assert "--chain" in completed(tmp_path, "orchestrator pause --ch")


def test_what_is_installed_is_known_to_a_new_shell(tmp_path):
    command = ["bash", "-c", "orchestrator --install-completion bash; exit $?"]
    subprocess.run(command, env=environment(tmp_path), capture_output=True, check=True)
    script = "source ~/.bashrc && complete -p orchestrator"
    done = subprocess.run(
        ["bash", "--norc", "-c", script],
        env=environment(tmp_path),
        capture_output=True,
        text=True,
        check=True,
    )
    assert "_orchestrator_completion" in done.stdout
