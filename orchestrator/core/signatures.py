"""From what KMS answers to what a contract accepts: DER to (r, s, v).

KMS answers DER of SEQUENCE { INTEGER r, INTEGER s } (RFC 3279, section 2.2.3) without recovery id,
and s may lie in the upper half; OpenZeppelin's ECDSA accepts only the lower half (EIP-2). v is
found by recovering with both parities and comparing with the address we know.
"""

from __future__ import annotations

from coincurve import PublicKey
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import SECP256K1, EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)

from orchestrator.core.hashing import checksummed, keccak

CURVE_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
"""n of secp256k1 (SEC 2, section 2.4.1)."""


class UnusableSignature(ValueError):
    """KMS answered something that is no signature of this digest by this key."""


class UnusableKey(ValueError):
    """The key is not on secp256k1, or its public half cannot be read."""


def address_of(public_key_der: bytes) -> str:
    """The checksummed address of a DER SubjectPublicKeyInfo (RFC 5280, section 4.1.2.7).

    Raises UnusableKey when it is no secp256k1 key.
    """
    try:
        key = load_der_public_key(public_key_der)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey(f"the public key cannot be read: {error}") from None
    if not isinstance(key, EllipticCurvePublicKey) or not isinstance(key.curve, SECP256K1):
        kind = key.curve.name if isinstance(key, EllipticCurvePublicKey) else type(key).__name__
        raise UnusableKey(
            f"the key is of kind {kind}; an approval needs ECC_SECG_P256K1 with usage SIGN_VERIFY"
        )
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return checksummed("0x" + _account_of(point).hex())


def _account_of(point: bytes) -> bytes:
    """The 20 bytes of an address: of an uncompressed point (SEC 1, section 2.3.3)."""
    return keccak(point[1:])[-20:]


def normalise(der: bytes, digest: str, address: str) -> str:
    """65 bytes r ‖ s ‖ v as 0x hex, with low s and v of 27 or 28, verified against `address`.

    `digest` is 32 bytes as 0x hex. Raises UnusableSignature when the DER is malformed, r or s lie
    outside 1 to n - 1, or neither parity recovers to `address`.
    """
    try:
        r, s = decode_dss_signature(der)
    except ValueError as error:
        raise UnusableSignature(f"not a DER signature: {error}") from None
    if not (0 < r < CURVE_ORDER and 0 < s < CURVE_ORDER):
        raise UnusableSignature("r or s lies outside 1 to n - 1")
    s = min(s, CURVE_ORDER - s)
    message_hash, account = bytes.fromhex(digest[2:]), bytes.fromhex(address[2:])
    both = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    for parity in (0, 1):
        try:
            key = PublicKey.from_signature_and_message(both + bytes([parity]), message_hash, None)
        except ValueError:
            continue
        if _account_of(key.format(compressed=False)) == account:
            return f"0x{both.hex()}{27 + parity:x}"
    raise UnusableSignature(f"recovers to no key of {address}: another key, or another digest")
