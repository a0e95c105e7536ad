"""The contract profile against vectors that ethers made (`python -m tests.vectors.make`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_abi.abi import decode, encode
from eth_account import Account
from eth_utils.crypto import keccak

from orchestrator.core.contract import EVIDENCE_OF, Approval
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, approval_nonce
from schemas.base import RequestType
from schemas.evm import EventName

FOLDER = Path(__file__).parent.parent / "vectors"
FILE = json.loads((FOLDER / "eip712.json").read_text(encoding="utf-8"))
VECTORS = FILE["vectors"]
TRANSACTIONS = json.loads((FOLDER / "transactions.json").read_text(encoding="utf-8"))["vectors"]


def approval(vector) -> Approval:
    return Approval(
        type=RequestType(vector["type"]),
        chain_id=int(vector["chain_id"]),
        contract=vector["contract"],
        request_id=vector["request_id"],
        account=vector["account"],
        amount=int(vector["amount"]),
        nonce=int(vector["nonce"]),
        deadline=int(vector["deadline"]),
    )


def names(vector) -> str:
    return f"{vector['type']}-{vector['request_id'][:12].encode('unicode_escape').decode()}"


def test_the_vectors_are_many_and_differ():
    assert len(VECTORS) == 40
    assert len({vector["digest"] for vector in VECTORS}) == 40
    assert {vector["type"] for vector in VECTORS} == {"MINT", "REDEEM"}


@pytest.mark.parametrize("vector", VECTORS, ids=names)
def test_digest_and_calldata_agree_with_ethers(vector):
    ours = approval(vector)
    assert ORCHESTRATOR.digest(ours) == vector["digest"]
    assert ORCHESTRATOR.calldata(ours, vector["signature"]) == vector["calldata"]
    assert ORCHESTRATOR.is_processed_calldata(ours.request_id) == vector["is_processed_calldata"]


@pytest.mark.parametrize("vector", VECTORS, ids=names)
def test_the_digest_is_made_of_the_vectors_parts(vector):
    """By EIP-712's definition, with nothing but keccak."""
    parts = bytes.fromhex(vector["domain_separator"][2:] + vector["struct_hash"][2:])
    assert "0x" + keccak(b"\x19\x01" + parts).hex() == ORCHESTRATOR.digest(approval(vector))
    fields = ORCHESTRATOR.typed_data(approval(vector))["types"][
        vector["encoded_type"].partition("(")[0]
    ]
    listed = ",".join(f"{field['type']} {field['name']}" for field in fields)
    assert vector["encoded_type"].partition("(")[2] == listed + ")"


@pytest.mark.parametrize("vector", VECTORS, ids=names)
def test_calldata_decodes_back(vector):
    ours = approval(vector)
    data = bytes.fromhex(ORCHESTRATOR.calldata(ours, vector["signature"])[2:])
    found = decode(["string", "address", "uint256", "uint256", "uint256", "bytes"], data[4:])
    signature = bytes.fromhex(vector["signature"][2:])
    account = ours.account.lower()
    expected = (ours.request_id, account, ours.amount, ours.nonce, ours.deadline, signature)
    assert (found[0], found[1].lower(), *found[2:]) == expected


@pytest.mark.parametrize("vector", VECTORS, ids=names)
def test_events_decode_to_what_ethers_encoded(vector):
    for event in vector["events"]:
        decoded = ORCHESTRATOR.decode_event(event["topics"], event["data"], "")
        assert decoded.event is ORCHESTRATOR.event_topics[event["topics"][0]]
        assert decoded.event.value == event["event"]
        assert (decoded.request_id, decoded.account) == (vector["request_id"], vector["account"])
        assert decoded.amount == int(vector["amount"])


def test_a_change_of_any_field_changes_the_digest():
    base = approval(VECTORS[0])
    changed = [
        Approval(**{**{f: getattr(base, f) for f in base.__slots__}, name: value})
        for name, value in {
            "type": RequestType.REDEEM,
            "chain_id": 2,
            "contract": VECTORS[1]["contract"],
            "request_id": "other",
            "account": VECTORS[1]["account"],
            "amount": 2,
            "nonce": 3,
            "deadline": 4,
        }.items()
    ]
    assert len({ORCHESTRATOR.digest(base), *(ORCHESTRATOR.digest(other) for other in changed)}) == 9


