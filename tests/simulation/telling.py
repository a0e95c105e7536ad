"""What a play tells: the facts of other topics that lead a request to a stage and over an arrow."""

from __future__ import annotations

from collections.abc import Callable

from orchestrator.core.lifecycle import RequestState, Stage
from schemas.base import Fact
from schemas.controls import CancelOrdered, RetryOrdered
from schemas.evm import ContractEvent, EventName, EventRetracted
from schemas.kuro import MintOk, Via
from schemas.lanes import (
    RelayRefusal,
    RelayRefused,
    TransactionBroadcast,
    TransactionIncluded,
    TransactionOrphaned,
    relay_name,
)
from schemas.policies import (
    ApproveOrdered,
    Breach,
    HoldLapsed,
    LapseReason,
    Policy,
    PolicyApplied,
    PolicyRule,
    RequestCleared,
    RequestHeld,
)
from schemas.sequences import NonceGranted
from schemas.topics import CONTROLS, EVM_EVENTS, LANES, Topic
from tests.simulation.building import CONTRACT, FIRST_CHAIN, wallet

HOLDER = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
REQUEST_ID = "redeem-7"
KEY = f"redeem:{FIRST_CHAIN}:{REQUEST_ID}"
MINT_KEY = "mint-7"
ORIGIN, ANOTHER_ORIGIN, DONE, ELSEWHERE = 101, 102, 103, 109


def word(number: int) -> str:
    return f"0x{number:064x}"


LANE_REPORTS = {
    "SubmissionReported",
    "InclusionReported",
    "OrphaningReported",
    "RefusalReported",
}


def _seat(number: int) -> dict[str, object]:
    return {
        "chain_id": FIRST_CHAIN,
        "block_number": number,
        "block_hash": word(number),
        "block_timestamp": 1_800_000_000 + number,
        "tx_hash": word(number),
        "log_index": 0,
    }


def _event(name: EventName, number: int, amount: int) -> ContractEvent:
    return ContractEvent(
        **_seat(number),
        contract=CONTRACT,
        event=name,
        request_id=REQUEST_ID,
        account=HOLDER,
        amount=amount,
    )


def asked(number: int) -> ContractEvent:
    return _event(EventName.REDEEM_REQUESTED, number, 1000)


def done(amount: int = 1000) -> ContractEvent:
    return _event(EventName.REDEEMED, DONE, amount)


def allowed() -> MintOk:
    """For the arrows that mints alone go over."""
    return MintOk(
        request_id=MINT_KEY,
        user=HOLDER,
        amount="1000",
        fiat_ref="wire-7",
        chain_id=FIRST_CHAIN,
        timestamp_ms=1_800_000_000_000,
        via=Via.SOCKET,
    )


OF_MINTS = {"DraftRecalled"}
"""Kinds of which redeems know nothing."""


def gone(number: int) -> EventRetracted:
    name = EventName.REDEEMED if number == DONE else EventName.REDEEM_REQUESTED
    return EventRetracted(**_seat(number), event=name, request_id=REQUEST_ID, reason="deep")


def _lane(nonce: int = 1) -> dict[str, object]:
    return {"chain_id": FIRST_CHAIN, "wallet": wallet(FIRST_CHAIN, 0).address, "nonce": nonce}


RELAY = relay_name(KEY, 1, 1)


def broadcast(number: int) -> TransactionBroadcast:
    return TransactionBroadcast(**_lane(), relay=RELAY, tx_hash=word(number))


def included(number: int) -> TransactionIncluded:
    return TransactionIncluded(
        **_lane(),
        relay=RELAY,
        tx_hash=word(number),
        block_number=number,
        block_hash=word(number),
        succeeded=True,
        gas_used=90_000,
    )


def orphaned(number: int) -> TransactionOrphaned:
    return TransactionOrphaned(
        **_lane(), relay=RELAY, tx_hash=word(number), block_hash=word(number)
    )


def refused(reason: RelayRefusal, assignment: int = 1) -> RelayRefused:
    return RelayRefused(
        chain_id=FIRST_CHAIN,
        wallet=wallet(FIRST_CHAIN, 0).address,
        relay=relay_name(KEY, 1, assignment),
        reason=reason,
        detail="told by the play",
        block_number=9,
        block_timestamp=1_900_000_000,
    )


def granted(attempt: int) -> NonceGranted:
    return NonceGranted(
        chain_id=FIRST_CHAIN,
        recipient=HOLDER,
        request_key=KEY,
        attempt=attempt,
        contract_id=word(7),
        nonce=0,
        deadline=1_900_000_000,
    )


def held(ticket: str) -> RequestHeld:
    breach = Breach(rule=PolicyRule.REQUEST_AMOUNT, limit="999", value="1000")
    return RequestHeld(
        request_key=KEY,
        ticket=ticket,
        version=word(1),
        judged_at=1_800_000_000,
        breaches=(breach,),
        approvals_needed=2,
    )


def cleared(ticket: str) -> RequestCleared:
    return RequestCleared(
        request_key=KEY,
        ticket=ticket,
        chain_id=FIRST_CHAIN,
        account=HOLDER,
        amount=1000,
        fiat_ref="",
        version=word(1),
        judged_at=1_800_000_000,
    )


def lapsed(ticket: str) -> HoldLapsed:
    reason = LapseReason.POLICY_CHANGED
    return HoldLapsed(request_key=KEY, ticket=ticket, reason=reason, judged_at=1_800_000_000)


