"""A mint certificate, verified with nothing but itself and what the verifier knows from elsewhere.

Everything is recomputed and nothing believed that a certificate says: docs/certificates.md lists
the checks in this order and what they do not prove. One check that does not hold makes it void.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from eth_keys.exceptions import BadSignature
from eth_keys.main import KeyAPI
from eth_utils.exceptions import ValidationError

from orchestrator.core.certificates_block import (
    Header,
    raw_of,
    read_header,
    read_receipt,
    read_transaction,
)
from orchestrator.core.certificates_rlp import Malformed
from orchestrator.core.certificates_trie import index_key, proved
from orchestrator.core.contract import Approval, Profile
from orchestrator.core.hashing import checksummed, keccak
from orchestrator.core.profiles import profile_of
from orchestrator.core.signatures import CURVE_ORDER
from schemas.base import Position, RequestType, UnreadableRecord, encode_value
from schemas.certificates import MintCertificate
from schemas.evm import EventName
from schemas.kuro import MintOk
from schemas.topics import KURO_EVENTS

_keys = KeyAPI()


class CheckName(StrEnum):
    """Every check, in the order in which they are made."""

    KURO_FACT = "kuro-fact"
    APPROVAL = "approval"
    DIGEST = "digest"
    SIGNATURE = "signature"
    TRANSACTION = "transaction"
    CALLDATA = "calldata"
    HEADER = "header"
    TRANSACTION_PROOF = "transaction-proof"
    RECEIPT_PROOF = "receipt-proof"
    EVENT = "event"
    TRUSTED_BLOCK = "trusted-block"
    TRUSTED_CONTRACT = "trusted-contract"
    TRUSTED_SIGNER = "trusted-signer"


@dataclass(frozen=True, slots=True)
class Check:
    name: CheckName
    holds: bool
    detail: str


class _Void(Exception):
    """A check does not hold."""


def verify(
    certificate: MintCertificate,
    *,
    trusted_hash: str | None = None,
    contract: str | None = None,
    signer: str | None = None,
) -> list[Check]:
    """Every check, also after one that fails. `trusted_hash`, `contract` and `signer` are what the
    verifier knows from elsewhere; what is not given is not judged, and missing in the answer."""
    trial = _Trial(certificate)
    checks: list[tuple[CheckName, Callable[[], str]]] = [
        (CheckName.KURO_FACT, trial.kuro_fact),
        (CheckName.APPROVAL, trial.approval_fits),
        (CheckName.DIGEST, trial.digest),
        (CheckName.SIGNATURE, trial.signature),
        (CheckName.TRANSACTION, trial.transaction),
        (CheckName.CALLDATA, trial.calldata),
        (CheckName.HEADER, trial.header_hashes),
        (CheckName.TRANSACTION_PROOF, trial.transaction_proof),
        (CheckName.RECEIPT_PROOF, trial.receipt_proof),
        (CheckName.EVENT, trial.event),
    ]
    known = (
        (CheckName.TRUSTED_BLOCK, trusted_hash, certificate.block.hash, "block"),
        (CheckName.TRUSTED_CONTRACT, contract, trial.contract_shown, "contract"),
        (CheckName.TRUSTED_SIGNER, signer, certificate.approval.signer, "signer"),
    )
    found = [_checked(name, check) for name, check in checks]
    for name, wanted, shown, what in known:
        if wanted is not None:
            same = wanted.lower() == shown.lower()
            text = f"the {what} is {shown}" + ("" if same else f", not the trusted {wanted}")
            found.append(Check(name, same, text))
    return found


def _checked(name: CheckName, check: Callable[[], str]) -> Check:
    try:
        return Check(name, True, check())
    except (_Void, Malformed, UnreadableRecord) as error:
        return Check(name, False, str(error))
    except (ValueError, TypeError, KeyError, IndexError, OverflowError, AttributeError) as error:
        return Check(name, False, f"misshapen ({type(error).__name__}: {error})"[:300])


def _demand(holds: bool, otherwise: str) -> None:
    if not holds:
        raise _Void(otherwise)


class _Trial:
    """The checks of one certificate. Each recomputes what it needs."""

    def __init__(self, certificate: MintCertificate) -> None:
        self.it = certificate

    @property
    def contract_shown(self) -> str:
        domain = self.it.approval.typed_data.get("domain")
        return str(domain.get("verifyingContract")) if isinstance(domain, dict) else "missing"

    def _fact(self) -> MintOk:
        kuro = self.it.kuro
        topic, partition, offset = kuro.position.rsplit("/", 2)
        line = _canonical(kuro.value)
        record = KURO_EVENTS.decode(line, Position(topic, int(partition), int(offset)))
        assert isinstance(record.fact, MintOk)
        _demand(encode_value(record) == line, "the fact is not written as the log writes it")
        return record.fact

    def kuro_fact(self) -> str:
        fact, kuro = self._fact(), self.it.kuro
        _demand(
            seal(kuro.position, _canonical(kuro.value)) == kuro.sha256,
            "position and value do not give the sha256",
        )
        _demand(fact.key == self.it.request_key, "the fact is of another request")
        _demand(fact.chain_id == self.it.block.chain_id, "the fact is for another chain")
        return f"{kuro.position} allows {fact.amount} base units for {fact.user}"

    def _profile(self) -> Profile:
        return profile_of(
            self.it.approval.profile, str(self.it.approval.typed_data["domain"]["name"])
        )

    def _approval(self) -> Approval:
        """What the message says, with the id from Kuro's fact."""
        typed = self.it.approval.typed_data
        message = typed["message"]
        deadline = message["deadline" if "deadline" in message else "expiry"]
        return Approval(
            RequestType.MINT,
            _whole(typed["domain"]["chainId"]),
            typed["domain"]["verifyingContract"],
            self._fact().request_id,
            message["to"],
            _whole(message["amount"]),
            _whole(message["nonce"]),
            _whole(deadline),
        )

    def approval_fits(self) -> str:
        approval, fact = self._approval(), self._fact()
        expected = plain(self._profile().typed_data(approval))
        _demand(
            self.it.approval.typed_data == expected,
            "the typed data is not the profile's approval of this request",
        )
        _demand(approval.amount == int(fact.amount), "it approves another amount than Kuro allowed")
        _demand(
            approval.account == checksummed(fact.user),
            "it approves another recipient than Kuro allowed",
        )
        _demand(checksummed(approval.contract) == approval.contract, "the contract is no address")
        _demand(
            approval.chain_id == fact.chain_id == self.it.block.chain_id,
            "approval, fact and block are of different chains",
        )
        return f"{approval.amount} base units to {approval.account} by {approval.contract}"

    def digest(self) -> str:
        found = self._profile().digest(self._approval())
        _demand(found == self.it.approval.digest, f"the approval gives the digest {found}")
        return found

    def signature(self) -> str:
        part = self.it.approval
        raw = raw_of(part.signature)
        r, s, v = int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"), raw[64]
        _demand(v in (27, 28), f"v is {v}, not 27 or 28")
        _demand(0 < s <= CURVE_ORDER // 2, "s lies in the upper half of the curve's order")
        try:
            found = _keys.Signature(vrs=(v - 27, r, s)).recover_public_key_from_msg_hash(
                raw_of(part.digest)
            )
        except (BadSignature, ValidationError) as error:
            raise _Void(f"no key made this signature: {error}") from None
        address = found.to_checksum_address()
        _demand(address == part.signer, f"the signature is by {address}, not by {part.signer}")
        return f"by {address}"

    def transaction(self) -> str:
        part = self.it.transaction
        found = _hex(keccak(raw_of(part.raw)))
        _demand(found == part.hash, f"the raw transaction hashes to {found}")
        sent = read_transaction(raw_of(part.raw))
        _demand(
            sent.chain_id in (None, self.it.block.chain_id),
            f"it is signed for chain {sent.chain_id}",
        )
        return found

    def calldata(self) -> str:
        approval = self._approval()
        sent = read_transaction(raw_of(self.it.transaction.raw))
        _demand(
            checksummed(_hex(sent.to)) == approval.contract,
            "the transaction calls another contract",
        )
        _demand(
            self._profile().calldata(approval, self.it.approval.signature) == _hex(sent.data),
            "the calldata does not carry exactly this approval and this signature",
        )
        return "carries the approval and the signature"

    def _header(self) -> Header:
        return read_header(raw_of(self.it.block.header))

    def header_hashes(self) -> str:
        block, header = self.it.block, self._header()
        found = _hex(keccak(raw_of(block.header)))
        _demand(found == block.hash, f"the header hashes to {found}")
        _demand(header.number == block.number, f"the header is of block {header.number}")
        return f"block {block.number} is {found}"

    def transaction_proof(self) -> str:
        part = self.it.transaction
        self._proves(self._header().transactions_root, part.proof, part.raw)
        return f"transaction {part.index} of the block"

    def receipt_proof(self) -> str:
        part = self.it.receipt
        self._proves(self._header().receipts_root, part.proof, part.raw)
        return f"receipt {self.it.transaction.index} of the block"

    def _proves(self, root: bytes, proof: Sequence[str], raw: str) -> None:
        key = index_key(self.it.transaction.index)
        value = proved(root, key, [raw_of(node) for node in proof])
        _demand(_hex(value) == raw, "the trie holds something else at this index")

    def event(self) -> str:
        approval, profile = self._approval(), self._profile()
        succeeded, logs = read_receipt(raw_of(self.it.receipt.raw))
        _demand(succeeded, "the transaction failed")
        _demand(self.it.receipt.log < len(logs), f"the receipt has {len(logs)} logs")
        log = logs[self.it.receipt.log]
        _demand(
            checksummed(_hex(log.address)) == approval.contract, "the log is of another contract"
        )
        told = profile.decode_event(log.topics, log.data, "")
        _demand(told is not None and told.event is EventName.MINTED, "the log is no mint's event")
        assert told is not None
        _demand(
            told.request_id == profile.contract_id(approval.request_id),
            "the event is of another request",
        )
        _demand(told.amount == approval.amount, f"the event says {told.amount} base units")
        _demand(told.account == approval.account, f"the event says recipient {told.account}")
        _demand(
            told.approval_nonce in (None, approval.nonce),
            f"the event says nonce {told.approval_nonce}",
        )
        return f"{told.amount} base units minted to {told.account}"


def _canonical(value: Mapping[str, Any]) -> bytes:
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return text.encode("utf-8")


def _whole(text: object) -> int:
    _demand(
        isinstance(text, str) and text.isascii() and text.isdigit() and len(text) <= 78,
        "a number is not a decimal string",
    )
    return int(str(text))


def seal(position: str, line: bytes) -> str:
    """What holds a fact and its position together; see `KuroPart.sha256`."""
    return "0x" + hashlib.sha256(position.encode() + b"\n" + line).hexdigest()


def plain(value: Any) -> Any:
    """Typed data as JSON: numbers as decimal strings, bytes as 0x hex."""
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, bytes):
        return _hex(value)
    return str(value)


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()
