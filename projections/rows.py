"""A folded request as a row, as JSON and back, and as the outside sees it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from urllib.parse import quote

import orjson

from orchestrator.core.keys import REDEEM_PREFIX
from orchestrator.core.lifecycle import RequestState, Stage
from projections.text import from_column, moment, optional_column, to_column, to_jsonb
from schemas.base import Fact, RequestType
from schemas.evm import EventName
from schemas.requests import (
    ApprovalDrafted,
    ApprovalExpired,
    ApprovalNonceGranted,
    ApprovalSigned,
    ApproveReported,
    CancelReported,
    ClearanceReported,
    EvidenceReported,
    HoldReported,
    InclusionReported,
    RefusalReported,
    RelayAssigned,
    RequestCompleted,
    RequestFailed,
    RequestReceived,
    RequestRejected,
    RequestRetracted,
    RetryReported,
    SubmissionReported,
)

_HELD: dict[str, type[Fact]] = {
    "received": RequestReceived,
    "granted": ApprovalNonceGranted,
    "drafted": ApprovalDrafted,
    "signed": ApprovalSigned,
    "assigned": RelayAssigned,
    "submission": SubmissionReported,
    "inclusion": InclusionReported,
    "refusal": RefusalReported,
    "expired": ApprovalExpired,
    "evidence": EvidenceReported,
    "cancelling": CancelReported,
    "clearance": ClearanceReported,
    "hold": HoldReported,
}
_ORDERS: dict[str, type[RetryReported | CancelReported | ApproveReported]] = {
    model.__name__: model for model in (RetryReported, CancelReported, ApproveReported)
}
_ENDINGS: dict[str, type[Fact]] = {
    model.__name__: model
    for model in (RequestRejected, RequestFailed, RequestCompleted, RequestRetracted)
}
_PLAIN = ("key", "created_at", "changed_at", "updated_at", "opened_seconds")

_IN_FLIGHT = frozenset({Stage.RELAYING, Stage.SUBMITTED, Stage.INCLUDED, Stage.EXPIRED})


def encode_state(state: RequestState) -> bytes:
    """JSON from which `decode_state` gives back an equal state."""
    body: dict[str, Any] = {name: getattr(state, name) for name in _PLAIN}
    body["stage"] = state.stage
    if state.lapses:
        body["lapses"] = state.lapses
    if state.renewing:
        body["renewing"] = True
    body["retracted_seats"] = state.retracted_seats
    for name in _HELD:
        fact = getattr(state, name)
        if fact is not None:
            body[name] = _fragment(fact)
    if state.orders:
        body["orders"] = [[order.kind, _fragment(order)] for order in state.orders]
    if state.ending is not None:
        body["ending"] = _fragment(state.ending)
        body["ending_kind"] = state.ending.kind
    return orjson.dumps(body)


def _fragment(fact: Fact) -> orjson.Fragment:
    return orjson.Fragment(fact.model_dump_json(exclude_none=True))


def decode_state(body: dict[str, Any]) -> RequestState:
    """Raises ValueError or KeyError for what `encode_state` has not written."""
    fields: dict[str, Any] = {name: body[name] for name in _PLAIN}
    for name, model in _HELD.items():
        if name in body:
            fields[name] = model.model_validate(body[name])
    fields["lapses"], fields["renewing"] = body.get("lapses", 0), body.get("renewing", False)
    fields["orders"] = tuple(
        _ORDERS[kind].model_validate(order) for kind, order in body.get("orders", ())
    )
    if "ending" in body:
        fields["ending"] = _ENDINGS[body["ending_kind"]].model_validate(body["ending"])
    return RequestState(
        stage=Stage(body["stage"]), retracted_seats=tuple(body["retracted_seats"]), **fields
    )


def row_of(state: RequestState) -> dict[str, Any]:
    """The row of `requests`, ready for its columns; `state` is JSON text.

    A request that the chain executed without a fact that allows it (UNBACKED) shows what its
    evidence says, so that a person finds it under its id, account and transaction.
    """
    received = state.received
    reason, message = outcome(state)
    return {
        "request_key": to_column(state.key),
        "request_id": to_column(received.request_id if received else _id_in(state.key)),
        "type": _type(state),
        "status": state.status,
        "stage": state.stage,
        "reason": reason,
        "error_message": optional_column(message),
        "user_address": optional_column(_user(state)),
        "amount": optional_column(_amount(state)),
        "chain_id": _chain_id(state),
        "tx_hash": tx_hash(state),
        "fiat_ref": optional_column(received.fiat_ref if received else None),
        "attempt": state.attempt,
        "created_at": moment(state.created_at),
        "updated_at": moment(state.updated_at),
        "changed_at": moment(state.changed_at),
        "state": to_jsonb(encode_state(state)),
    }


def tx_hash(state: RequestState) -> str | None:
    """The transaction that did it; else the one in a block; else the latest that was sent."""
    for fact in (state.evidence, state.inclusion, state.submission):
        if fact is not None:
            return fact.tx_hash
    return None


def outcome(state: RequestState) -> tuple[str | None, str | None]:
    """The reason code and, for what ended badly, a sentence for `errorMessage`.

    While the lane's refusal of the current attempt awaits its decision, the reason shows it.
    """
    match state.stage, state.ending:
        case Stage.UNBACKED, _:
            detail = "the contract executed this request, but no fact allows it"
            return "UNBACKED", f"UNBACKED: {detail}"
        case ((Stage.REJECTED | Stage.FAILED), (RequestRejected() | RequestFailed() as ending)):
            return ending.reason, f"{ending.reason}: {ending.detail}"
        case Stage.RETRACTED, _:
            detail = "a chain reorganisation took back the event that this request came from"
            return "RETRACTED", f"RETRACTED: {detail}"
    if state.stage is Stage.HELD and state.hold is not None:
        return state.hold.breaches[0].rule, None
    if state.stage in _IN_FLIGHT and state.refusal is not None:
        return state.refusal.reason, None
    return None, None


def _id_in(key: str) -> str:
    """The request id that a key carries: all of it, or what follows `redeem:<chain>:`."""
    if key.startswith(REDEEM_PREFIX):
        return key.removeprefix(REDEEM_PREFIX).partition(":")[2] or key
    return key


def _type(state: RequestState) -> RequestType:
    if state.received is not None:
        return state.received.type
    if state.evidence is not None:
        minted = state.evidence.event is EventName.MINTED
    else:
        minted = not state.key.startswith(REDEEM_PREFIX)
    return RequestType.MINT if minted else RequestType.REDEEM


def _user(state: RequestState) -> str | None:
    if state.received is not None:
        return state.received.user
    return state.evidence.account if state.evidence else None


def _amount(state: RequestState) -> str | None:
    if state.received is not None:
        return state.received.amount
    return str(state.evidence.amount) if state.evidence else None


def _chain_id(state: RequestState) -> int | None:
    if state.received is not None:
        return state.received.chain_id
    return state.evidence.chain_id if state.evidence else None


def rfc3339(value: datetime) -> str:
    """UTC with milliseconds, as on the log."""
    value = value.astimezone(UTC)
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


def supply_object(head: Mapping[str, Any]) -> dict[str, Any] | None:
    """What `chain_heads` holds of the newest comparison of a chain's supply."""
    if head["supply_at"] is None:
        return None
    return {
        "block": head["supply_block"],
        "totalSupply": head["supply_total"],
        "byEvents": head["supply_by_events"],
        "at": rfc3339(head["supply_at"]),
    }


