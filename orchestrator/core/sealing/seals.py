"""A seal: one day's root, signed, and all that is needed to compute it again.

The signed text is lines that a person can read and `openssl dgst -sha256 -verify` can check. The
key is on the curve P-256, on which no mint approval can be: contracts recover signatures on
secp256k1 only.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
    load_pem_public_key,
)

from orchestrator.core.sealing.hashing import FORMAT, merkle_root, partition_leaf

NONE = "none"
"""What stands for the previous seal in the first one."""
HASH = re.compile(r"[0-9a-f]{64}")
_NO_BRACKET = re.compile(rb"[^\[\]{}]+")
_SHAPE = re.compile(rb"\{\[(?:\{\[(?:\[\])*\]\})+\]\}")
"""The brackets of a seal. Checked before parsing: JSON nested deep enough overflows the parser."""
_PEM_END = b"-----END PUBLIC KEY-----"


class UnreadableSeal(ValueError):
    """The bytes are no seal in its one form; says why."""


class UnusableSealKey(ValueError):
    """No public key on P-256."""


@dataclass(frozen=True, slots=True)
class SealedPartition:
    """One partition's day: records from `start` to below `end`, `records` of them, and the chain
    after the last one. `end` is one above the last record, and `start` where there is none.
    `checkpoints` are the chain at ends in between, so that damage is found in a short range."""

    topic: str
    partition: int
    start: int
    end: int
    records: int
    chain: str
    checkpoints: tuple[tuple[int, str], ...] = ()

    @property
    def seat(self) -> tuple[str, int]:
        return self.topic, self.partition

    def leaf(self) -> bytes:
        return partition_leaf(
            self.topic,
            self.partition,
            (self.start, self.end),
            self.records,
            bytes.fromhex(self.chain),
            [(end, bytes.fromhex(chain)) for end, chain in self.checkpoints],
        )


@dataclass(frozen=True, slots=True)
class Statement:
    """What is signed. `previous` is the hash of the statement of the day before; `key` that of the
    public key (DER SubjectPublicKeyInfo); both SHA-256, hex."""

    log: str
    day: str
    sealed_at: str
    previous: str
    root: str
    key: str

    def text(self) -> bytes:
        lines = (
            FORMAT,
            f"log: {self.log}",
            f"day: {self.day}",
            f"sealed at: {self.sealed_at}",
            f"previous: {self.previous}",
            f"root: {self.root}",
            f"key: {self.key}",
        )
        return "".join(f"{line}\n" for line in lines).encode()

    @property
    def hash(self) -> str:
        return hashlib.sha256(self.text()).hexdigest()


@dataclass(frozen=True, slots=True)
class Seal:
    """A statement with its signature (DER) and with every partition's day, ordered."""

    statement: Statement
    partitions: tuple[SealedPartition, ...]
    signature: bytes
    public_key: bytes

    @property
    def day(self) -> str:
        return self.statement.day

    def document(self) -> bytes:
        """The one form of a seal: a line of canonical JSON, without its end of line."""
        statement = self.statement
        body = {
            "format": FORMAT,
            "log": statement.log,
            "day": statement.day,
            "sealed_at": statement.sealed_at,
            "previous": statement.previous,
            "root": statement.root,
            "key": statement.key,
            "partitions": [
                {
                    "topic": item.topic,
                    "partition": item.partition,
                    "start": item.start,
                    "end": item.end,
                    "records": item.records,
                    "chain": item.chain,
                    "checkpoints": [list(checkpoint) for checkpoint in item.checkpoints],
                }
                for item in self.partitions
            ],
            "signature": base64.b64encode(self.signature).decode(),
            "public_key": base64.b64encode(self.public_key).decode(),
        }
        return json.dumps(body, sort_keys=True, separators=(",", ":")).encode()


def root_of(partitions: Iterable[SealedPartition]) -> str:
    return merkle_root([item.leaf() for item in partitions]).hex()


def next_day(day: str, days: int = 1) -> str:
    return (date.fromisoformat(day) + timedelta(days=days)).isoformat()


def read_seal(document: bytes) -> Seal:
    """Raises UnreadableSeal, also for a seal in another form than `Seal.document` gives it: what no
    hash covers must not be there."""
    if not _SHAPE.fullmatch(_NO_BRACKET.sub(b"", document)):
        raise UnreadableSeal("not a seal: not a JSON object of its shape")
    try:
        body: Any = json.loads(document)
        seal = _seal(body)
        _sound(seal)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        raise UnreadableSeal(f"not a seal: {text}") from None
    if seal.document() != document:
        raise UnreadableSeal("not a seal: it is not in the one form that a seal has")
    return seal


