"""A hot wallet that only pays gas: its private key lives in this process."""

from __future__ import annotations

from typing import NoReturn

import rlp  # type: ignore[import-untyped]
from eth_keys.main import KeyAPI

from orchestrator.core.hashing import keccak
from orchestrator.errors import ConfigurationError
from orchestrator.ports import SignedTransaction, UnsignedTransaction

_DYNAMIC_FEE = b"\x02"
"""Transaction type of EIP-1559, the first byte of its envelope (EIP-2718)."""

_NO_VALUE = 0
_NO_ACCESS_LIST: list[bytes] = []


class LocalWallet:
    """Signs EIP-1559 and older transactions without value. Deterministic (RFC 6979), low s (EIP-2).

    Encodes and signs with eth-account's own parts (`rlp`, `eth-keys` on libsecp256k1) but without
    its per-call checking of a dictionary, which costs four times as much as the signature itself;
    a test compares every byte with eth-account.
    """

    def __init__(self, private_key: str) -> None:
        """`private_key` is 0x and 64 hex digits. Raises ConfigurationError, never showing it."""
        try:
            self._key = KeyAPI().PrivateKey(bytes.fromhex(private_key.removeprefix("0x")))
            self.address = str(self._key.public_key.to_checksum_address())
        except Exception:  # noqa: BLE001 - the cause may quote the key, so it is dropped
            message = "a wallet's private key is not 0x and 64 hex digits of a valid secp256k1 key"
            raise ConfigurationError([message]) from None

    def __repr__(self) -> str:
        return f"LocalWallet({self.address})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("a wallet is not pickled: its key stays in this process")

    def sign(self, transaction: UnsignedTransaction) -> SignedTransaction:
        """keccak256(0x02 ‖ rlp(fields)) signed, and the envelope 0x02 ‖ rlp(fields, v, r, s) with
        v the parity 0 or 1 (EIP-1559). The hash is keccak256 of the envelope. A legacy one has no
        envelope: keccak256(rlp(fields, chain id, 0, 0)) signed, v = 35 + 2 chain id + parity
        (EIP-155)."""
        if transaction.legacy:
            return self._sign_legacy(transaction)
        fields = [
            transaction.chain_id,
            transaction.nonce,
            transaction.max_priority_fee_per_gas_wei,
            transaction.max_fee_per_gas_wei,
            transaction.gas_limit,
            bytes.fromhex(transaction.to[2:]),
            _NO_VALUE,
            bytes.fromhex(transaction.data[2:]),
            _NO_ACCESS_LIST,
        ]
        digest = keccak(_DYNAMIC_FEE + rlp.encode(fields))
        signature = self._key.sign_msg_hash(digest)
        raw = _DYNAMIC_FEE + rlp.encode([*fields, *signature.vrs])
        return SignedTransaction("0x" + raw.hex(), "0x" + keccak(raw).hex())

    def _sign_legacy(self, transaction: UnsignedTransaction) -> SignedTransaction:
        fields = [
            transaction.nonce,
            transaction.max_fee_per_gas_wei,
            transaction.gas_limit,
            bytes.fromhex(transaction.to[2:]),
            _NO_VALUE,
            bytes.fromhex(transaction.data[2:]),
        ]
        digest = keccak(rlp.encode([*fields, transaction.chain_id, 0, 0]))
        parity, r, s = self._key.sign_msg_hash(digest).vrs
        raw = rlp.encode([*fields, 35 + 2 * transaction.chain_id + parity, r, s])
        return SignedTransaction("0x" + raw.hex(), "0x" + keccak(raw).hex())
