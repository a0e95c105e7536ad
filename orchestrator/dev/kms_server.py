"""A KMS endpoint for development: the AWS KMS JSON 1.1 protocol over real keys, with faults.

Run by the stack as `python -m orchestrator.dev.kms_server`; for clients it is AWS with another
endpoint. Offered: CreateKey, DescribeKey, ListKeys, GetPublicKey, Sign, DisableKey, EnableKey.
Request signatures (SigV4) are not checked. Protocol: POST /, `X-Amz-Target: TrentService.<Name>`,
binary values in base64, errors as `{"__type", "message"}`; see the AWS KMS API Reference.

Control, for tests (the names are the fields of `Faults`):
    GET/POST /__control/faults       read or set faults; unknown names are refused
    GET  /__control/signatures       {"total", "by_digest": {hex: count}} since the start
    POST /__control/signatures/reset
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import binascii
import hashlib
import json
import random
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from aiohttp import web

from orchestrator.dev.kms_keys import (
    SIGNING_ALGORITHMS,
    KeyStore,
    StoredKey,
    ensure_approver_key,
    prove,
)

_JSON = "application/x-amz-json-1.1"
_ALGORITHMS = {name for names in SIGNING_ALGORITHMS.values() for name in names}


class KmsError(Exception):
    """An error answer of AWS's shape."""

    def __init__(self, kind: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.kind = kind
        self.status = status


@dataclass
class Faults:
    """What goes wrong; all but `down` concern Sign only. Zero means never."""

    latency_ms: float = 0
    jitter_ms: float = 0
    throttle_every: int = 0
    """Every nth Sign is refused with ThrottlingException."""
    quota_per_second: int = 0
    """More Signs than this within a second are throttled, as AWS's shared quota does."""
    lose_every: int = 0
    """Every nth Sign is done and counted, then the connection is closed without the answer."""
    fail_every: int = 0
    """Every nth Sign is answered with KMSInternalException (500)."""
    deny: bool = False
    """Every Sign is refused with AccessDeniedException, as a policy does that lacks it."""
    down: bool = False
    """Every request's connection is closed without an answer."""


class KmsServer:
    """The protocol over a `KeyStore`. Counts every signature it makes, by digest."""

    def __init__(self, store: KeyStore) -> None:
        self.store = store
        self.faults = Faults()
        self.signatures: Counter[str] = Counter()
        self._sign_calls = 0
        self._window = (0, 0)
        self._operations: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
            "CreateKey": self.create_key,
            "DescribeKey": self.describe_key,
            "ListKeys": self.list_keys,
            "GetPublicKey": self.get_public_key,
            "Sign": self.sign,
            "DisableKey": lambda body: self._set_state(body, "Disabled"),
            "EnableKey": lambda body: self._set_state(body, "Enabled"),
        }

    def application(self) -> web.Application:
        app = web.Application()
        app.router.add_post("/", self.handle)
        app.router.add_get("/__control/faults", self.control_faults)
        app.router.add_post("/__control/faults", self.control_faults)
        app.router.add_get("/__control/signatures", self.control_signatures)
        app.router.add_post("/__control/signatures/reset", self.control_reset)
        return app

    async def handle(self, request: web.Request) -> web.StreamResponse:
        """One API call, faults included."""
        body = await request.read()
        if self.faults.down:
            return _hang_up(request)
        operation = request.headers.get("X-Amz-Target", "").removeprefix("TrentService.")
        number = 0
        try:
            if operation not in self._operations:
                raise KmsError("UnknownOperationException", f"no operation {operation!r}")
            if operation == "Sign":
                number = await self._before_sign()
            try:
                parameters = json.loads(body or b"{}")
            except ValueError as error:
                raise KmsError("SerializationException", str(error)) from error
            answer = self._operations[operation](parameters)
        except KmsError as error:
            return web.json_response(
                {"__type": error.kind, "message": str(error)},
                status=error.status,
                content_type=_JSON,
            )
        if number and _is_nth(number, self.faults.lose_every):
            return _hang_up(request)
        return web.json_response(answer, content_type=_JSON)

    async def _before_sign(self) -> int:
        """Delays and refusals; returns the number of this call, from 1."""
        faults = self.faults
        if faults.deny:
            raise KmsError("AccessDeniedException", "not authorized to perform: kms:Sign")
        self._sign_calls += 1
        number = self._sign_calls
        if faults.latency_ms or faults.jitter_ms:
            delay_ms = faults.latency_ms + random.uniform(0, faults.jitter_ms)
            await asyncio.sleep(delay_ms / 1000)
        second, count = self._window
        now = int(time.monotonic())
        self._window = (now, count + 1 if now == second else 1)
        over_quota = bool(faults.quota_per_second) and self._window[1] > faults.quota_per_second
        if over_quota or _is_nth(number, faults.throttle_every):
            raise KmsError(
                "ThrottlingException", "You have exceeded the rate at which you may call KMS"
            )
        if _is_nth(number, faults.fail_every):
            raise KmsError("KMSInternalException", "An internal failure occurred", 500)
        return number

    def _key(self, body: dict[str, Any]) -> StoredKey:
        name = body.get("KeyId")
        if not isinstance(name, str) or not name:
            raise KmsError("ValidationException", "KeyId must be given")
        key = self.store.find(name)
        if key is None:
            raise KmsError("NotFoundException", f"Key '{name}' does not exist")
        return key

    def _usable_key(self, body: dict[str, Any]) -> StoredKey:
        key = self._key(body)
        arn = self.store.arn(key)
        if key.state == "Disabled":
            raise KmsError("DisabledException", f"{arn} is disabled.")
        if key.state != "Enabled":
            raise KmsError("KMSInvalidStateException", f"{arn} is {key.state}.")
        return key

    def _metadata(self, key: StoredKey) -> dict[str, Any]:
        return {
            "AWSAccountId": "000000000000",
            "KeyId": key.key_id,
            "Arn": self.store.arn(key),
            "CreationDate": key.created_at,
            "Enabled": key.state == "Enabled",
            "KeyState": key.state,
            "KeyUsage": "SIGN_VERIFY",
            "KeySpec": key.spec,
            "CustomerMasterKeySpec": key.spec,
            "SigningAlgorithms": key.algorithms,
            "KeyManager": "CUSTOMER",
            "Origin": "AWS_KMS",
            "MultiRegion": False,
        }

    def create_key(self, body: dict[str, Any]) -> dict[str, Any]:
        spec = body.get("KeySpec", body.get("CustomerMasterKeySpec", "SYMMETRIC_DEFAULT"))
        if spec not in SIGNING_ALGORITHMS or body.get("KeyUsage") != "SIGN_VERIFY":
            wanted = ", ".join(SIGNING_ALGORITHMS)
            raise KmsError("ValidationException", f"offered here: SIGN_VERIFY with {wanted}")
        return {"KeyMetadata": self._metadata(self.store.create(spec))}

    def describe_key(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"KeyMetadata": self._metadata(self._key(body))}

    def list_keys(self, _body: dict[str, Any]) -> dict[str, Any]:
        keys = self.store.keys.values()
        rows = [{"KeyId": key.key_id, "KeyArn": self.store.arn(key)} for key in keys]
        return {"Keys": rows, "Truncated": False}

    def get_public_key(self, body: dict[str, Any]) -> dict[str, Any]:
        key = self._usable_key(body)
        return {
            "KeyId": self.store.arn(key),
            "PublicKey": base64.b64encode(key.public_der).decode(),
            "KeySpec": key.spec,
            "CustomerMasterKeySpec": key.spec,
            "KeyUsage": "SIGN_VERIFY",
            "SigningAlgorithms": key.algorithms,
        }

    def sign(self, body: dict[str, Any]) -> dict[str, Any]:
        algorithm = body.get("SigningAlgorithm")
        if algorithm not in _ALGORITHMS:
            raise KmsError("ValidationException", f"SigningAlgorithm {algorithm!r} is not known")
        message_type = body.get("MessageType", "RAW")
        try:
            message = base64.b64decode(body.get("Message", ""), validate=True)
        except (binascii.Error, TypeError) as error:
            raise KmsError("SerializationException", "Message is not base64") from error
        if message_type not in ("RAW", "DIGEST") or not 1 <= len(message) <= 4096:
            raise KmsError("ValidationException", "MessageType or the Message's length is wrong")
        if message_type == "DIGEST" and len(message) != 32:
            raise KmsError(
                "ValidationException", f"Digest is invalid length for algorithm {algorithm}."
            )
        key = self._usable_key(body)
        if algorithm not in key.algorithms:
            raise KmsError(
                "InvalidKeyUsageException",
                f"Algorithm {algorithm} is incompatible with key spec {key.spec}.",
            )
        if body.get("DryRun") is True:
            text = "The request would have succeeded, but the DryRun option is set."
            raise KmsError("DryRunOperationException", text, 412)
        digest = message if message_type == "DIGEST" else hashlib.sha256(message).digest()
        signature = key.sign_digest(digest, algorithm)
        self.signatures[digest.hex()] += 1
        return {
            "KeyId": self.store.arn(key),
            "Signature": base64.b64encode(signature).decode(),
            "SigningAlgorithm": algorithm,
        }

    def _set_state(self, body: dict[str, Any], state: str) -> dict[str, Any]:
        self._key(body).state = state
        self.store.save()
        return {}

    async def control_faults(self, request: web.Request) -> web.Response:
        if request.method == "POST":
            changes = await request.json()
            unknown = set(changes) - {field.name for field in fields(Faults)}
            if unknown:
                return web.json_response({"error": f"unknown: {sorted(unknown)}"}, status=400)
            self.faults = Faults(**(asdict(self.faults) | changes))
        return web.json_response(asdict(self.faults))

    async def control_signatures(self, _request: web.Request) -> web.Response:
        total = sum(self.signatures.values())
        return web.json_response({"total": total, "by_digest": dict(self.signatures)})

    async def control_reset(self, _request: web.Request) -> web.Response:
        self.signatures.clear()
        return web.json_response({})


def _is_nth(number: int, every: int) -> bool:
    return every > 0 and number % every == 0


def _hang_up(request: web.Request) -> web.Response:
    """Close the connection as a lost network would: no answer comes."""
    if request.transport is not None:
        request.transport.abort()
    return web.Response()


def main() -> None:
    """Serve until killed; refuses to start when its key does not prove itself."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.dev.kms_server")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--keys", type=Path, required=True, help="file of the keys, mode 0600")
    parser.add_argument("--region", default="us-east-1")
    options = parser.parse_args()
    prove(ensure_approver_key(options.keys, options.region))
    server = KmsServer(KeyStore(options.keys, options.region))
    web.run_app(
        server.application(),
        host=options.host,
        port=options.port,
        print=lambda *_: None,
        access_log=None,
        shutdown_timeout=0.5,
    )


if __name__ == "__main__":
    main()
