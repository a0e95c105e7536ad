"""The KMS endpoint keeps AWS's contract, its unpleasant parts included."""

from __future__ import annotations

import asyncio
import hashlib
import os
from typing import Any

import pytest
from botocore.exceptions import BotoCoreError, ClientError
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import load_der_public_key
from eth_keys import datatypes as keys

from orchestrator.dev.stack import EmbeddedStack

from .approvals import ORDER, kms_client, recoverable


async def _sign(client: Any, key_id: str, message: bytes, **changes: Any) -> bytes:
    arguments = {"MessageType": "DIGEST", "SigningAlgorithm": "ECDSA_SHA_256", **changes}
    answer = await client.sign(KeyId=key_id, Message=message, **arguments)
    return bytes(answer["Signature"])


async def _error_code(awaitable: Any) -> str:
    with pytest.raises(ClientError) as caught:
        await awaitable
    return str(caught.value.response["Error"]["Code"])


@pytest.mark.asyncio
async def test_digests_are_signed_as_they_are_and_high_s_occurs(servers: EmbeddedStack) -> None:
    async with kms_client(servers.kms) as client:
        high = 0
        for _ in range(40):
            digest = os.urandom(32)
            der = await _sign(client, servers.kms.key_id, digest)
            recoverable(der, digest, servers.kms.address)
            high += decode_dss_signature(der)[1] > ORDER // 2
        assert 5 <= high <= 35


@pytest.mark.asyncio
async def test_raw_messages_are_hashed(servers: EmbeddedStack) -> None:
    async with kms_client(servers.kms) as client:
        der = await _sign(client, servers.kms.key_id, b"text", MessageType="RAW")
    recoverable(der, hashlib.sha256(b"text").digest(), servers.kms.address)


@pytest.mark.asyncio
async def test_public_key_is_the_address(servers: EmbeddedStack) -> None:
    async with kms_client(servers.kms) as client:
        for name in (servers.kms.key_id, servers.kms.key_arn, "alias/stablecoin-approver"):
            answer = await client.get_public_key(KeyId=name)
            public: Any = load_der_public_key(answer["PublicKey"])
            point = public.public_numbers()
            raw = point.x.to_bytes(32, "big") + point.y.to_bytes(32, "big")
            assert keys.PublicKey(raw).to_checksum_address() == servers.kms.address
            assert answer["KeySpec"] == "ECC_SECG_P256K1"
        listed = await client.list_keys()
        assert servers.kms.key_id in [row["KeyId"] for row in listed["Keys"]]


@pytest.mark.asyncio
async def test_wrong_keys_are_refused(servers: EmbeddedStack) -> None:
    async with kms_client(servers.kms) as client:
        created = await client.create_key(KeySpec="RSA_2048", KeyUsage="SIGN_VERIFY")
        rsa = created["KeyMetadata"]["KeyId"]
        assert await _error_code(_sign(client, rsa, bytes(32))) == "InvalidKeyUsageException"
        described = await client.describe_key(KeyId=rsa)
        assert described["KeyMetadata"]["KeySpec"] == "RSA_2048"
        created = await client.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
        curve = created["KeyMetadata"]["KeyId"]
        assert await _sign(client, curve, bytes(32))
        await client.disable_key(KeyId=curve)
        assert await _error_code(_sign(client, curve, bytes(32))) == "DisabledException"
        assert await _error_code(_sign(client, "nobody", bytes(32))) == "NotFoundException"
        short = _sign(client, servers.kms.key_id, bytes(31))
        assert await _error_code(short) == "ValidationException"


@pytest.mark.asyncio
async def test_faults(servers: EmbeddedStack) -> None:
    kms = servers.kms
    async with kms_client(kms) as client:
        try:
            await kms.set_faults(throttle_every=1)
            assert await _error_code(_sign(client, kms.key_id, bytes(32))) == "ThrottlingException"
            await kms.set_faults(throttle_every=0, fail_every=1)
            assert await _error_code(_sign(client, kms.key_id, bytes(32))) == "KMSInternalException"
            await kms.set_faults(fail_every=0, lose_every=1)
            digest = os.urandom(32)
            with pytest.raises(BotoCoreError):
                await _sign(client, kms.key_id, digest)
            assert (await kms.signatures())[digest.hex()] == 1
            await kms.set_faults(lose_every=0, down=True)
            with pytest.raises(BotoCoreError):
                await client.list_keys()
            await kms.set_faults(down=False, latency_ms=300)
            started = asyncio.get_running_loop().time()
            await _sign(client, kms.key_id, digest)
            assert asyncio.get_running_loop().time() - started >= 0.3
            assert (await kms.signatures())[digest.hex()] == 2
        finally:
            await kms.clear_faults()


@pytest.mark.asyncio
async def test_restart_after_a_kill_keeps_the_address(servers: EmbeddedStack) -> None:
    await servers.kms.kill()
    await servers.kms.start()
    async with kms_client(servers.kms) as client:
        digest = os.urandom(32)
        der = await _sign(client, servers.kms.key_id, digest)
        recoverable(der, digest, servers.kms.address)
    assert (servers.data_dir / "kms" / "keys.json").stat().st_mode & 0o777 == 0o600
