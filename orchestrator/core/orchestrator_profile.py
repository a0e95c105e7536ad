"""The `orchestrator` contract profile (contracts/Stablecoin.sol): text ids, nonces in any order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

from orchestrator.core.abi import address_word, dynamic, text_hash, uint_word
from orchestrator.core.contract import (
    Approval,
    DecodedEvent,
    Profile,
    Turn,
    decoded,
    indexed_account,
    selector,
    topic,
    typed_fields,
)
from schemas.base import RequestType
from schemas.evm import EventName

_ARGUMENTS = ["string", "address", "uint256", "uint256", "uint256", "bytes"]
_CALLS = {
    RequestType.MINT: selector(f"mintWithApproval({','.join(_ARGUMENTS)})"),
    RequestType.REDEEM: selector(f"finalizeRedeem({','.join(_ARGUMENTS)})"),
}
_STRUCTS = {
    RequestType.MINT: ("MintApproval", "to"),
    RequestType.REDEEM: ("RedeemFinalize", "from"),
}
_TYPE_HASHES = {
    kind: text_hash(
        f"{primary}(string requestId,address {account},uint256 amount,uint256 nonce,"
        "uint256 deadline)"
    )
    for kind, (primary, account) in _STRUCTS.items()
}
_IS_PROCESSED = selector("isProcessed(string)")


def approval_nonce(request_key: str) -> int:
    """Unique per contract, derived from the request so that it needs no counter; the same for every
    attempt: two approvals of one request can then never both execute."""
    return int.from_bytes(text_hash(request_key), "big")


class OrchestratorProfile(Profile):
    name = "orchestrator"
    sequential = False
    event_topics: ClassVar[Mapping[str, EventName]] = {
        topic(f"{event}(string,address,uint256)"): event
        for event in (EventName.REDEEM_REQUESTED, EventName.MINTED, EventName.REDEEMED)
    }
    approved = frozenset(RequestType)

    @property
    def domain_name(self) -> str:
        return "Stablecoin"

    def contract_id(self, request_id: str) -> str:
        return request_id

    def derived_nonce(self, request_key: str) -> int:
        return approval_nonce(request_key)

    def struct(self, approval: Approval) -> tuple[str, list[dict[str, str]], dict[str, Any]]:
        primary, account_field = _STRUCTS[approval.type]
        fields = typed_fields(
            requestId="string",
            **{account_field: "address"},
            amount="uint256",
            nonce="uint256",
            deadline="uint256",
        )
        message = {
            "requestId": approval.request_id,
            account_field: approval.account,
            "amount": approval.amount,
            "nonce": approval.nonce,
            "deadline": approval.deadline,
        }
        return primary, fields, message

    def struct_words(self, approval: Approval) -> tuple[bytes, ...]:
        return (
            _TYPE_HASHES[approval.type],
            text_hash(approval.request_id),
            address_word(approval.account),
            uint_word(approval.amount),
            uint_word(approval.nonce),
            uint_word(approval.deadline),
        )

    def calldata(self, approval: Approval, signature: str) -> str:
        """`mintWithApproval` or `finalizeRedeem`."""
        request_id = dynamic(approval.request_id.encode("utf-8"))
        head = len(_ARGUMENTS) * 32
        arguments = (
            uint_word(head),
            address_word(approval.account),
            uint_word(approval.amount),
            uint_word(approval.nonce),
            uint_word(approval.deadline),
            uint_word(head + len(request_id)),
            request_id,
            dynamic(bytes.fromhex(signature[2:])),
        )
        return "0x" + (_CALLS[approval.type] + b"".join(arguments)).hex()

    def is_processed_calldata(self, request_id: str) -> str:
        return "0x" + (_IS_PROCESSED + uint_word(32) + dynamic(request_id.encode())).hex()

    def nonces_calldata(self, account: str) -> str:
        raise NotImplementedError("nonces of this contract have no order")

    def turn(self, data: str) -> Turn | None:
        return None

    def decode_event(self, topics: Sequence[str], data: str, place: str) -> DecodedEvent | None:
        event = self.event_topics.get(topics[0].lower()) if topics else None
        if event is None:
            return None
        account = indexed_account(event, topics)
        request_id, amount = decoded(event, ["string", "uint256"], data)
        return DecodedEvent(event, request_id, account, amount)


ORCHESTRATOR = OrchestratorProfile()
