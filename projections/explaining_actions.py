"""The commands that help, by name: how each is spelt for a request, and what it does."""

from __future__ import annotations

import shlex
from collections.abc import Mapping


class Facts(dict[str, object]):
    def __missing__(self, key: str) -> str:
        return "?"


COMMANDS: Mapping[str, tuple[str, str]] = {
    "retry": (
        "orchestrator retry --request {key} --why WHY",
        "Try it again, once its reason is gone.",
    ),
    "approve": (
        "orchestrator approve --request {key} --why WHY",
        "Let it go as it is held; each operator counts once, by --who.",
    ),
    "policy": ("orchestrator policy show", "What the policy in force says."),
    "cancel": (
        "orchestrator cancel --request {key} --why WHY",
        "Give it up, as far as that is still possible; what is signed may still be executed by "
        "whoever holds it, until its deadline.",
    ),
    "pause": (
        "orchestrator pause --request {key} --why WHY",
        "Hold it: nothing new is done for it.",
    ),
    "resume": ("orchestrator resume {scope_option} --why WHY", "End the pause."),
    "pause-all": (
        "orchestrator pause --all --why WHY",
        "Stop everything until it is understood.",
    ),
    "release-lane": (
        "orchestrator release --wallet {chain}:{wallet} --why WHY",
        "Let the lane go on from what its chain shows, once a person understood the difference.",
    ),
    "release-chain": (
        "orchestrator release --chain {chain} --why WHY",
        "Let the follower go on after the fork, once a person understood the reorganisation.",
    ),
    "doctor": ("orchestrator doctor", "Check every dependency, and what is wrong with which."),
}


def scope_option(scope: str) -> str:
    """`--all`, or `--chain`, `--wallet`, `--request` with what the scope names."""
    kind, _, name = scope.partition(":")
    return f"--{kind} {shlex.quote(name)}" if name else "--all"
