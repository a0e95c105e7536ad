"""DER from KMS to r, s, v: everything that may come, and much that should not."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from eth_account import Account
from eth_keys.main import KeyAPI
from eth_utils.crypto import keccak
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.signatures import (
    CURVE_ORDER,
    UnusableKey,
    UnusableSignature,
    address_of,
    normalise,
)

KEY = KeyAPI().PrivateKey(keccak(text="a key of a test"))
OTHER = KeyAPI().PrivateKey(keccak(text="another key of a test"))
ADDRESS = KEY.public_key.to_checksum_address()


def digest_of(number: int) -> str:
    return "0x" + keccak(text=f"digest {number}").hex()


def integer(value: int) -> bytes:
    """DER INTEGER, minimal, never negative."""
    body = value.to_bytes(value.bit_length() // 8 + 1, "big")
    return b"\x02" + bytes([len(body)]) + body


def der(r: int, s: int) -> bytes:
    body = integer(r) + integer(s)
    return b"\x30" + bytes([len(body)]) + body


def signed(number: int, key=KEY) -> tuple[int, int, int]:
    signature = key.sign_msg_hash(bytes.fromhex(digest_of(number)[2:]))
    return signature.r, signature.s, signature.v


def expected(r: int, s: int, parity: int) -> str:
    return f"0x{r:064x}{s:064x}{27 + parity:02x}"


def search(wanted) -> int:
    """The first digest whose signature is of the wanted shape."""
    return next(number for number in range(20_000) if wanted(*signed(number)))


@pytest.mark.parametrize(
    "wanted",
    [
        lambda r, s, v: r.bit_length() == 256,
        lambda r, s, v: r.bit_length() < 256,
        lambda r, s, v: r.bit_length() <= 248,
        lambda r, s, v: s.bit_length() <= 248,
        lambda r, s, v: r.bit_length() <= 241,
        lambda r, s, v: v == 0,
        lambda r, s, v: v == 1,
    ],
    ids=["r padded", "r plain", "r short", "s short", "r shorter", "even", "odd"],
)
def test_all_shapes_of_integers_become_65_bytes(wanted):
    number = search(wanted)
    r, s, v = signed(number)
    assert normalise(der(r, s), digest_of(number), ADDRESS) == expected(r, s, v)


@given(st.integers(0, 10**9), st.booleans())
@settings(max_examples=200, deadline=None)
def test_high_s_becomes_low_s_and_the_result_recovers(number, high):
    r, s, v = signed(number)
    sent = CURVE_ORDER - s if high else s
    result = normalise(der(r, sent), digest_of(number), ADDRESS)
    assert result == expected(r, s, v)
    assert len(result) == 132
    assert Account._recover_hash(digest_of(number), signature=result) == ADDRESS
    assert int(result[66:130], 16) <= CURVE_ORDER // 2


R, S, V = signed(1)
GOOD = der(R, S)
PADDED = integer(R)[:1] + bytes([integer(R)[1] + 1]) + b"\x00" + integer(R)[2:]
NEGATIVE = b"\x02\x20" + (2**255 + 5).to_bytes(32, "big")


@pytest.mark.parametrize(
    "garbage",
    [
        b"",
        b"\x30",
        b"\x30\x00",
        b"garbage",
        GOOD[:-1],
        GOOD[:10],
        GOOD + b"\x00",
        GOOD + GOOD,
        b"\x31" + GOOD[1:],
        b"\x30\x80" + GOOD[2:] + b"\x00\x00",
        b"\x30\x81" + GOOD[1:],
        b"\x30" + bytes([len(PADDED + integer(S))]) + PADDED + integer(S),
        b"\x30" + bytes([len(NEGATIVE + integer(S))]) + NEGATIVE + integer(S),
        b"\x30" + bytes([len(integer(R))]) + integer(R),
        b"\x30" + bytes([len(integer(R) * 3)]) + integer(R) * 3,
        bytes.fromhex(expected(R, S, V)[2:]),
        der(0, S),
        der(R, 0),
        der(0, 0),
        der(CURVE_ORDER, S),
        der(R, CURVE_ORDER),
        der(R + CURVE_ORDER, S),
        der(2**256, S),
        der(R, 2**300),
        der(CURVE_ORDER - 1, CURVE_ORDER - 1),
        der(5, 1),
        der(1, 1),
        der(S, R),
    ],
)
def test_everything_else_is_refused(garbage):
    with pytest.raises(UnusableSignature):
        normalise(garbage, digest_of(1), ADDRESS)


def test_another_key_or_another_digest_is_refused():
    r, s, _ = signed(1, OTHER)
    with pytest.raises(UnusableSignature, match="another key"):
        normalise(der(r, s), digest_of(1), ADDRESS)
    with pytest.raises(UnusableSignature, match="another digest"):
        normalise(GOOD, digest_of(2), ADDRESS)


@given(st.binary(max_size=80))
@settings(max_examples=300, deadline=None)
def test_random_bytes_raise_nothing_but_unusable_signature(noise):
    with pytest.raises(UnusableSignature):
        normalise(noise, digest_of(1), ADDRESS)


@given(st.integers(1, CURVE_ORDER - 1), st.integers(1, CURVE_ORDER - 1))
@settings(max_examples=100, deadline=None)
def test_random_points_raise_nothing_but_unusable_signature(r, s):
    with pytest.raises(UnusableSignature):
        normalise(der(r, s), digest_of(1), ADDRESS)


def subject_public_key_info(key) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


@given(st.integers(1, CURVE_ORDER - 1))
@settings(max_examples=50, deadline=None)
def test_addresses_follow_from_public_keys(number):
    encoded = subject_public_key_info(ec.derive_private_key(number, ec.SECP256K1()))
    assert address_of(encoded) == Account.from_key(number.to_bytes(32, "big")).address


P256 = subject_public_key_info(ec.generate_private_key(ec.SECP256R1()))
RSA = subject_public_key_info(rsa.generate_private_key(65537, 2048))
ED25519 = subject_public_key_info(ed25519.Ed25519PrivateKey.generate())
K256 = subject_public_key_info(ec.derive_private_key(7, ec.SECP256K1()))


@pytest.mark.parametrize(
    ("encoded", "named"), [(P256, "secp256r1"), (RSA, "RSA"), (ED25519, "Ed25519")]
)
def test_keys_of_another_kind_are_refused_by_name(encoded, named):
    with pytest.raises(UnusableKey, match=named):
        address_of(encoded)


@pytest.mark.parametrize(
    "garbage", [b"", b"\x00", b"key", K256[:-1], K256[:40], K256 + b"\x00", K256[:-1] + b"\x00"]
)
def test_what_is_no_key_is_refused(garbage):
    with pytest.raises(UnusableKey):
        address_of(garbage)
