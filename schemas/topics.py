"""The topics: names, partition counts, and which kinds stand on which.

Partition counts are fixed here, once and for ever: a key's partition decides who owns it, so
growing a topic would move keys away from their history.
"""

from __future__ import annotations

from dataclasses import dataclass

from schemas import controls, dead_letters, evm, kuro, lanes, policies, requests, sequences
from schemas.base import Fact, Position, Record, decode_value


@dataclass(frozen=True)
class Topic:
    name: str
    partitions: int
    kinds: dict[str, type[Fact]]

    def decode(
        self, value: bytes | None, position: Position | None = None, trace: str | None = None
    ) -> Record:
        """Raises `UnreadableRecord`."""
        return decode_value(value, self.kinds, position, trace)


def _kinds(*models: type[Fact]) -> dict[str, type[Fact]]:
    return {model.__name__: model for model in models}


KURO_EVENTS = Topic("kuro.events", 12, _kinds(kuro.MintOk))
EVM_EVENTS = Topic(
    "evm.events",
    12,
    _kinds(
        evm.ContractEvent,
        evm.EventRetracted,
        evm.BlocksFollowed,
        evm.ChainHalted,
        evm.ChainResumed,
        evm.SupplyCompared,
        evm.SupplyTraced,
    ),
)
REQUESTS = Topic(
    "requests",
    12,
    _kinds(
        requests.RequestReceived,
        requests.RequestRejected,
        requests.ApprovalNonceGranted,
        requests.ApprovalDrafted,
        requests.ApprovalSigned,
        requests.RelayAssigned,
        requests.SubmissionReported,
        requests.InclusionReported,
        requests.OrphaningReported,
        requests.RefusalReported,
        requests.EvidenceReported,
        requests.RetractionReported,
        requests.ApprovalExpired,
        requests.DraftRecalled,
        requests.RetryReported,
        requests.CancelReported,
        requests.ApproveReported,
        requests.ClearanceReported,
        requests.HoldReported,
        requests.HoldLapseReported,
        requests.RequestCompleted,
        requests.RequestFailed,
        requests.RequestRetracted,
    ),
)
LANES = Topic(
    "lanes",
    12,
    _kinds(
        lanes.RelayRequested,
        lanes.LaneOpened,
        lanes.TransactionPrepared,
        lanes.TransactionBroadcast,
        lanes.TransactionIncluded,
        lanes.TransactionOrphaned,
        lanes.TransactionFinal,
        lanes.RelayRefused,
        lanes.TransactionResent,
        lanes.RelayResumed,
        lanes.WalletSetAside,
        lanes.WalletRestored,
        lanes.NonceTaken,
        lanes.LaneHalted,
        lanes.LaneResumed,
        lanes.LaneReconciled,
        lanes.CancellationRequested,
        sequences.NonceRequested,
        sequences.NoncesCounted,
        sequences.NonceGranted,
        sequences.NonceFreed,
        sequences.MintSeen,
        sequences.MintRetracted,
        sequences.MintAttributed,
        sequences.MintUnattributed,
        sequences.AttributionRetracted,
        sequences.NameRefused,
        policies.PolicyAdopted,
        policies.ClearanceRequested,
        policies.ReleaseRequested,
        policies.AccountVerified,
        policies.RequestCleared,
        policies.RequestHeld,
        policies.HoldLapsed,
    ),
)
CONTROLS = Topic(
    "controls",
    1,
    _kinds(
        controls.WorkPaused,
        controls.WorkResumed,
        controls.RetryOrdered,
        controls.CancelOrdered,
        policies.PolicyApplied,
        policies.ApproveOrdered,
    ),
)
DEAD_LETTERS = Topic(
    "dead-letters", 1, _kinds(dead_letters.DeadLetter, dead_letters.DeadLetterReplayed)
)

TOPICS: dict[str, Topic] = {
    topic.name: topic
    for topic in (KURO_EVENTS, EVM_EVENTS, REQUESTS, LANES, CONTROLS, DEAD_LETTERS)
}