def status_object(row: Mapping[str, Any]) -> dict[str, Any]:
    """The public object (camelCase) of a row of `requests`; `text` columns as they stand there."""

    def text(name: str) -> str | None:
        return None if row[name] is None else from_column(row[name])

    return {
        "requestId": text("request_id"),
        "requestKey": text("request_key"),
        "type": row["type"],
        "status": row["status"],
        "stage": row["stage"],
        "reason": row["reason"],
        "userAddress": text("user_address"),
        "amount": text("amount"),
        "chainId": row["chain_id"],
        "txHash": row["tx_hash"],
        "errorMessage": text("error_message"),
        "fiatRef": text("fiat_ref"),
        "attempt": row["attempt"],
        "createdAt": rfc3339(row["created_at"]),
        "updatedAt": rfc3339(row["updated_at"]),
        "links": links_of(row),
    }


def links_of(row: Mapping[str, Any]) -> dict[str, str]:
    """`lane` once a wallet was chosen."""
    key = quote(from_column(row["request_key"]), safe="")
    links = {
        "self": f"/status/{key}",
        "explain": f"/status/{key}/explain",
        "feed": f"/feed?requestKey={key}",
    }
    if row["wallet"] is not None and row["chain_id"] is not None:
        links["lane"] = f"/lanes/{row['chain_id']}/{row['wallet']}"
    return links


def timeline_object(row: Mapping[str, Any]) -> dict[str, Any]:
    """One fact of a request's timeline, with transaction and block where it names them."""
    block = row["block_number"]
    return {
        "kind": row["kind"],
        "at": rfc3339(row["at"]),
        "topic": row["topic"],
        "partition": row["partition"],
        "offset": row["offset"],
        "txHash": row["tx_hash"],
        "blockNumber": None if block is None else int(block),
        "blockHash": row["block_hash"],
        "verdict": row["verdict"],
    }
