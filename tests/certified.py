"""Mints on a real chain, several in a block, and the facts that the log would hold of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from eth_account.signers.local import LocalAccount

from orchestrator.core.contract import Approval, Profile
from orchestrator.dev.http_client import rpc
from schemas.base import Fact, Position, Record, RequestType, encode_value, instant
from schemas.evm import EventName
from schemas.kuro import MintOk, Via
from schemas.requests import (
    ApprovalDrafted,
    ApprovalNonceGranted,
    ApprovalSigned,
    EvidenceReported,
    RelayAssigned,
    RequestCompleted,
    RequestReceived,
)
from schemas.topics import KURO_EVENTS, REQUESTS, Topic

TOKEN = 10**18
START = 1_790_000_000
DEADLINE = 2**33


def approval_of(
    profile: Profile, chain_id: int, contract: str, request_id: str, to: str, nonce: int | None
) -> Approval:
    derived = profile.derived_nonce(request_id) if nonce is None else nonce
    assert derived is not None
    return Approval(RequestType.MINT, chain_id, contract, request_id, to, TOKEN, derived, DEADLINE)


def record(topic: Topic, offset: int, fact: Fact) -> Record:
    """Through the log's own bytes."""
    written = encode_value(Record(fact, instant(START + offset)))
    return topic.decode(written, Position(topic.name, 3, offset))


def allowed(approval: Approval) -> Record:
    return record(
        KURO_EVENTS,
        17,
        MintOk(
            request_id=approval.request_id,
            user=approval.account,
            amount=str(approval.amount),
            fiat_ref=f"SEPA „{approval.request_id}“",
            chain_id=approval.chain_id,
            timestamp_ms=START * 1000,
            via=Via.SOCKET,
        ),
    )


def life(
    profile: Profile, approval: Approval, signature: str, signer: str, log: dict[str, Any]
) -> list[Record]:
    """The request's own facts, to its completion by this log of a receipt."""
    key = approval.request_id
    block_hash, index = log["blockHash"], int(log["logIndex"], 16)
    seat = f"{approval.chain_id}:{block_hash}:{index}"
    digest, number = profile.digest(approval), int(log["blockNumber"], 16)
    attempt: dict[str, Any] = {"request_key": key, "attempt": 1}
    facts: list[Fact] = [
        RequestReceived(
            request_key=key,
            request_id=key,
            type=RequestType.MINT,
            chain_id=approval.chain_id,
            user=approval.account,
            amount=str(approval.amount),
            fiat_ref="x",
            origin="kuro.events/3/17",
        )
    ]
    if profile.sequential:
        facts.append(
            ApprovalNonceGranted(
                **attempt, approval_nonce=approval.nonce, deadline=approval.deadline
            )
        )
    facts += [
        ApprovalDrafted(
            **attempt,
            contract=approval.contract,
            approval_nonce=approval.nonce,
            deadline=approval.deadline,
            digest=digest,
        ),
        ApprovalSigned(**attempt, digest=digest, signature=signature, signer=signer),
        RelayAssigned(**attempt, wallet=signer),
        EvidenceReported(
            request_key=key,
            chain_id=approval.chain_id,
            event=EventName.MINTED,
            account=approval.account,
            amount=approval.amount,
            tx_hash=log["transactionHash"],
            block_number=number,
            block_hash=block_hash,
            log_index=index,
        ),
        RequestCompleted(
            request_key=key, seat=seat, tx_hash=log["transactionHash"], block_number=number
        ),
    ]
    return [record(REQUESTS, offset, fact) for offset, fact in enumerate(facts)]


def sent_together(
    url: str, chain_id: int, account: LocalAccount, calls: Sequence[tuple[str, str]]
) -> dict[str, Any]:
    """All in one block, of every kind of transaction in turn; the block with whole transactions.
    `calls` are (contract, data)."""
    nonce = int(rpc(url, "eth_getTransactionCount", account.address, "latest"), 16)
    price = {"gasPrice": 10**11}
    fees = {"maxFeePerGas": 10**11, "maxPriorityFeePerGas": 10**9}
    access = [{"address": calls[0][0], "storageKeys": ["0x" + "00" * 31 + "01"]}]
    kinds: list[dict[str, Any]] = [
        {**fees, "type": 2},
        price,
        {**price, "type": 1, "accessList": access},
        {**fees, "type": 2, "accessList": access},
    ]
    for number, (contract, data) in enumerate(calls):
        signed = account.sign_transaction(
            {
                "chainId": chain_id,
                "nonce": nonce + number,
                "gas": 400_000,
                "value": 0,
                "to": contract,
                "data": data,
                **kinds[number % len(kinds)],
            }
        )
        rpc(url, "eth_sendRawTransaction", "0x" + signed.raw_transaction.hex())
    rpc(url, "evm_mine")
    receipt = rpc(url, "eth_getTransactionReceipt", "0x" + signed.hash.hex())
    block: dict[str, Any] = rpc(url, "eth_getBlockByHash", receipt["blockHash"], True)
    return block


CHAIN_VECTOR = 5920


def approval_shown(told: dict[str, Any]) -> tuple[Approval, str, str, dict[str, Any]]:
    """Of a block that was written down (tests/vectors/block.json): the approval, its signature, who
    signed, and the log of the mint."""
    fields = told["approval"]
    approval = Approval(
        RequestType.MINT,
        CHAIN_VECTOR,
        fields["contract"],
        fields["requestId"],
        fields["account"],
        int(fields["amount"]),
        int(fields["nonce"]),
        int(fields["deadline"]),
    )
    log = told["receipts"][fields["index"]]["logs"][-1]
    return approval, told["signature"], told["signer"], log