def test_nonces_differ_by_request_and_by_nothing_else():
    assert approval_nonce("a") == int.from_bytes(keccak(text="a"), "big") == approval_nonce("a")
    assert str(approval_nonce("mint-1")) in {vector["nonce"] for vector in VECTORS}
    assert len({approval_nonce(f"m-{n}") for n in range(500)}) == 500


MINTED = VECTORS[0]["events"][0]
BODY = encode(["string", "uint256"], ["m", 1]).hex()
OUT_OF_BOUNDS = "0x" + "ff" * 32 + "00" * 32
INVALID_TEXT = "0x" + encode(["bytes", "uint256"], [b"\xff\xfe", 1]).hex()


@pytest.mark.parametrize(
    ("topics", "data"),
    [
        (MINTED["topics"][:1], MINTED["data"]),
        ([*MINTED["topics"], MINTED["topics"][1]], MINTED["data"]),
        (MINTED["topics"], "0x"),
        (MINTED["topics"], ""),
        (MINTED["topics"], "0xzz"),
        (MINTED["topics"], "0x123"),
        (MINTED["topics"], MINTED["data"][:-64]),
        (MINTED["topics"], OUT_OF_BOUNDS),
        (MINTED["topics"], INVALID_TEXT),
        ([MINTED["topics"][0], "0x"], "0x" + BODY),
        ([MINTED["topics"][0], "0x12"], "0x" + BODY),
        ([MINTED["topics"][0], "0x" + "zz" * 32], "0x" + BODY),
    ],
)
def test_a_garbled_log_of_ours_is_a_value_error(topics, data):
    with pytest.raises(ValueError, match=r"."):
        ORCHESTRATOR.decode_event(topics, data, "")


@pytest.mark.parametrize("topics", [[], ["0x"], ["0x" + "00" * 32], ["0x" + "ab" * 32] * 4])
def test_logs_of_others_do_not_matter(topics):
    assert ORCHESTRATOR.decode_event(topics, "0x", "") is None


def test_topics_are_compared_in_any_case():
    first = "0x" + MINTED["topics"][0][2:].upper()
    found = ORCHESTRATOR.decode_event([first, MINTED["topics"][1]], MINTED["data"], "")
    assert found.event is EventName.MINTED


def test_each_type_has_its_evidence():
    assert EVIDENCE_OF == {
        RequestType.MINT: (EventName.MINTED,),
        RequestType.REDEEM: (EventName.REDEEMED, EventName.REDEEMED_AT_ONCE),
    }


def test_the_vectors_signature_is_by_the_vectors_key():
    assert Account.from_key(FILE["private_key"]).address == FILE["signer"]
    for vector in VECTORS:
        signed = Account._recover_hash(vector["digest"], signature=vector["signature"])
        assert signed == FILE["signer"]


@pytest.mark.parametrize("vector", TRANSACTIONS, ids=lambda vector: vector["tx_hash"][:10])
def test_transactions_of_ethers_equal_those_of_eth_account(vector):
    """Both follow RFC 6979: whoever signs, the bytes are these."""
    signed = Account.sign_transaction(
        {
            "type": 2,
            "chainId": int(vector["chain_id"]),
            "nonce": vector["nonce"],
            "to": vector["to"],
            "data": vector["data"],
            "value": 0,
            "gas": int(vector["gas_limit"]),
            "maxFeePerGas": int(vector["max_fee_per_gas_wei"]),
            "maxPriorityFeePerGas": int(vector["max_priority_fee_per_gas_wei"]),
        },
        vector["private_key"],
    )
    assert "0x" + signed.raw_transaction.hex().removeprefix("0x") == vector["raw"]
    assert "0x" + signed.hash.hex().removeprefix("0x") == vector["tx_hash"]
