"""The keys of the development KMS: made, kept and used, without any protocol.

Signatures are as an HSM's: s is high in about half of the answers, the DER length varies, and the
same digest gets another signature each time. Nothing here helps the caller with that, on purpose.
"""

from __future__ import annotations

import json
import secrets
import time
import uuid
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import coincurve
from coincurve._libsecp256k1 import ffi  # type: ignore[import-not-found]
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from eth_keys import datatypes as eth_keys
from eth_utils.address import to_checksum_address

from orchestrator.dev.wallets import write_private

ACCOUNT = "000000000000"
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

SIGNING_ALGORITHMS = {
    "ECC_SECG_P256K1": ["ECDSA_SHA_256"],
    "ECC_NIST_P256": ["ECDSA_SHA_256"],
    "RSA_2048": ["RSASSA_PSS_SHA_256", "RSASSA_PKCS1_V1_5_SHA_256"],
}
"""Key specs that can be created, each with its algorithms, as AWS names them."""

_SECP256K1_ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@dataclass
class StoredKey:
    """One key. `state` is AWS's KeyState: Enabled, Disabled, PendingDeletion, …"""

    key_id: str
    spec: str
    private_key: PrivateKey
    state: str = "Enabled"
    alias: str = ""
    created_at: float = 0.0

    @property
    def algorithms(self) -> list[str]:
        return SIGNING_ALGORITHMS[self.spec]

    @property
    def public_der(self) -> bytes:
        """DER SubjectPublicKeyInfo, as GetPublicKey answers it."""
        return self.private_key.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )

    @property
    def address(self) -> str | None:
        """The EVM address of a secp256k1 key; None for other keys."""
        if self.spec != "ECC_SECG_P256K1":
            return None
        point = self.private_key.public_key().public_bytes(
            serialization.Encoding.X962, serialization.PublicFormat.UncompressedPoint
        )
        return to_checksum_address(eth_keys.PublicKey(point[1:]).to_address())

    def sign_digest(self, digest: bytes, algorithm: str) -> bytes:
        """A signature over a 32-byte digest, which is not hashed again."""
        prehashed = utils.Prehashed(hashes.SHA256())
        if isinstance(self.private_key, rsa.RSAPrivateKey):
            if algorithm == "RSASSA_PSS_SHA_256":
                pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt_length=32)
                return self.private_key.sign(digest, pss, prehashed)
            return self.private_key.sign(digest, padding.PKCS1v15(), prehashed)
        if self.spec == "ECC_SECG_P256K1":
            return self._sign_secp256k1(digest)
        return self.private_key.sign(digest, ec.ECDSA(prehashed))

    def _sign_secp256k1(self, digest: bytes) -> bytes:
        """By libsecp256k1: OpenSSL takes 0.36 ms of processor for one on this curve, which would be
        the larger part of what a benchmark sees of this server. As KMS does it: each time another
        signature, of which half have their s in the upper half."""
        fresh = (ffi.NULL, ffi.from_buffer(secrets.token_bytes(32)))
        r, s = utils.decode_dss_signature(self._fast.sign(digest, None, fresh))
        return utils.encode_dss_signature(r, _SECP256K1_ORDER - s if secrets.randbits(1) else s)

    @cached_property
    def _fast(self) -> coincurve.PrivateKey:
        assert isinstance(self.private_key, ec.EllipticCurvePrivateKey)
        secret = self.private_key.private_numbers().private_value
        return coincurve.PrivateKey(secret.to_bytes(32, "big"))


def new_private_key(spec: str) -> PrivateKey:
    """Raises KeyError for a spec that is not offered."""
    if spec == "RSA_2048":
        return rsa.generate_private_key(public_exponent=65537, key_size=2048)
    curve: ec.EllipticCurve = {"ECC_SECG_P256K1": ec.SECP256K1, "ECC_NIST_P256": ec.SECP256R1}[
        spec
    ]()
    return ec.generate_private_key(curve)


class KeyStore:
    """All keys, kept in one file of mode 0600."""

    def __init__(self, path: Path, region: str) -> None:
        self._path = path
        self.region = region
        self.keys: dict[str, StoredKey] = {}
        if path.exists():
            for row in json.loads(path.read_text()):
                loaded: Any = serialization.load_pem_private_key(row.pop("pem").encode(), None)
                self.keys[row["key_id"]] = StoredKey(private_key=loaded, **row)

    def create(self, spec: str, alias: str = "") -> StoredKey:
        key = StoredKey(
            str(uuid.uuid4()), spec, new_private_key(spec), alias=alias, created_at=time.time()
        )
        self.keys[key.key_id] = key
        self.save()
        return key

    def save(self) -> None:
        rows = [
            {
                "key_id": key.key_id,
                "spec": key.spec,
                "state": key.state,
                "alias": key.alias,
                "created_at": key.created_at,
                "pem": key.private_key.private_bytes(
                    serialization.Encoding.PEM,
                    serialization.PrivateFormat.PKCS8,
                    serialization.NoEncryption(),
                ).decode(),
            }
            for key in self.keys.values()
        ]
        write_private(self._path, json.dumps(rows, indent=2) + "\n")

    def find(self, name: str) -> StoredKey | None:
        """By key id, key ARN, alias name or alias ARN."""
        short = name.rpartition(":")[2] if name.startswith("arn:") else name
        if short.startswith("alias/"):
            return next((key for key in self.keys.values() if key.alias == short), None)
        return self.keys.get(short.removeprefix("key/"))

    def arn(self, key: StoredKey) -> str:
        return f"arn:aws:kms:{self.region}:{ACCOUNT}:key/{key.key_id}"


def ensure_approver_key(path: Path, region: str) -> StoredKey:
    """The store's first secp256k1 key, made when there is none. Not for a running server's file."""
    store = KeyStore(path, region)
    for key in store.keys.values():
        if key.spec == "ECC_SECG_P256K1":
            return key
    return store.create("ECC_SECG_P256K1", alias="alias/stablecoin-approver")


def prove(key: StoredKey) -> None:
    """Sign a digest and recover the key's own address from (r, s, v); RuntimeError if it differs.

    This is what a KMS that hashes a digest again fails.
    """
    digest = bytes(range(32))
    r, s = utils.decode_dss_signature(key.sign_digest(digest, "ECDSA_SHA_256"))
    low_s = min(s, _SECP256K1_ORDER - s)
    candidates = [
        eth_keys.Signature(vrs=(v, r, low_s)).recover_public_key_from_msg_hash(digest)
        for v in (0, 1)
    ]
    if key.address not in [candidate.to_checksum_address() for candidate in candidates]:
        raise RuntimeError(f"the key {key.key_id} does not sign digests as they are")
