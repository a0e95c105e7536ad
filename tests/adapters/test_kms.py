"""`KmsSigner` on the development KMS passes the contract; and what AWS may answer instead."""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import aioboto3
import pytest
from aiohttp import web
from botocore.exceptions import BotoCoreError, NoCredentialsError, ProfileNotFound
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from orchestrator.adapters.kms import PROBLEM_OF_CODE, KmsSigner, signing_error
from orchestrator.dev.services import Kms
from orchestrator.dev.stack import REGION, EmbeddedStack
from orchestrator.errors import SigningError, SigningProblem, StartRefused
from orchestrator.ports import ApprovalSigner

from .conftest import serving
from .signer_contract import SignerContract, digest_of, recovered

P = SigningProblem
DIGEST = digest_of(1)


@pytest.fixture
async def kms(stack: EmbeddedStack) -> AsyncIterator[Kms]:
    yield stack.kms
    await stack.kms.clear_faults()


@pytest.fixture
async def signer(kms: Kms) -> AsyncIterator[KmsSigner]:
    signer = KmsSigner(kms.key_id, REGION, endpoint_url=kms.base_url, read_timeout_seconds=2)
    yield signer
    await signer.close()


class TestKmsSigner(SignerContract):
    async def test_the_stacks_address(self, kms: Kms, signer: ApprovalSigner) -> None:
        assert await signer.address() == kms.address


async def problem_of(signer: KmsSigner) -> SigningError:
    with pytest.raises(SigningError) as caught:
        await signer.sign(DIGEST)
    return caught.value


async def test_every_call_is_one_request(kms: Kms, signer: KmsSigner) -> None:
    """A throttled or lost call is not repeated here: the agent decides when."""
    digest = digest_of(99)
    await signer.address()
    await kms.set_faults(lose_every=1)
    with pytest.raises(SigningError) as caught:
        await signer.sign(digest)
    assert caught.value.problem is P.UNAVAILABLE
    assert (await kms.signatures())[digest[2:]] == 1
    await kms.clear_faults()
    assert recovered(await signer.sign(digest), digest) == kms.address


@pytest.mark.parametrize(
    ("faults", "expected"),
    [
        ({"throttle_every": 1}, P.THROTTLED),
        ({"fail_every": 1}, P.UNAVAILABLE),
        ({"down": True}, P.UNAVAILABLE),
        ({"latency_ms": 3000}, P.UNAVAILABLE),
    ],
)
async def test_faults_and_recovery(
    kms: Kms, signer: KmsSigner, faults: dict[str, Any], expected: SigningProblem
) -> None:
    await signer.address()
    await kms.set_faults(**faults)
    assert (await problem_of(signer)).problem is expected
    await kms.clear_faults()
    assert recovered(await signer.sign(DIGEST), DIGEST) == kms.address


async def test_whether_it_could_sign_is_asked_without_signing(kms: Kms, signer: KmsSigner) -> None:
    before = await kms.signatures()
    assert await signer.refusal() is None
    await kms.set_faults(deny=True)
    refused = await signer.refusal()
    assert refused is not None and refused.problem is P.DENIED
    assert (await problem_of(signer)).problem is P.DENIED, "as the signature itself"
    assert await kms.signatures() == before


async def test_a_missing_key(kms: Kms) -> None:
    signer = KmsSigner("no-such-key", REGION, endpoint_url=kms.base_url)
    with pytest.raises(StartRefused, match=r"no-such-key in us-east-1.*NotFound.*KMS_KEY_ID"):
        await signer.address()
    assert (await problem_of(signer)).problem is P.KEY_UNUSABLE
    await signer.close()


