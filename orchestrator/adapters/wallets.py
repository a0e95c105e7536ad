"""A hot wallet that only pays gas: its private key lives in this process."""

from __future__ import annotations

from typing import NoReturn

from coincurve import PrivateKey

from orchestrator.core.certificates_rlp import encoded, list_of, quantity
from orchestrator.core.hashing import checksummed, keccak
from orchestrator.errors import ConfigurationError
from orchestrator.ports import SignedTransaction, UnsignedTransaction

_DYNAMIC_FEE = b"\x02"
"""Transaction type of EIP-1559, the first byte of its envelope (EIP-2718)."""

_NO_VALUE = encoded(b"")
_NO_ACCESS_LIST = list_of([])


class LocalWallet:
    """Signs EIP-1559 and older transactions without value. Deterministic (RFC 6979), low s (EIP-2).

    Encodes each field once and signs with libsecp256k1, without eth-account's checking of a
    dictionary at each call, which costs four times as much as the signature itself; a test compares
    every byte with eth-account.
    """

    def __init__(self, private_key: str) -> None:
        """`private_key` is 0x and 64 hex digits. Raises ConfigurationError, never showing it."""
        try:
            secret = bytes.fromhex(private_key.removeprefix("0x"))
            if len(secret) != 32:
                raise ValueError
            self._key = PrivateKey(secret)
            point = self._key.public_key.format(compressed=False)
            self.address = checksummed("0x" + keccak(point[1:])[-20:].hex())
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
            _number(transaction.chain_id),
            _number(transaction.nonce),
            _number(transaction.max_priority_fee_per_gas_wei),
            _number(transaction.max_fee_per_gas_wei),
            _number(transaction.gas_limit),
            encoded(bytes.fromhex(transaction.to[2:])),
            _NO_VALUE,
            encoded(bytes.fromhex(transaction.data[2:])),
            _NO_ACCESS_LIST,
        ]
        parity, r, s = self._signature(_DYNAMIC_FEE + list_of(fields))
        return _signed(_DYNAMIC_FEE + list_of([*fields, _number(parity), r, s]))

    def _sign_legacy(self, transaction: UnsignedTransaction) -> SignedTransaction:
        fields = [
            _number(transaction.nonce),
            _number(transaction.max_fee_per_gas_wei),
            _number(transaction.gas_limit),
            encoded(bytes.fromhex(transaction.to[2:])),
            _NO_VALUE,
            encoded(bytes.fromhex(transaction.data[2:])),
        ]
        unsigned = [*fields, _number(transaction.chain_id), _number(0), _number(0)]
        parity, r, s = self._signature(list_of(unsigned))
        v = 35 + 2 * transaction.chain_id + parity
        return _signed(list_of([*fields, _number(v), r, s]))

    def _signature(self, payload: bytes) -> tuple[int, bytes, bytes]:
        """The parity, and r and s as RLP items, over keccak256 of the payload."""
        both = self._key.sign_recoverable(keccak(payload), hasher=None)
        r, s = int.from_bytes(both[:32], "big"), int.from_bytes(both[32:64], "big")
        return both[64], _number(r), _number(s)


def _number(value: int) -> bytes:
    return encoded(quantity(value))


def _signed(raw: bytes) -> SignedTransaction:
    return SignedTransaction("0x" + raw.hex(), "0x" + keccak(raw).hex())