def _seal(body: Any) -> Seal:
    if body["format"] != FORMAT:
        raise ValueError(f"its format is {str(body['format'])[:80]!r}, not {FORMAT!r}")
    names = ("log", "day", "sealed_at", "previous", "root", "key")
    return Seal(
        Statement(**{name: str(body[name]) for name in names}),
        tuple(
            SealedPartition(
                str(item["topic"]),
                int(item["partition"]),
                int(item["start"]),
                int(item["end"]),
                int(item["records"]),
                str(item["chain"]),
                tuple((int(end), str(chain)) for end, chain in item["checkpoints"]),
            )
            for item in body["partitions"]
        ),
        base64.b64decode(body["signature"], validate=True),
        base64.b64decode(body["public_key"], validate=True),
    )


def _sound(seal: Seal) -> None:
    """What a seal must be besides well-formed. Raises ValueError."""
    statement = seal.statement
    if date.fromisoformat(statement.day).isoformat() != statement.day:
        raise ValueError("its day is not written as YYYY-MM-DD")
    if any("\n" in text for text in (statement.log, statement.sealed_at)):
        raise ValueError("a line of its statement has an end in it")
    hashes = [statement.root, statement.key, *(item.chain for item in seal.partitions)]
    hashes += [] if statement.previous == NONE else [statement.previous]
    hashes += [chain for item in seal.partitions for _, chain in item.checkpoints]
    if not all(HASH.fullmatch(text) for text in hashes):
        raise ValueError("one of its hashes is not 64 lower-case hex digits")
    seats = [item.seat for item in seal.partitions]
    if not seats or seats != sorted(set(seats)):
        raise ValueError("its partitions are not in order, each once")
    for item in seal.partitions:
        ends = [item.start, *(end for end, _ in item.checkpoints), item.end]
        if ends[0] < 0 or ends != sorted(ends) or not 0 <= item.records <= item.end - item.start:
            raise ValueError(f"the bounds of {item.topic}/{item.partition} make no sense")


def key_hash(public_key: bytes) -> str:
    return hashlib.sha256(public_key).hexdigest()


def seal_keys(pem: bytes) -> dict[str, bytes]:
    """Public keys by their hash, from PEM text with one or several. Raises UnusableSealKey."""
    found: dict[str, bytes] = {}
    for part in pem.split(_PEM_END)[:-1]:
        try:
            key = load_pem_public_key(part.lstrip() + _PEM_END + b"\n")
            der = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        except (ValueError, UnsupportedAlgorithm) as error:
            raise UnusableSealKey(f"not a public key: {error}") from None
        checked_key(der)
        found[key_hash(der)] = der
    if not found:
        raise UnusableSealKey("no PEM public key in it")
    return found


def checked_key(public_key: bytes) -> ec.EllipticCurvePublicKey:
    """Raises UnusableSealKey for anything but a public key on P-256."""
    try:
        key = load_der_public_key(public_key)
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableSealKey(f"not a public key: {error}") from None
    if not isinstance(key, ec.EllipticCurvePublicKey) or key.curve.name != "secp256r1":
        raise UnusableSealKey("not a key on the curve P-256 (ECC_NIST_P256)")
    return key


def signature_problem(seal: Seal, keys: Mapping[str, bytes]) -> str | None:
    """Why the seal's signature is not one of these keys', by hash; None when it is."""
    public_key = keys.get(seal.statement.key)
    if public_key is None:
        return f"is signed for the key {seal.statement.key}, which is none of those to trust"
    if seal.public_key != public_key:
        return "carries another public key than the one that it is signed for"
    try:
        checked_key(public_key).verify(seal.signature, seal.statement.text(), ec.ECDSA(SHA256()))
    except (InvalidSignature, UnusableSealKey):
        return "has a signature that is not over its statement by its key"
    return None


def seal_problem(seal: Seal, keys: Mapping[str, bytes]) -> str | None:
    """Why a seal by itself cannot be believed; None when it can."""
    if root_of(seal.partitions) != seal.statement.root:
        return "has another root than its partitions give"
    return signature_problem(seal, keys)
