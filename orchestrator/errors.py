"""Errors, classified once at the edge into closed sets. Policy never reads texts.

Each class says what a caller may do about it; the text says what a person may do.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum


class OrchestratorError(Exception):
    """Everything that this service raises on purpose. The text is fit to be shown: no secrets."""


class ConfigurationError(OrchestratorError):
    """The settings cannot work. All problems at once, each with its remedy."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("configuration: " + "; ".join(problems))


class OrderRefused(OrchestratorError):
    """An operator's order makes no sense as things stand. Nothing was appended."""


class StartRefused(OrchestratorError):
    """A dependency is there but not fit for use: a topic with other partitions, a key of the wrong
    kind, a node of another chain. Nothing was started."""


class SigningProblem(StrEnum):
    """Why KMS gave no signature."""

    THROTTLED = "THROTTLED"
    UNAVAILABLE = "UNAVAILABLE"
    DENIED = "DENIED"
    KEY_UNUSABLE = "KEY_UNUSABLE"
    BAD_SIGNATURE = "BAD_SIGNATURE"


class SigningError(OrchestratorError):
    def __init__(self, problem: SigningProblem, detail: str) -> None:
        self.problem = problem
        super().__init__(f"KMS {problem}: {detail}")


class GuardUnavailable(OrchestratorError):
    """The guard's record did not answer: nothing may be signed. Retry with backoff."""

    def __init__(self, detail: str) -> None:
        super().__init__(f"the signing guard does not answer: {detail}")


class ArchiveUnavailable(OrchestratorError):
    """A cache of folded states cannot be read or written. Nothing is lost: the log has it all."""


class RpcProblem(StrEnum):
    """What a node's answer means for us."""

    ALREADY_KNOWN = "ALREADY_KNOWN"
    """The node has these very bytes."""
    NONCE_TOO_LOW = "NONCE_TOO_LOW"
    """The nonce is spent: by this transaction or by another one. Ask for receipts."""
    NONCE_TOO_HIGH = "NONCE_TOO_HIGH"
    UNDERPRICED = "UNDERPRICED"
    REPLACEMENT_UNDERPRICED = "REPLACEMENT_UNDERPRICED"
    INSUFFICIENT_FUNDS = "INSUFFICIENT_FUNDS"
    GAS_TOO_LOW = "GAS_TOO_LOW"
    GAS_TOO_HIGH = "GAS_TOO_HIGH"
    REVERTED = "REVERTED"
    RANGE_TOO_LARGE = "RANGE_TOO_LARGE"
    """`eth_getLogs` wants a smaller range."""
    RATE_LIMITED = "RATE_LIMITED"
    UNAVAILABLE = "UNAVAILABLE"
    """Time-out, connection refused, a proxy's HTML page, a 5xx: nothing is known of the effect."""
    UNEXPECTED = "UNEXPECTED"


RETRYABLE = frozenset({RpcProblem.RATE_LIMITED, RpcProblem.UNAVAILABLE})


class RpcError(OrchestratorError):
    """`detail` is the node's text, or the revert reason, cut to a readable length."""

    def __init__(self, problem: RpcProblem, detail: str) -> None:
        self.problem = problem
        self.detail = detail
        super().__init__(f"{problem}: {detail}")


class Fenced(OrchestratorError):
    """Another process owns this lane or source now. Stop acting for it; nothing was appended."""


class LogUnavailable(OrchestratorError):
    """Kafka did not take or give records; retry with backoff."""


class AnchorUnavailable(OrchestratorError):
    """Where seals are kept did not answer, or cannot be read or written: nothing is known."""


class SealRefused(OrchestratorError):
    """What stands on the log or in an anchor does not go with what was sealed before. Nothing was
    sealed; `orchestrator verify --chain` names what differs."""