async def test_a_key_of_another_kind(kms: Kms) -> None:
    client = aioboto3.Session().client("kms", region_name=REGION, endpoint_url=kms.base_url)
    async with client as admin:
        made = await admin.create_key(KeySpec="ECC_NIST_P256", KeyUsage="SIGN_VERIFY")
    signer = KmsSigner(made["KeyMetadata"]["KeyId"], REGION, endpoint_url=kms.base_url)
    with pytest.raises(StartRefused, match=r"is ECC_NIST_P256 .* needs ECC_SECG_P256K1"):
        await signer.address()
    await signer.close()


async def test_a_disabled_key(kms: Kms) -> None:
    client = aioboto3.Session().client("kms", region_name=REGION, endpoint_url=kms.base_url)
    async with client as admin:
        made = await admin.create_key(KeySpec="ECC_SECG_P256K1", KeyUsage="SIGN_VERIFY")
        key_id = made["KeyMetadata"]["KeyId"]
        signer = KmsSigner(key_id, REGION, endpoint_url=kms.base_url)
        await signer.address()
        await admin.disable_key(KeyId=key_id)
        assert (await problem_of(signer)).problem is P.KEY_UNUSABLE
        fresh = KmsSigner(key_id, REGION, endpoint_url=kms.base_url)
        with pytest.raises(StartRefused, match="disabled"):
            await fresh.address()
    await signer.close()
    await fresh.close()


