"""A working model of contracts/KycRegistry.sol, and of registries that break."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from random import Random

from orchestrator.errors import RpcError, RpcProblem

REGISTRY = "0x9fE46736679d2D9a65F0992F2272dE9f3c7fa6e0"
YES, NO = "0x" + "0" * 63 + "1", "0x" + "0" * 64


class Broken(StrEnum):
    GONE = "0x"
    """No code there."""
    GARBAGE = "0x" + "f" * 64
    REVERTS = "reverts"


@dataclass
class SimulatedRegistry:
    """All are verified but `unverified`. `reverted`: it did so at some time."""

    unverified: set[str] = field(default_factory=set)
    broken: Broken | None = None
    reverted: bool = False

    def answer(self, data: str) -> str:
        if self.broken is Broken.REVERTS:
            self.reverted = True
            raise RpcError(RpcProblem.REVERTED, "the registry is paused")
        if self.broken is not None:
            return self.broken.value
        return NO if "0x" + data[-40:].lower() in self.unverified else YES

    def breaks(self, rng: Random) -> None:
        self.broken = rng.choice(list(Broken))
