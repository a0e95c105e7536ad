"""`LocalWallet` gives, byte for byte, what eth-account gives, and never shows its key."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import pytest
from eth_account import Account
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.wallets import LocalWallet
from orchestrator.errors import ConfigurationError
from orchestrator.ports import UnsignedTransaction

KEY = "0x" + "4c" * 32
CONTRACT = "0x5FbDB2315678afecb367f032d93F642f64180aa3"

transactions = st.builds(
    UnsignedTransaction,
    chain_id=st.integers(1, 2**53),
    nonce=st.integers(0, 2**64 - 2),
    to=st.just(CONTRACT),
    data=st.binary(max_size=600).map(lambda data: "0x" + data.hex()),
    gas_limit=st.integers(0, 2**63),
    max_fee_per_gas_wei=st.integers(0, 2**128),
    max_priority_fee_per_gas_wei=st.integers(0, 2**128),
)


@given(transactions)
def test_equals_eth_account(transaction: UnsignedTransaction) -> None:
    theirs = Account.sign_transaction(
        {
            "type": 2,
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "to": transaction.to,
            "value": 0,
            "data": transaction.data,
            "gas": transaction.gas_limit,
            "maxFeePerGas": transaction.max_fee_per_gas_wei,
            "maxPriorityFeePerGas": transaction.max_priority_fee_per_gas_wei,
            "accessList": [],
        },
        KEY,
    )
    ours = LocalWallet(KEY).sign(transaction)
    assert ours.raw == "0x" + bytes(theirs.raw_transaction).hex()
    assert ours.tx_hash == "0x" + bytes(theirs.hash).hex()
    assert Account.recover_transaction(ours.raw) == LocalWallet(KEY).address


@given(transactions)
def test_a_legacy_one_equals_eth_accounts_too(transaction: UnsignedTransaction) -> None:
    theirs = Account.sign_transaction(
        {
            "chainId": transaction.chain_id,
            "nonce": transaction.nonce,
            "to": transaction.to,
            "value": 0,
            "data": transaction.data,
            "gas": transaction.gas_limit,
            "gasPrice": transaction.max_fee_per_gas_wei,
        },
        KEY,
    )
    ours = LocalWallet(KEY).sign(replace(transaction, legacy=True))
    assert ours.raw == "0x" + bytes(theirs.raw_transaction).hex()
    assert ours.tx_hash == "0x" + bytes(theirs.hash).hex()
    assert Account.recover_transaction(ours.raw) == LocalWallet(KEY).address


def test_is_deterministic() -> None:
    transaction = UnsignedTransaction(5920, 7, CONTRACT, "0xabcd", 21_000, 10**9, 1)
    assert len({LocalWallet(KEY).sign(transaction) for _ in range(20)}) == 1


def test_shows_its_address_only() -> None:
    wallet = LocalWallet(KEY)
    assert repr(wallet) == f"LocalWallet({wallet.address})"
    assert str(wallet) == repr(wallet)
    for copying in (pickle.dumps, copy.copy, copy.deepcopy):
        with pytest.raises(TypeError):
            copying(wallet)


@pytest.mark.parametrize(
    "key", ["", "0x", "0x12", "4c" * 33, "0x" + "0" * 64, "0x" + "f" * 64, "0x" + "4g" * 32]
)
def test_a_bad_key_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        LocalWallet(key)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    digits = key.removeprefix("0x")
    assert not digits or digits not in str(caught.value)


def test_a_key_without_prefix_is_the_same() -> None:
    assert LocalWallet(KEY[2:]).address == LocalWallet(KEY).address
