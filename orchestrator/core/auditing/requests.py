"""The topic `requests`: drafts, signatures, origins and completions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eth_keys.exceptions import BadSignature
from eth_keys.main import KeyAPI
from eth_utils.exceptions import ValidationError

from orchestrator.core.auditing.books import (
    Claim,
    account_bytes,
    amount_bytes,
    digest,
    pack_position,
    show_position,
)
from orchestrator.core.auditing.clearances import Clearances
from orchestrator.core.auditing.findings import Findings, Kind
from orchestrator.core.auditing.profile import Ways, approval
from orchestrator.core.policy import address_or_none, amount_or_none
from schemas.base import Record, RequestType
from schemas.requests import (
    ApprovalDrafted,
    ApprovalSigned,
    ClearanceReported,
    DraftRecalled,
    RequestCompleted,
    RequestReceived,
)

_keys = KeyAPI()


@dataclass(slots=True)
class Completion:
    """The event that a request says it was completed by."""

    seat: str
    position: int


@dataclass(slots=True)
class RequestBook:
    """`received` by request key, with what else was received under the key, and how it named its
    origin; `completed` by request key. Drafts are forgotten with their partition: a key stays on
    one, so a signature's draft is on it."""

    ways: Mapping[int, Ways]
    signers: frozenset[str]
    findings: Findings
    received: dict[str, bytes] = field(default_factory=dict)
    more: dict[str, list[bytes]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    completed: dict[str, list[Completion]] = field(default_factory=dict)
    signatures: int = 0
    unjudged_drafts: int = 0
    clearances: Clearances = field(default_factory=Clearances)
    seen_signers: dict[str, int] = field(default_factory=dict)
    _latest: dict[str, RequestReceived] = field(default_factory=dict)
    _drafts: dict[str, str] = field(default_factory=dict)

    def turn_page(self) -> None:
        """The next partition begins."""
        self._latest.clear()
        self._drafts.clear()
        self.clearances.turn_page()

    def feed(self, record: Record) -> None:
        fact = record.fact
        match fact:
            case RequestReceived():
                self._receive(fact, record)
            case ClearanceReported():
                self.clearances.clear(fact)
            case ApprovalDrafted():
                self._draft(fact, record)
                self.clearances.draft(fact)
            case DraftRecalled():
                self.clearances.recall(fact)
            case ApprovalSigned():
                self._sign(fact, record)
                self._judge_clearance(fact, record)
            case RequestCompleted():
                told = self.completed.setdefault(fact.request_key, [])
                if all(item.seat != fact.seat for item in told):
                    told.append(Completion(fact.seat, pack_position(record.position)))

    def _receive(self, fact: RequestReceived, record: Record) -> None:
        claim = Claim(
            pack_position(record.position),
            fact.chain_id,
            account_bytes(fact.user),
            int.from_bytes(amount_bytes(fact.amount), "big"),
            digest(fact.fiat_ref or ""),
        )
        known = self.received.get(fact.request_key)
        if known is None:
            self.received[fact.request_key] = claim.pack()
        elif not Claim.unpack(known).same(claim):
            self.more.setdefault(fact.request_key, []).append(claim.pack())
        if fact.origin_event is not None:
            self.origins[fact.request_key] = fact.origin_event
        self._latest.setdefault(fact.request_key, fact)

    def _draft(self, fact: ApprovalDrafted, record: Record) -> None:
        self._drafts.setdefault(f"{fact.request_key}:{fact.attempt}", fact.digest)
        request = self._latest.get(fact.request_key)
        if request is None:
            self.findings.add(
                Kind.REQUEST_WITHOUT_ORIGIN,
                None,
                fact.request_key,
                "an approval was drafted for a request that was never received",
                str(record.position),
            )
            return
        ways = self.ways.get(request.chain_id)
        account, amount = address_or_none(request.user), amount_or_none(request.amount)
        if ways is None:
            self.unjudged_drafts += 1
            return
        due = None
        if account is not None and amount is not None and amount < 2**256:
            due = ways.digest(
                approval(
                    request.type,
                    request.chain_id,
                    fact.contract,
                    request.request_id,
                    account,
                    amount,
                    fact.approval_nonce,
                    fact.deadline,
                )
            )
        if due != fact.digest:
            self.findings.add(
                Kind.DRAFT_DIFFERS,
                request.chain_id,
                fact.request_key,
                f"the drafted digest {fact.digest} is not that of {request.amount} to "
                f"{request.user}, which is {due}",
                str(record.position),
            )

    def _judge_clearance(self, fact: ApprovalSigned, record: Record) -> None:
        request = self._latest.get(fact.request_key)
        if request is None or request.type is not RequestType.MINT:
            return
        missing = self.clearances.missing(fact, record)
        if missing is not None:
            self.findings.add(
                Kind.SIGNATURE_UNCLEARED,
                request.chain_id,
                fact.request_key,
                missing,
                str(record.position),
            )

    def _sign(self, fact: ApprovalSigned, record: Record) -> None:
        self.signatures += 1
        request = self._latest.get(fact.request_key)
        chain_id = request.chain_id if request else None
        subject, position = f"{fact.request_key}:{fact.attempt}", str(record.position)
        drafted = self._drafts.get(subject)
        if drafted != fact.digest:
            told = "no draft" if drafted is None else f"only a draft of {drafted}"
            self.findings.add(
                Kind.SIGNATURE_WITHOUT_DRAFT,
                chain_id,
                subject,
                f"digest {fact.digest} was signed, and {told} stands before it",
                position,
            )
        if _recovered(fact.digest, fact.signature) != fact.signer:
            self.findings.add(
                Kind.SIGNATURE_UNSOUND,
                chain_id,
                subject,
                f"the signature does not recover to {fact.signer}",
                position,
            )
        elif self.signers and fact.signer not in self.signers:
            named = ", ".join(sorted(self.signers))
            self.findings.add(
                Kind.SIGNER_UNKNOWN,
                chain_id,
                subject,
                f"signed by {fact.signer}, and the key is {named}",
                position,
            )
        self.seen_signers[fact.signer] = self.seen_signers.get(fact.signer, 0) + 1

    def claim(self, request_key: str) -> Claim | None:
        packed = self.received.get(request_key)
        return None if packed is None else Claim.unpack(packed)

    def position_of(self, request_key: str) -> str:
        claim = self.claim(request_key)
        return "nowhere" if claim is None else show_position(claim.position)


def _recovered(digest_: str, signature: str) -> str | None:
    raw = bytes.fromhex(signature[2:])
    vrs = (raw[64] - 27, int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"))
    try:
        key = _keys.Signature(vrs=vrs).recover_public_key_from_msg_hash(bytes.fromhex(digest_[2:]))
    except (BadSignature, ValidationError, ValueError):
        return None
    return str(key.to_checksum_address())
