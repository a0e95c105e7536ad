"""The launchpad profile against vectors that ethers made (`python -m tests.vectors.make`)."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from eth_account import Account

from orchestrator.core.contract import Approval, Turn
from orchestrator.core.launchpad_profile import LaunchpadProfile, contract_id
from schemas.base import RequestType
from schemas.evm import EventName

FILE = json.loads(
    (Path(__file__).parent.parent / "vectors" / "launchpad.json").read_text(encoding="utf-8")
)
VECTORS = FILE["vectors"]
PLACE = "0x" + "ab" * 32 + ":3"


def approval(vector) -> Approval:
    return Approval(
        type=RequestType.MINT,
        chain_id=int(vector["chain_id"]),
        contract=vector["contract"],
        request_id=vector["request_id"],
        account=vector["account"],
        amount=int(vector["amount"]),
        nonce=int(vector["nonce"]),
        deadline=int(vector["deadline"]),
    )


def names(vector) -> str:
    return vector["contract_id"][:10]


def test_the_vectors_are_many_and_differ():
    assert len({vector["digest"] for vector in VECTORS}) == len(VECTORS) == 21
    assert any(vector["contract_id"] == vector["request_id"] for vector in VECTORS)


@pytest.mark.parametrize("vector", VECTORS, ids=names)
def test_digest_calldata_and_questions_agree_with_ethers(vector):
    profile, ours = LaunchpadProfile(vector["token_name"]), approval(vector)
    assert contract_id(ours.request_id) == vector["contract_id"]
    assert profile.digest(ours) == vector["digest"]
    assert profile.calldata(ours, vector["signature"]) == vector["calldata"]
    assert profile.is_processed_calldata(ours.request_id) == vector["is_processed_calldata"]
    assert profile.nonces_calldata(ours.account) == vector["nonces_calldata"]
    assert profile.turn(vector["calldata"]) == Turn(ours.account, ours.nonce)
    signer = Account._recover_hash(vector["digest"], signature=vector["signature"])
    assert signer == FILE["signer"]


@pytest.mark.parametrize("vector", VECTORS, ids=names)
def test_the_typed_data_lists_what_is_hashed(vector):
    profile = LaunchpadProfile(vector["token_name"])
    data = profile.typed_data(approval(vector))
    listed = ",".join(f"{f['type']} {f['name']}" for f in data["types"][data["primaryType"]])
    assert f"{data['primaryType']}({listed})" == vector["encoded_type"]
    assert data["domain"]["name"] == vector["token_name"]


@pytest.mark.parametrize("vector", VECTORS, ids=names)
def test_events_decode_to_what_ethers_encoded(vector):
    profile, ours = LaunchpadProfile(vector["token_name"]), approval(vector)
    minted = profile.decode_event(vector["minted"]["topics"], vector["minted"]["data"], PLACE)
    told = (minted.event, minted.request_id, minted.account, minted.amount, minted.approval_nonce)
    expected = (vector["contract_id"], ours.account, ours.amount, ours.nonce)
    assert told == (EventName.MINTED, *expected)
    burnt = profile.decode_event(vector["redeemed"]["topics"], vector["redeemed"]["data"], PLACE)
    told = (burnt.event, burnt.request_id, burnt.account, burnt.amount, burnt.approval_nonce)
    assert told == (EventName.REDEEMED_AT_ONCE, PLACE, ours.account, ours.amount, None)


@pytest.mark.parametrize("name", ["minted", "redeemed"])
def test_a_garbled_log_of_ours_is_a_value_error(name):
    profile, log = LaunchpadProfile("any"), VECTORS[0][name]
    topics, data = log["topics"], log["data"]
    more = [*topics, "0x" + "00" * 32]
    for bad in ((more, data), (topics, "0x"), (topics, data[:-64]), (topics, "0xzz")):
        with pytest.raises(ValueError, match=r"."):
            profile.decode_event(*bad, PLACE)
    assert profile.decode_event(["0x" + "ab" * 32], data, PLACE) is None
    assert profile.decode_event([], data, PLACE) is None