class ScriptedKms:
    """Answers GetPublicKey with its key, and Sign with what the test wants."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256K1())
        self.public_key: dict[str, Any] = {
            "KeySpec": "ECC_SECG_P256K1",
            "KeyUsage": "SIGN_VERIFY",
            "PublicKey": _der(self.key.public_key()),
        }
        self.signed: tuple[int, str] = (200, "{}")
        self.requests: list[str] = []

    async def handle(self, request: web.Request) -> web.StreamResponse:
        operation = request.headers["X-Amz-Target"].removeprefix("TrentService.")
        self.requests.append(operation)
        status, text = self.signed
        if operation == "GetPublicKey":
            status, text = 200, json.dumps(self.public_key)
        return web.Response(status=status, text=text, content_type="application/x-amz-json-1.1")


def _der(key: Any) -> str:
    return base64.b64encode(
        key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    ).decode()


@asynccontextmanager
async def scripted(fake: ScriptedKms) -> AsyncIterator[KmsSigner]:
    async with serving(("POST", "/", fake.handle)) as url:
        signer = KmsSigner("key", REGION, endpoint_url=url)
        try:
            yield signer
        finally:
            await signer.close()


@pytest.fixture
def credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIASECRET")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "SECRET")


@pytest.mark.usefixtures("credentials")
class TestAnswers:
    @pytest.mark.parametrize("code", list(PROBLEM_OF_CODE))
    async def test_codes(self, code: str) -> None:
        fake = ScriptedKms()
        fake.signed = (400, json.dumps({"__type": f"com.amazonaws#{code}", "message": "text"}))
        async with scripted(fake) as signer:
            assert (await problem_of(signer)).problem is PROBLEM_OF_CODE[code]
        assert fake.requests.count("Sign") == 1

    @pytest.mark.parametrize(
        ("status", "text", "expected"),
        [
            (500, "<html>", P.UNAVAILABLE),
            (503, "", P.UNAVAILABLE),
            (429, "{}", P.THROTTLED),
            (418, "{}", P.KEY_UNUSABLE),
            (400, '{"__type":"NewException","message":"m"}', P.KEY_UNUSABLE),
        ],
    )
    async def test_unknown_codes(self, status: int, text: str, expected: SigningProblem) -> None:
        fake = ScriptedKms()
        fake.signed = (status, text)
        async with scripted(fake) as signer:
            assert (await problem_of(signer)).problem is expected

    @pytest.mark.parametrize("signature", [None, "", "AAAA", "MAYCAQECAQE=", "MAYCAQACAQA="])
    async def test_signatures_that_are_none(self, signature: str | None) -> None:
        """Nothing, garbage, (1, 1) and (0, 0): none leaves the adapter."""
        fake = ScriptedKms()
        fake.signed = (200, json.dumps({"Signature": signature} if signature is not None else {}))
        async with scripted(fake) as signer:
            assert (await problem_of(signer)).problem is P.BAD_SIGNATURE

    @pytest.mark.parametrize("text", ["garbage", "[]", "null", '{"Signature": 7}'])
    async def test_answers_that_are_none(self, text: str) -> None:
        fake = ScriptedKms()
        fake.signed = (200, text)
        async with scripted(fake) as signer:
            problem = (await problem_of(signer)).problem
            assert problem in (P.UNAVAILABLE, P.BAD_SIGNATURE)

    @pytest.mark.parametrize(
        ("change", "reason"),
        [
            ({"KeyUsage": "ENCRYPT_DECRYPT"}, "usage ENCRYPT_DECRYPT"),
            ({"KeySpec": "RSA_2048"}, "is RSA_2048"),
            ({"PublicKey": "AAAA"}, "cannot be read"),
            (
                {"PublicKey": _der(ec.generate_private_key(ec.SECP256R1()).public_key())},
                "secp256r1",
            ),
            ({"PublicKey": _der(rsa.generate_private_key(65537, 2048).public_key())}, "RSA"),
        ],
    )
    async def test_public_keys_that_do_not_fit(self, change: dict[str, str], reason: str) -> None:
        fake = ScriptedKms()
        fake.public_key |= change
        async with scripted(fake) as signer:
            with pytest.raises(StartRefused, match=reason):
                await signer.address()

    async def test_the_public_key_is_asked_once(self, kms: Kms) -> None:
        fake = ScriptedKms()
        async with scripted(fake) as signer:
            await signer.address()
            await signer.address()
            await problem_of(signer)
        assert fake.requests == ["GetPublicKey", "Sign"]

    async def test_no_credentials_in_errors(self) -> None:
        """AWS quotes the canonical request, session token included, when a signature is wrong."""
        fake = ScriptedKms()
        for code in PROBLEM_OF_CODE:
            if PROBLEM_OF_CODE[code] is P.DENIED:
                text = {"__type": code, "message": "x-amz-security-token:SECRET AKIASECRET"}
                fake.signed = (400, json.dumps(text))
                async with scripted(fake) as signer:
                    assert "SECRET" not in str(await problem_of(signer))
                    assert "SECRET" not in repr(signer)


async def test_nobody_there(stack: EmbeddedStack) -> None:
    signer = KmsSigner("key", REGION, endpoint_url="http://127.0.0.1:1")
    with pytest.raises(SigningError) as caught:
        await signer.address()
    assert caught.value.problem is P.UNAVAILABLE
    await signer.close()


async def test_a_bad_endpoint(stack: EmbeddedStack) -> None:
    signer = KmsSigner("key", REGION, endpoint_url="nonsense")
    with pytest.raises(StartRefused, match="AWS_ENDPOINT_URL_KMS"):
        await signer.address()
    await signer.close()


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (NoCredentialsError(), P.DENIED),
        (ProfileNotFound(profile="p"), P.DENIED),
        (BotoCoreError(), P.UNAVAILABLE),
    ],
)
def test_botocores_own_errors(error: BotoCoreError, expected: SigningProblem) -> None:
    assert signing_error(error).problem is expected


async def test_connections_are_bounded_and_waiting_is_no_fault(kms: Kms) -> None:
    """Eighty calls over two connections take 40 rounds, longer than a call may take; none times
    out for having waited."""
    await kms.set_faults(latency_ms=100)
    signer = KmsSigner(
        kms.key_id, REGION, endpoint_url=kms.base_url, concurrency=2, read_timeout_seconds=3
    )
    await signer.address()
    started = time.monotonic()
    await asyncio.gather(*(signer.sign(digest_of(number)) for number in range(80)))
    assert time.monotonic() - started > 3.5
    await signer.close()
