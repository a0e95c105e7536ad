"""The key of seals in AWS KMS: another key than the issuer's, and of another kind.

`ECC_NIST_P256`, so that no signature of it can be a mint approval (contracts recover secp256k1
signatures), whatever was signed; and `MessageType=RAW`, so that KMS hashes the text itself and the
key's policy can refuse every digest.
"""

from __future__ import annotations

from orchestrator.adapters.kms import KmsKey
from orchestrator.core.sealing.seals import UnusableSealKey, checked_key
from orchestrator.errors import SigningError, SigningProblem, StartRefused

KEY_SPEC = "ECC_NIST_P256"
KEY_USAGE = "SIGN_VERIFY"


class KmsSealKey(KmsKey):
    """`ports.SealKey` on one KMS key."""

    _public_key: bytes | None = None

    async def public_key(self) -> bytes:
        if self._public_key is None:
            try:
                answer = await self._call("get_public_key", KeyId=self._key_id)
            except SigningError as error:
                if error.problem in (SigningProblem.THROTTLED, SigningProblem.UNAVAILABLE):
                    raise
                raise StartRefused(f"{self._about()} cannot sign seals: {error}") from None
            spec, usage = answer.get("KeySpec"), answer.get("KeyUsage")
            if spec != KEY_SPEC or usage != KEY_USAGE:
                raise StartRefused(
                    f"{self._about()} is {spec} with usage {usage}; seals need {KEY_SPEC} with "
                    f"usage {KEY_USAGE}, a key of their own: create one and set SEAL_KMS_KEY_ID"
                )
            public_key = bytes(answer.get("PublicKey", b""))
            try:
                checked_key(public_key)
            except UnusableSealKey as error:
                raise StartRefused(f"{self._about()}: {error}") from None
            self._public_key = public_key
        return self._public_key

    async def sign(self, text: bytes) -> bytes:
        answer = await self._call(
            "sign",
            KeyId=self._key_id,
            Message=text,
            MessageType="RAW",
            SigningAlgorithm="ECDSA_SHA_256",
        )
        return bytes(answer.get("Signature", b""))
