"""Approvals as the service would make them, made here by other means: eth_account and aioboto3."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from eth_account.messages import encode_typed_data
from eth_keys import datatypes as keys
from eth_utils.crypto import keccak

from orchestrator.dev.services import Kms

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141


@asynccontextmanager
async def kms_client(kms: Kms) -> AsyncIterator[Any]:
    """A client as the service has it, but without its retries, so that faults are seen."""
    from botocore.config import Config

    session = aioboto3.Session(
        aws_access_key_id="x", aws_secret_access_key="x", region_name=kms.region
    )
    config = Config(retries={"total_max_attempts": 1}, connect_timeout=2, read_timeout=2)
    async with session.client("kms", endpoint_url=kms.base_url, config=config) as client:
        yield client


def recoverable(der: bytes, digest: bytes, address: str) -> bytes:
    """r, s (low) and v of a DER signature, by recovery against the address."""
    r, s = decode_dss_signature(der)
    s = min(s, ORDER - s)
    for v in (0, 1):
        signature = keys.Signature(vrs=(v, r, s))
        if signature.recover_public_key_from_msg_hash(digest).to_checksum_address() == address:
            return r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + v])
    raise AssertionError("the signature is not by that address")


async def sign(client: Any, kms: Kms, digest: bytes) -> bytes:
    """The KMS's signature over a digest, as the contract takes it."""
    answer = await client.sign(
        KeyId=kms.key_id, Message=digest, MessageType="DIGEST", SigningAlgorithm="ECDSA_SHA_256"
    )
    return recoverable(answer["Signature"], digest, kms.address)


def approval_digest(
    kind: str, chain_id: int, contract: str, account_field: str, values: tuple[Any, ...]
) -> bytes:
    """The EIP-712 digest of (requestId, account, amount, nonce, deadline)."""
    names = ("requestId", account_field, "amount", "nonce", "deadline")
    types = ("string", "address", "uint256", "uint256", "uint256")
    members = [{"name": n, "type": t} for n, t in zip(names, types, strict=True)]
    domain = {
        "name": "Stablecoin",
        "version": "1",
        "chainId": chain_id,
        "verifyingContract": contract,
    }
    message = dict(zip(names, values, strict=True))
    parts = encode_typed_data(domain, {kind: members}, message)
    return keccak(b"\x19" + parts.version + parts.header + parts.body)
