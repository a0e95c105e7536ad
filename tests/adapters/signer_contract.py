"""What every `ports.ApprovalSigner` must do. A subclass gives the fixture `signer`."""

from __future__ import annotations

import asyncio
import hashlib

from eth_keys.main import KeyAPI

from orchestrator.core.signatures import CURVE_ORDER
from orchestrator.ports import ApprovalSigner


def digest_of(number: int) -> str:
    return "0x" + hashlib.sha256(str(number).encode()).hexdigest()


def recovered(signature: str, digest: str) -> str:
    """The address, by another way than the adapter's own check."""
    raw = bytes.fromhex(signature[2:])
    assert len(raw) == 65
    vrs = (raw[64] - 27, int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:64], "big"))
    key = KeyAPI().Signature(vrs=vrs).recover_public_key_from_msg_hash(bytes.fromhex(digest[2:]))
    return str(key.to_checksum_address())


class SignerContract:
    async def test_one_address(self, signer: ApprovalSigner) -> None:
        address = await signer.address()
        assert len(address) == 42
        assert address != address.lower()
        assert await signer.address() == address

    async def test_signatures_recover_to_it(self, signer: ApprovalSigner) -> None:
        """Low s always; that of KMS is high about every second time."""
        address = await signer.address()
        digests = [digest_of(number) for number in range(40)]
        signatures = await asyncio.gather(*(signer.sign(digest) for digest in digests))
        for digest, signature in zip(digests, signatures, strict=True):
            assert signature == signature.lower()
            assert recovered(signature, digest) == address
            assert int(signature[66:130], 16) <= CURVE_ORDER // 2
            assert signature[130:] in ("1b", "1c")
