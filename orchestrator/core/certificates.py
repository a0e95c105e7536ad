"""A mint certificate, built from facts and a block as a node tells it.

A builder that was given lies gives nothing: what it makes is verified before it is handed out.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from orchestrator.core.certificates_block import (
    Json,
    header_bytes,
    read_header,
    read_transaction,
    receipt_bytes,
    transaction_bytes,
)
from orchestrator.core.certificates_checks import plain, seal, verify
from orchestrator.core.certificates_trie import index_key, proof_of, root_of
from orchestrator.core.contract import Approval, Profile
from orchestrator.core.hashing import checksummed, keccak
from orchestrator.core.lifecycle import RequestState, Status, Verdict, evolve
from schemas.base import Fact, Record, RequestType, encode_value
from schemas.certificates import CERTIFICATE_FORMAT, CERTIFICATE_VERSION, MintCertificate
from schemas.kuro import MintOk
from schemas.requests import ApprovalDrafted, ApprovalSigned, RequestCompleted


class CannotCertify(ValueError):
    """There is no certificate for this request, or not from these parts; says why."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Which facts a certificate is made of. `attempts` are drafts with their signatures."""

    kuro: Record
    attempts: tuple[tuple[ApprovalDrafted, ApprovalSigned], ...]
    completed: RequestCompleted

    @property
    def chain_id(self) -> int:
        return int(self.completed.seat.split(":")[0])

    @property
    def block_hash(self) -> str:
        return self.completed.seat.split(":")[1]

    @property
    def log_index(self) -> int:
        return int(self.completed.seat.split(":")[2])


def evidence_of(kuro: Record | None, life: Iterable[Record]) -> Evidence:
    """From the Kuro fact and all of the request's facts in log order; what the fold refuses does
    not count. Raises CannotCertify."""
    state: RequestState | None = None
    facts: list[Fact] = []
    for record in life:
        state, verdict = evolve(state, record)
        if verdict is Verdict.APPLIED:
            facts.append(record.fact)
    if state is None or state.status is not Status.COMPLETED:
        stage = "unknown" if state is None else f"{state.status} ({state.stage})"
        raise CannotCertify(f"the request is {stage}, not completed: nothing is proved about it")
    if kuro is None or kuro.position is None:
        raise CannotCertify("only mints have a certificate, and the log holds no Kuro fact of this")
    drafts = {fact.attempt: fact for fact in facts if isinstance(fact, ApprovalDrafted)}
    signed = [fact for fact in facts if isinstance(fact, ApprovalSigned)]
    attempts = tuple((drafts[fact.attempt], fact) for fact in signed if fact.attempt in drafts)
    completed = [fact for fact in facts if isinstance(fact, RequestCompleted)]
    if not completed or not attempts:
        raise CannotCertify("the log holds no approval of ours for it: somebody else approved it")
    return Evidence(kuro, attempts, completed[-1])


def built(
    evidence: Evidence, profile: Profile, block: Json, receipts: Sequence[Json]
) -> MintCertificate:
    """`block` is what a node answers to eth_getBlockByHash with its transactions whole, `receipts`
    to eth_getBlockReceipts. Raises CannotCertify; the result has been verified."""
    try:
        found = _built(evidence, profile, block, receipts)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        if isinstance(error, CannotCertify):
            raise
        shown = f"{type(error).__name__}: {error}"
        raise CannotCertify(f"what the node tells of the block cannot be used ({shown})") from None
    failed = [check for check in verify(found, trusted_hash=evidence.block_hash) if not check.holds]
    if failed:
        raise CannotCertify(f"it would not verify: {failed[0].name}: {failed[0].detail}")
    return found


def _built(
    evidence: Evidence, profile: Profile, block: Json, receipts: Sequence[Json]
) -> MintCertificate:
    header = header_bytes(block)
    if "0x" + keccak(header).hex() != evidence.block_hash:
        raise CannotCertify(
            "the header that the node tells does not hash to the block that the log names"
        )
    told = list(block["transactions"])
    index = next(
        (at for at, one in enumerate(told) if one["hash"].lower() == evidence.completed.tx_hash),
        None,
    )
    if index is None or len(told) != len(receipts):
        raise CannotCertify("the node's block does not hold the transaction, or not every receipt")
    raws = {index_key(at): transaction_bytes(one) for at, one in enumerate(told)}
    ordered = sorted(receipts, key=lambda one: int(one["transactionIndex"], 16))
    outcomes = {index_key(at): receipt_bytes(one) for at, one in enumerate(ordered)}
    roots = read_header(header)
    if root_of(raws) != roots.transactions_root or root_of(outcomes) != roots.receipts_root:
        raise CannotCertify(
            "the block's transactions or receipts are of a kind that cannot be rebuilt here: they "
            "do not give the roots in its header"
        )
    key = index_key(index)
    logs = [int(log["logIndex"], 16) for log in ordered[index]["logs"]]
    return MintCertificate.model_validate(
        {
            "format": CERTIFICATE_FORMAT,
            "version": CERTIFICATE_VERSION,
            "requestKey": evidence.kuro.fact.key,
            "kuro": _kuro_part(evidence.kuro),
            "approval": _approval_part(evidence, profile, read_transaction(raws[key]).data),
            "transaction": {
                "hash": evidence.completed.tx_hash,
                "index": index,
                "raw": _hex(raws[key]),
                "proof": [_hex(node) for node in proof_of(raws, key)],
            },
            "receipt": {
                "raw": _hex(outcomes[key]),
                "log": logs.index(evidence.log_index),
                "proof": [_hex(node) for node in proof_of(outcomes, key)],
            },
            "block": {
                "chainId": evidence.chain_id,
                "number": roots.number,
                "hash": evidence.block_hash,
                "header": _hex(header),
            },
        }
    )


def _kuro_part(record: Record) -> dict[str, Any]:
    line = encode_value(record)
    position = str(record.position)
    return {"position": position, "value": json.loads(line), "sha256": seal(position, line)}


def _approval_part(evidence: Evidence, profile: Profile, data: bytes) -> dict[str, Any]:
    """Of the attempt that the transaction carries."""
    fact = evidence.kuro.fact
    assert isinstance(fact, MintOk)
    for draft, signed in evidence.attempts:
        approval = Approval(
            RequestType.MINT,
            evidence.chain_id,
            draft.contract,
            fact.request_id,
            checksummed(fact.user),
            int(fact.amount),
            draft.approval_nonce,
            draft.deadline,
        )
        if profile.calldata(approval, signed.signature) == _hex(data):
            return {
                "profile": profile.name,
                "typedData": plain(profile.typed_data(approval)),
                "digest": draft.digest,
                "signature": signed.signature,
                "signer": signed.signer,
            }
    raise CannotCertify(
        "the transaction does not carry an approval of the log as its own calldata: somebody else "
        "approved it, or sent ours through another contract"
    )


def _hex(raw: bytes) -> str:
    return "0x" + raw.hex()
