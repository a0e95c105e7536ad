"""The Solidity ABI and EIP-712, as far as approvals need them: words of 32 bytes.

`eth_abi` and `eth_account` take any type and check every value by its name; that costs ten to a
hundred times what the few fixed shapes here need. Tests compare every byte with both.
Sources: Solidity ABI specification ("Formal Specification of the Encoding"), EIP-712 ("encodeData",
"Definition of domainSeparator").
"""

from __future__ import annotations

from functools import lru_cache

from orchestrator.core.hashing import keccak

_DOMAIN = keccak(
    b"EIP712Domain(string name,string version,uint256 chainId,address verifyingContract)"
)


def uint_word(value: int) -> bytes:
    """A uint of any width. Raises OverflowError for what is negative or above 2**256 - 1."""
    return value.to_bytes(32, "big")


def address_word(address: str) -> bytes:
    """`address` is 0x and 40 hex digits. Raises ValueError for another length."""
    raw = bytes.fromhex(address[2:])
    if len(raw) != 20:
        raise ValueError(f"{address!r} is no address")
    return bytes(12) + raw


def text_hash(text: str) -> bytes:
    """A string inside typed data."""
    return keccak(text.encode("utf-8"))


def dynamic(data: bytes) -> bytes:
    """`bytes` or a string in the tail of arguments: its length, then itself, padded to words."""
    return uint_word(len(data)) + data + bytes(-len(data) % 32)


@lru_cache(maxsize=1024)
def domain_separator(name: str, version: str, chain_id: int, contract: str) -> bytes:
    """Of one contract; it never changes."""
    words = (text_hash(name), text_hash(version), uint_word(chain_id), address_word(contract))
    return keccak(_DOMAIN + b"".join(words))


def typed_digest(domain: bytes, type_hash: bytes, *words: bytes) -> bytes:
    """keccak256(0x19 0x01 ‖ domain separator ‖ keccak256(type hash ‖ words)): what is signed."""
    return keccak(b"\x19\x01" + domain + keccak(type_hash + b"".join(words)))