def approved(ticket: str) -> ApproveOrdered:
    return ApproveOrdered(order="a-1", request_key=KEY, ticket=ticket, **BY)


BY = {"who": "a person", "why": "looked"}
POLICY = Policy(max_amount=999)

_RECEIVED = [(EVM_EVENTS, asked(ORIGIN), Stage.RECEIVED)]
_RELAYING = [(EVM_EVENTS, asked(ORIGIN), Stage.RELAYING)]
_SUBMITTED = [*_RELAYING, (LANES, broadcast(1), Stage.SUBMITTED)]
_INCLUDED = [*_SUBMITTED, (LANES, included(1), Stage.INCLUDED)]
WAYS: dict[Stage, list[tuple[Topic, Fact, Stage]]] = {
    Stage.UNBACKED: [(EVM_EVENTS, done(), Stage.UNBACKED)],
    Stage.RECEIVED: _RECEIVED,
    Stage.HELD: [*_RECEIVED, (LANES, held("1.0.0"), Stage.HELD)],
    Stage.DRAFTED: [(EVM_EVENTS, asked(ORIGIN), Stage.DRAFTED)],
    Stage.SIGNED: [(EVM_EVENTS, asked(ORIGIN), Stage.SIGNED)],
    Stage.RELAYING: _RELAYING,
    Stage.SUBMITTED: _SUBMITTED,
    Stage.INCLUDED: _INCLUDED,
    Stage.EXPIRED: [*_RELAYING, (LANES, refused(RelayRefusal.EXPIRED), Stage.EXPIRED)],
    Stage.COMPLETED: [*_INCLUDED, (EVM_EVENTS, done(), Stage.COMPLETED)],
    Stage.REJECTED: [(EVM_EVENTS, asked(ORIGIN), Stage.REJECTED)],
    Stage.FAILED: [*_RELAYING, (LANES, refused(RelayRefusal.REVERTED), Stage.FAILED)],
    Stage.RETRACTED: [*_SUBMITTED, (EVM_EVENTS, gone(ORIGIN), Stage.RETRACTED)],
}
"""What is told, one after the other, and where each leads."""

CAUSES: dict[str, tuple[Topic, Fact]] = {
    "RequestReceived": (EVM_EVENTS, asked(ANOTHER_ORIGIN)),
    "ApprovalNonceGranted": (LANES, granted(1)),
    "EvidenceReported": (EVM_EVENTS, done()),
    "RetractionReported": (EVM_EVENTS, gone(ORIGIN)),
    "SubmissionReported": (LANES, broadcast(2)),
    "InclusionReported": (LANES, included(2)),
    "OrphaningReported": (LANES, orphaned(1)),
    "RefusalReported": (LANES, refused(RelayRefusal.REVERTED)),
    "RetryReported": (CONTROLS, RetryOrdered(order="r-1", request_key=KEY, **BY)),
    "CancelReported": (CONTROLS, CancelOrdered(order="c-1", request_key=KEY, **BY)),
    "ApproveReported": (CONTROLS, approved("1.0.0")),
    "ClearanceReported": (LANES, cleared("1.0.0")),
    "HoldReported": (LANES, held("1.0.0")),
    "HoldLapseReported": (LANES, lapsed("1.0.0")),
    "DraftRecalled": (
        CONTROLS,
        PolicyApplied(order="p-1", version=POLICY.version, policy=POLICY, **BY),
    ),
}
"""Facts that are reported rather than decided: what is told to have each. The others are decided,
and come when the play releases the decider or KMS; a recall is decided when a policy came."""

TICKETED: dict[str, Callable[[str], Fact]] = {
    "ClearanceReported": cleared,
    "HoldReported": held,
    "HoldLapseReported": lapsed,
}
"""Answers about the draft that comes next, whichever that is by then."""

PRELUDES: dict[str, tuple[Topic, Fact, Callable[[RequestState], bool]]] = {
    "RequestReceived": (EVM_EVENTS, gone(ORIGIN), lambda state: state.origin_retracted),
    "RequestRetracted": (EVM_EVENTS, gone(ORIGIN), lambda state: state.origin_retracted),
    "RequestCompleted": (EVM_EVENTS, done(), lambda state: state.evidence is not None),
    "RequestFailed": (EVM_EVENTS, done(amount=999), lambda state: state.evidence is not None),
    "RelayAssigned": (
        LANES,
        refused(RelayRefusal.WALLET_UNFIT),
        lambda state: state.stage is Stage.SIGNED or state.refusal is not None,
    ),
    "ApprovalExpired": (
        LANES,
        refused(RelayRefusal.EXPIRED),
        lambda state: state.refusal is not None,
    ),
    "HoldReported": (EVM_EVENTS, gone(ELSEWHERE), lambda state: state.retracted_seats != ()),
    "RetryReported": (
        LANES,
        refused(RelayRefusal.ALREADY_PROCESSED),
        lambda state: state.refusal is not None,
    ),
}
"""What a decision rests on: told while the decider is held back, until the log shows it."""


_AFTER_AN_ORIGIN = set(Stage) - {Stage.UNBACKED, Stage.RETRACTED}
NEEDED_AT: dict[str, set[Stage]] = {
    "RequestReceived": _AFTER_AN_ORIGIN,
    "HoldReported": {Stage.HELD},
    "RetryReported": {Stage.RELAYING, Stage.SUBMITTED, Stage.INCLUDED},
}
"""Where a prelude is needed, when not everywhere: elsewhere a first origin, or an order, does."""
