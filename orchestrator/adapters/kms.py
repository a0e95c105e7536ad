"""The issuer's key in AWS KMS.

Two operations only, GetPublicKey and Sign (AWS KMS API Reference). What KMS answers is turned into
an address and into (r, s, v) by the pure `core.signatures`; a signature leaves this module only
after it was verified against the key's address.

Retrying belongs to the agent, whose backoff is bounded, jittered and visible: botocore tries once.
"""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from hashlib import sha256
from importlib.metadata import version
from typing import Any

import aioboto3
from aiobotocore.config import AioConfig
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    ProfileNotFound,
    SSOError,
    TokenRetrievalError,
)

from orchestrator.core.signatures import UnusableKey, UnusableSignature, address_of, normalise
from orchestrator.errors import SigningError, SigningProblem, StartRefused
from orchestrator.metrics import KMS_ERRORS, KMS_SECONDS, timed

USER_AGENT = f"stablecoin-orchestrator/{version('stablecoin-orchestrator')}"
"""What CloudTrail shows of who asked. Given whole: botocore makes its own anew at each call,
which was a seventh of a signature."""
KEY_SPEC = "ECC_SECG_P256K1"
KEY_USAGE = "SIGN_VERIFY"
REHEARSAL_DIGEST = "0x" + sha256(b"orchestrator doctor asks whether it could sign").hexdigest()

_DENIED_HINT = "allow kms:GetPublicKey and kms:Sign on the key, check the credentials and the clock"
_UNUSABLE_HINT = "check KMS_KEY_ID (SEAL_KMS_KEY_ID), AWS_REGION and that the key is enabled"

PROBLEM_OF_CODE = {
    "ThrottlingException": SigningProblem.THROTTLED,
    "Throttling": SigningProblem.THROTTLED,
    "LimitExceededException": SigningProblem.THROTTLED,
    "RequestLimitExceeded": SigningProblem.THROTTLED,
    "TooManyRequestsException": SigningProblem.THROTTLED,
    "KMSInternalException": SigningProblem.UNAVAILABLE,
    "DependencyTimeoutException": SigningProblem.UNAVAILABLE,
    "KeyUnavailableException": SigningProblem.UNAVAILABLE,
    "InternalFailure": SigningProblem.UNAVAILABLE,
    "ServiceUnavailable": SigningProblem.UNAVAILABLE,
    "AccessDeniedException": SigningProblem.DENIED,
    "AccessDenied": SigningProblem.DENIED,
    "UnrecognizedClientException": SigningProblem.DENIED,
    "InvalidClientTokenId": SigningProblem.DENIED,
    "ExpiredTokenException": SigningProblem.DENIED,
    "ExpiredToken": SigningProblem.DENIED,
    "RequestExpired": SigningProblem.DENIED,
    "InvalidSignatureException": SigningProblem.DENIED,
    "IncompleteSignature": SigningProblem.DENIED,
    "MissingAuthenticationToken": SigningProblem.DENIED,
    "MissingAuthenticationTokenException": SigningProblem.DENIED,
    "NotAuthorized": SigningProblem.DENIED,
    "OptInRequired": SigningProblem.DENIED,
    "InvalidGrantTokenException": SigningProblem.DENIED,
    "NotFoundException": SigningProblem.KEY_UNUSABLE,
    "DisabledException": SigningProblem.KEY_UNUSABLE,
    "KMSInvalidStateException": SigningProblem.KEY_UNUSABLE,
    "InvalidKeyUsageException": SigningProblem.KEY_UNUSABLE,
    "InvalidArnException": SigningProblem.KEY_UNUSABLE,
    "UnsupportedOperationException": SigningProblem.KEY_UNUSABLE,
    "ValidationException": SigningProblem.KEY_UNUSABLE,
}
"""Error codes of KMS and of AWS's common errors. A code that is not here counts as UNAVAILABLE when
the HTTP status is 429 or 5xx (THROTTLED for 429), as KEY_UNUSABLE otherwise: a person must look."""

_NO_CREDENTIALS = (
    NoCredentialsError,
    PartialCredentialsError,
    CredentialRetrievalError,
    TokenRetrievalError,
    ProfileNotFound,
    SSOError,
)


def signing_error(error: BotoCoreError | ClientError) -> SigningError:
    """The one place where botocore's errors get their meaning.

    AWS's own text is shown for unusable keys only: a refused signature's text quotes the canonical
    request, session token included.
    """
    if isinstance(error, ClientError):
        code = str(error.response.get("Error", {}).get("Code", "unknown"))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        problem = PROBLEM_OF_CODE.get(code) or _problem_of_status(status)
        if problem is SigningProblem.DENIED:
            return SigningError(problem, f"{code}; {_DENIED_HINT}")
        if problem is SigningProblem.KEY_UNUSABLE:
            text = str(error.response.get("Error", {}).get("Message", ""))[:300]
            return SigningError(problem, f"{code}: {text}; {_UNUSABLE_HINT}")
        return SigningError(problem, f"{code} (HTTP {status})")
    if isinstance(error, _NO_CREDENTIALS):
        return SigningError(SigningProblem.DENIED, f"{type(error).__name__}; {_DENIED_HINT}")
    if isinstance(error, ParamValidationError):
        return SigningError(
            SigningProblem.KEY_UNUSABLE, f"the key id is not valid; {_UNUSABLE_HINT}"
        )
    return SigningError(SigningProblem.UNAVAILABLE, type(error).__name__)


def _problem_of_status(status: int) -> SigningProblem:
    if status == 429:
        return SigningProblem.THROTTLED
    return SigningProblem.UNAVAILABLE if status >= 500 else SigningProblem.KEY_UNUSABLE


