"""Own encoders against the independent libraries, byte for byte."""

from __future__ import annotations

from dataclasses import replace

import pytest
from eth_abi.abi import encode
from eth_account.messages import encode_typed_data
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak as independent_keccak
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core import abi
from orchestrator.core.contract import Approval, Turn
from orchestrator.core.hashing import checksummed, keccak
from orchestrator.core.launchpad_profile import LaunchpadProfile, contract_id
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.core.policy import address_or_none
from schemas.base import UINT256_MAX, RequestType

raw_addresses = st.binary(min_size=20, max_size=20)
amounts = st.integers(0, UINT256_MAX)
ids = st.text(min_size=1, max_size=200)
names = st.text(min_size=1, max_size=40)
LAUNCHPAD = LaunchpadProfile("Pad Dollar")
approvals = st.builds(
    Approval,
    type=st.sampled_from(RequestType),
    chain_id=st.integers(1, 2**63 - 1),
    contract=raw_addresses.map(to_checksum_address),
    request_id=ids,
    account=raw_addresses.map(to_checksum_address),
    amount=amounts,
    nonce=amounts,
    deadline=amounts,
)


@given(st.binary(max_size=500))
def test_hashes(data):
    assert keccak(data) == independent_keccak(data)


@given(raw_addresses)
def test_checksums(raw):
    expected = to_checksum_address(raw)
    for text in (expected, expected.lower(), "0x" + expected[2:].upper()):
        assert checksummed(text) == address_or_none(text) == expected
    for bad in (expected[:-1], expected + "0", expected[2:], "0X" + expected[2:], expected + "\n"):
        assert address_or_none(bad) is None


def test_a_mixed_case_address_without_its_checksum_is_none():
    good = "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed"
    assert address_or_none(good) == good
    assert address_or_none(good.replace("aA", "Aa")) is None


@given(approvals, names)
def test_digests(approval, name):
    launchpad = LaunchpadProfile(name)
    mint = replace(approval, type=RequestType.MINT, deadline=approval.deadline % 2**64)
    for profile, item in ((ORCHESTRATOR, approval), (launchpad, mint)):
        message = encode_typed_data(full_message=profile.typed_data(item))
        expected = independent_keccak(b"\x19\x01" + message.header + message.body)
        assert profile.digest(item) == "0x" + expected.hex()


@given(approvals, st.binary(min_size=65, max_size=65))
def test_calldata(approval, signature):
    types = ["string", "address", "uint256", "uint256", "uint256", "bytes"]
    values = [approval.request_id, approval.account, approval.amount, approval.nonce]
    expected = encode(types, [*values, approval.deadline, signature]).hex()
    assert ORCHESTRATOR.calldata(approval, "0x" + signature.hex())[10:] == expected


@given(approvals, st.binary(min_size=65, max_size=65))
def test_calldata_in_order(approval, signature):
    types = ["address", "uint256", "uint256", "uint64", "uint256", "bytes32", "bytes"]
    deadline, word = approval.deadline % 2**64, bytes.fromhex(contract_id(approval.request_id)[2:])
    values = [approval.account, approval.amount, approval.nonce, deadline, approval.chain_id]
    expected = encode(types, [*values, word, signature]).hex()
    data = LAUNCHPAD.calldata(replace(approval, deadline=deadline), "0x" + signature.hex())
    assert data[10:] == expected
    assert LAUNCHPAD.turn(data) == Turn(approval.account, approval.nonce)
    assert LAUNCHPAD.nonces_calldata(approval.account)[10:] == (
        encode(["address"], [approval.account]).hex()
    )
    if approval.deadline >= 2**64:
        with pytest.raises(OverflowError):
            LAUNCHPAD.calldata(approval, "0x" + signature.hex())


@given(ids)
def test_ids_on_chain(request_id):
    word = contract_id(request_id)
    assert word == "0x" + independent_keccak(request_id.encode()).hex()
    assert contract_id(word) == word
    assert contract_id(word.upper().replace("0X", "0x")) != word
    assert contract_id(word + "\n") != word
    assert LAUNCHPAD.is_processed_calldata(request_id)[10:] == word[2:]


@given(ids)
def test_questions(request_id):
    assert (
        ORCHESTRATOR.is_processed_calldata(request_id)[10:]
        == encode(["string"], [request_id]).hex()
    )


@pytest.mark.parametrize("value", [-1, UINT256_MAX + 1])
def test_what_is_no_uint256_is_refused(value):
    with pytest.raises(OverflowError):
        abi.uint_word(value)


def test_what_is_no_address_is_refused():
    with pytest.raises(ValueError, match="no address"):
        abi.address_word("0x1234")