class KmsKey:
    """One KMS key: calls, with their errors classified. One client, opened at first use, until
    `close`.

    `concurrency` bounds the connections; more calls than that wait for one. Times in seconds.
    """

    def __init__(
        self,
        key_id: str,
        region: str,
        *,
        endpoint_url: str | None = None,
        concurrency: int = 32,
        connect_timeout_seconds: float = 3.0,
        read_timeout_seconds: float = 10.0,
    ) -> None:
        self._key_id = key_id
        self._region = region
        self._endpoint_url = endpoint_url
        self._config = AioConfig(
            connect_timeout=connect_timeout_seconds,
            read_timeout=read_timeout_seconds,
            max_pool_connections=concurrency,
            retries={"total_max_attempts": 1, "mode": "standard"},
            user_agent=USER_AGENT,
        )
        self._opening = asyncio.Lock()
        self._resources = AsyncExitStack()
        self._client: Any = None

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self._key_id}, {self._region})"

    async def close(self) -> None:
        self._client = None
        await self._resources.aclose()

    async def _call(self, operation: str, **arguments: Any) -> dict[str, Any]:
        with timed(KMS_SECONDS, operation):
            try:
                return await self._asked(operation, arguments)
            except SigningError as error:
                KMS_ERRORS.labels(operation, error.problem).inc()
                raise

    async def _asked(self, operation: str, arguments: dict[str, Any]) -> dict[str, Any]:
        try:
            client = self._client or await self._opened()
            answer: dict[str, Any] = await getattr(client, operation)(**arguments)
        except (BotoCoreError, ClientError) as error:
            raise signing_error(error) from None
        except (ValueError, TypeError, AttributeError, KeyError, OSError) as error:
            # What botocore's parser lets through when a 200 is not what KMS answers.
            kind = type(error).__name__
            text = f"the answer cannot be read ({kind}); is something else answering for KMS?"
            raise SigningError(SigningProblem.UNAVAILABLE, text) from None
        return answer

    async def _opened(self) -> Any:
        async with self._opening:
            if self._client is None:
                client = aioboto3.Session().client(
                    "kms",
                    region_name=self._region,
                    endpoint_url=self._endpoint_url,
                    config=self._config,
                )
                try:
                    self._client = await self._resources.enter_async_context(client)
                except ValueError:
                    text = "AWS_ENDPOINT_URL_KMS is no valid URL, or AWS_REGION no region"
                    raise SigningError(SigningProblem.KEY_UNUSABLE, text) from None
            return self._client

    def _about(self) -> str:
        return f"the KMS key {self._key_id} in {self._region}"


class KmsSigner(KmsKey):
    """`ports.ApprovalSigner` on one KMS key."""

    _address: str | None = None

    async def address(self) -> str:
        """The key's checksummed address, asked once.

        Raises StartRefused for a key that cannot sign approvals or may not be used, and
        SigningError (THROTTLED, UNAVAILABLE) for trouble that passes.
        """
        if self._address is None:
            try:
                answer = await self._call("get_public_key", KeyId=self._key_id)
            except SigningError as error:
                if error.problem in (SigningProblem.THROTTLED, SigningProblem.UNAVAILABLE):
                    raise
                raise StartRefused(f"{self._about()} cannot be used: {error}") from None
            self._address = self._checked_address(answer)
        return self._address

    def _checked_address(self, answer: dict[str, Any]) -> str:
        spec = answer.get("KeySpec") or answer.get("CustomerMasterKeySpec")
        usage = answer.get("KeyUsage")
        if spec != KEY_SPEC or usage != KEY_USAGE:
            raise StartRefused(
                f"{self._about()} is {spec} with usage {usage}; an approval needs {KEY_SPEC} with "
                f"usage {KEY_USAGE}: create such a key and set KMS_KEY_ID"
            )
        try:
            return address_of(answer.get("PublicKey", b""))
        except UnusableKey as error:
            raise StartRefused(f"{self._about()}: {error}") from None

    async def refusal(self) -> SigningError | None:
        """Why this identity could not sign now; None when it could. Nothing is signed: with
        `DryRun` KMS judges the call and refuses it even so (AWS KMS API Reference, Sign). What is
        asked for is no approval, should something else answer for KMS. Not counted as an error."""
        arguments = self._arguments(REHEARSAL_DIGEST) | {"DryRun": True}
        try:
            client = self._client or await self._opened()
            await client.sign(**arguments)
        except ClientError as error:
            if error.response.get("Error", {}).get("Code") == "DryRunOperationException":
                return None
            return signing_error(error)
        except BotoCoreError as error:
            return signing_error(error)
        except SigningError as error:
            return error
        return None

    async def sign(self, digest: str) -> str:
        """65 bytes r ‖ s ‖ v as 0x hex for a 32-byte digest (0x hex). Raises SigningError."""
        try:
            address = await self.address()
        except StartRefused as error:
            raise SigningError(SigningProblem.KEY_UNUSABLE, str(error)) from None
        answer = await self._call("sign", **self._arguments(digest))
        try:
            return normalise(answer.get("Signature", b""), digest, address)
        except UnusableSignature as error:
            KMS_ERRORS.labels("sign", SigningProblem.BAD_SIGNATURE).inc()
            raise SigningError(SigningProblem.BAD_SIGNATURE, str(error)) from None

    def _arguments(self, digest: str) -> dict[str, Any]:
        return {
            "KeyId": self._key_id,
            "Message": bytes.fromhex(digest[2:]),
            "MessageType": "DIGEST",
            "SigningAlgorithm": "ECDSA_SHA_256",
        }
