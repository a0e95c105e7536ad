"""That one record stood on the log when its day was sealed: a proof that needs no other record.

The chain gives it: from the record to the next value that a seal names there are fewer than
CHECKPOINT_RECORDS hashes, whatever the day's size. They lead to the checkpoint, that to the
partition's leaf, that by the tree to the root, that to the signed statement. docs/seals.md tells
how to check one elsewhere; what is said twice in it is there so that a refusal names its part.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from orchestrator.core.sealing.hashing import (
    Logged,
    chain_start,
    chained,
    climbed,
    merkle_path,
    record_digest,
)
from orchestrator.core.sealing.seals import (
    HASH,
    Seal,
    SealedPartition,
    Statement,
    signature_problem,
)

FORMAT = "stablecoin-orchestrator seal proof 1"
DEEPEST = 5
"""Brackets within each other: a header's value in base64."""
_TEXT = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_BRACKET = re.compile(rb"[\[\]{}]")
LARGEST_PROOF_BYTES = 64 * 1024 * 1024


class UnreadableProof(ValueError):
    """The bytes are no proof in its one form; says why."""


class CannotProve(ValueError):
    """There is no proof of this record by this seal; says why."""


class Part(StrEnum):
    """What of a proof is checked, in this order: each by its field's name."""

    RECORD = "record"
    CHAIN = "chain"
    PARTITION = "partition"
    PATH = "path"
    STATEMENT = "statement"
    SIGNATURE = "signature"
    KEY = "key"
    ANCHOR = "anchor"


@dataclass(frozen=True, slots=True)
class Checked:
    """`detail` says what holds or what does not."""

    part: Part
    holds: bool
    detail: str


@dataclass(frozen=True, slots=True)
class Proof:
    """`before` is the chain before the record, `after` are the hashes of the records behind it up
    to `end`, where the seal names a value of the chain. `path` leads from the partition's leaf to
    the root. Hashes are lower-case hex."""

    record: Logged
    record_hash: str
    before: str
    after: tuple[str, ...]
    end: int
    partition: SealedPartition
    leaf: str
    path: tuple[tuple[str, str], ...]
    statement: Statement
    statement_hash: str
    signature: bytes
    public_key: bytes

    @property
    def place(self) -> str:
        return "/".join(map(str, self.record[:3]))

    def document(self) -> bytes:
        """One line of canonical JSON, without its end."""
        return json.dumps(self.body(), sort_keys=True, separators=(",", ":")).encode()

    def body(self) -> dict[str, Any]:
        record, partition, statement = self.record, self.partition, self.statement
        return {
            "format": FORMAT,
            "record": {
                "topic": record.topic,
                "partition": record.partition,
                "offset": record.offset,
                "timestamp_ms": record.timestamp_ms,
                "key": _shown(record.key),
                "value": _shown(record.value),
                "headers": [[name, _shown(value)] for name, value in record.headers],
                "hash": self.record_hash,
            },
            "chain": {"before": self.before, "after": list(self.after), "end": self.end},
            "partition": {
                "topic": partition.topic,
                "partition": partition.partition,
                "start": partition.start,
                "end": partition.end,
                "records": partition.records,
                "chain": partition.chain,
                "checkpoints": [list(one) for one in partition.checkpoints],
                "leaf": self.leaf,
            },
            "path": [list(step) for step in self.path],
            "statement": {
                **{name: getattr(statement, name) for name in _STATED},
                "hash": self.statement_hash,
            },
            "signature": base64.b64encode(self.signature).decode(),
            "key": base64.b64encode(self.public_key).decode(),
        }


_STATED = ("log", "day", "sealed_at", "previous", "root", "key")


@dataclass(frozen=True, slots=True)
class Stretch:
    """The records of a partition between two values of the chain that a seal names: from `start`
    with `before` to `end` with `after`."""

    seal: Seal
    partition: SealedPartition
    start: int
    before: bytes
    end: int
    after: bytes


def stretch_of(seals: Sequence[Seal], place: tuple[str, int, int]) -> Stretch:
    """Where a record's proof is read from. `seals` follow each other from the first one on. Raises
    CannotProve."""
    topic, number, offset = place
    before, sealed_to = chain_start(topic, number), 0
    for seal in seals:
        for item in seal.partitions:
            if item.seat != (topic, number):
                continue
            start = item.start
            for end, chain in (*item.checkpoints, (item.end, item.chain)):
                if start <= offset < end:
                    return Stretch(seal, item, start, before, end, bytes.fromhex(chain))
                start, before = end, bytes.fromhex(chain)
            sealed_to = item.end
    raise CannotProve(f"{topic}/{number} is sealed up to {sealed_to}, and not yet at {offset}")


def proved(stretch: Stretch, offset: int, records: Sequence[Logged]) -> Proof:
    """`records` are all of the stretch, in their order. Raises CannotProve, also when they are not
    those that were sealed."""
    hashes = [record_digest(record) for record in records]
    chain, chains = stretch.before, []
    for one in hashes:
        chains.append(chain)
        chain = chained(chain, one)
    if chain != stretch.after:
        text = f"what stands from {stretch.start} to {stretch.end - 1} is not what was sealed"
        raise CannotProve(text)
    index = next((n for n, record in enumerate(records) if record.offset == offset), None)
    if index is None:
        raise CannotProve("no committed record stands there: a hole, or a transaction's marker")
    seal, leaves = stretch.seal, [item.leaf() for item in stretch.seal.partitions]
    path = merkle_path(leaves, seal.partitions.index(stretch.partition))
    return Proof(
        records[index],
        hashes[index].hex(),
        chains[index].hex(),
        tuple(one.hex() for one in hashes[index + 1 :]),
        stretch.end,
        stretch.partition,
        stretch.partition.leaf().hex(),
        tuple((side, sibling.hex()) for side, sibling in path),
        seal.statement,
        seal.statement.hash,
        seal.signature,
        seal.public_key,
    )


def check(
    proof: Proof, keys: Mapping[str, bytes], anchored: Mapping[str, Seal] | None = None
) -> list[Checked]:
    """Every check, also after one that fails. `keys` are public keys to trust, by their hash;
    `anchored` the seals of an anchor by day, None where none was asked."""
    return [
        *_record(proof),
        _chain(proof),
        _partition(proof),
        _path(proof),
        *_signed(proof, keys),
        *([] if anchored is None else [_anchor(proof, anchored.get(proof.statement.day))]),
    ]


def _said(part: Part, problem: str | None, well: str) -> Checked:
    return Checked(part, problem is None, problem or well)


def _record(proof: Proof) -> list[Checked]:
    problem = None
    if record_digest(proof.record).hex() != proof.record_hash:
        problem = "topic, partition, offset, time, key, value or headers do not give its hash"
    return [_said(Part.RECORD, problem, f"{proof.place} gives its hash")]


def _chain(proof: Proof) -> Checked:
    """From the record's hash, as stated, to a value that the partition names; and it is there that
    the record stands, so that no longer chain brings in one of another day."""
    chain = bytes.fromhex(proof.before)
    for one in (proof.record_hash, *proof.after):
        chain = chained(chain, bytes.fromhex(one))
    item, start = proof.partition, proof.partition.start
    problem = f"{proof.end} is no end that the seal names"
    for end, sealed in (*item.checkpoints, (item.end, item.chain)):
        if end == proof.end:
            problem = ""
            if chain.hex() != sealed:
                problem = "before, the record's hash and after do not give the chain at its end"
            elif not start <= proof.record.offset < end or item.seat != proof.record[:2]:
                problem = f"the record does not stand from {start} to {end - 1} of that partition"
            break
        start = end
    count = len(proof.after)
    return _said(Part.CHAIN, problem or None, f"{count} hashes lead to the chain at {proof.end}")


def _partition(proof: Proof) -> Checked:
    same = proof.partition.leaf().hex() == proof.leaf
    problem = None if same else "bounds, chain or checkpoints do not give its leaf"
    return _said(Part.PARTITION, problem, f"{len(proof.partition.checkpoints)} checkpoints")


def _path(proof: Proof) -> Checked:
    steps = [(side, bytes.fromhex(sibling)) for side, sibling in proof.path]
    same = climbed(bytes.fromhex(proof.leaf), steps).hex() == proof.statement.root
    problem = None if same else "the leaf and its siblings do not give the root"
    return _said(Part.PATH, problem, f"{len(steps)} siblings lead to the root")


def _signed(proof: Proof, keys: Mapping[str, bytes]) -> list[Checked]:
    statement = proof.statement
    same = statement.hash == proof.statement_hash
    seal = Seal(statement, (), proof.signature, proof.public_key)
    trusted = keys.get(statement.key)
    foreign = signature_problem(seal, {statement.key: proof.public_key})
    unknown = None
    if trusted is None:
        unknown = f"is signed for the key {statement.key}, which is none of those to trust"
    elif trusted != proof.public_key:
        unknown = "it carries another public key than the one that it is signed for"
    return [
        _said(Part.STATEMENT, None if same else "its lines do not give its hash", statement.day),
        _said(Part.SIGNATURE, foreign, "over the statement by the key"),
        _said(Part.KEY, unknown, statement.key),
    ]


def _anchor(proof: Proof, seal: Seal | None) -> Checked:
    day, problem = proof.statement.day, None
    if seal is None:
        problem = f"the anchor holds no seal of {day}"
    elif seal.statement != proof.statement:
        problem = f"the anchor holds another seal of {day}"
    return _said(Part.ANCHOR, problem, f"the anchor holds this very seal of {day}")


def read_proof(document: bytes) -> Proof:
    """Raises UnreadableProof, also for what has more or less in it than `Proof.document` gives:
    what nothing checks must not be there. Spaces and line ends between are free."""
    if _depth(document) > DEEPEST:
        raise UnreadableProof("not a proof: nested too deep")
    try:
        body = json.loads(document, object_pairs_hook=_once)
        proof = _proof(body)
        _sound(proof)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        text = f"{type(error).__name__}: {error}" if not isinstance(error, ValueError) else error
        raise UnreadableProof(f"not a proof: {text}") from None
    if json.dumps(proof.body(), sort_keys=True) != json.dumps(body, sort_keys=True):
        raise UnreadableProof("not a proof: it is not in the one form that a proof has")
    return proof


def _depth(document: bytes) -> int:
    """Of brackets that open, outside of texts. Asked before parsing: JSON nested deep enough
    overflows the parser."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(_TEXT.sub(b"", document)):
        depth += 1 if bracket in b"[{" else -1
        deepest = max(deepest, depth)
    return deepest


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in it")
    return found


def _proof(body: Any) -> Proof:
    if body["format"] != FORMAT:
        raise ValueError(f"its format is {str(body['format'])[:80]!r}, not {FORMAT!r}")
    record, chain, item = body["record"], body["chain"], body["partition"]
    return Proof(
        Logged(
            str(record["topic"]),
            int(record["partition"]),
            int(record["offset"]),
            int(record["timestamp_ms"]),
            _bytes(record["key"]),
            _bytes(record["value"]),
            tuple((str(name), _bytes(value)) for name, value in record["headers"]),
        ),
        str(record["hash"]),
        str(chain["before"]),
        tuple(str(one) for one in chain["after"]),
        int(chain["end"]),
        SealedPartition(
            str(item["topic"]),
            int(item["partition"]),
            int(item["start"]),
            int(item["end"]),
            int(item["records"]),
            str(item["chain"]),
            tuple((int(end), str(value)) for end, value in item["checkpoints"]),
        ),
        str(item["leaf"]),
        tuple((str(side), str(sibling)) for side, sibling in body["path"]),
        Statement(**{name: str(body["statement"][name]) for name in _STATED}),
        str(body["statement"]["hash"]),
        base64.b64decode(body["signature"], validate=True),
        base64.b64decode(body["key"], validate=True),
    )


def _sound(proof: Proof) -> None:
    """Raises ValueError."""
    statement = proof.statement
    if any("\n" in getattr(statement, name) for name in _STATED):
        raise ValueError("a line of its statement has an end in it")
    item = proof.partition
    hashes = [proof.record_hash, proof.before, *proof.after, item.chain, proof.leaf]
    hashes += [chain for _, chain in item.checkpoints] + [one for _, one in proof.path]
    hashes += [statement.root, statement.key, proof.statement_hash]
    if not all(HASH.fullmatch(one) for one in hashes):
        raise ValueError("one of its hashes is not 64 lower-case hex digits")
    if any(side not in ("left", "right") for side, _ in proof.path):
        raise ValueError("a side of its path is neither left nor right")


def _shown(value: bytes | None) -> Any:
    """Text where it is text, else base64 in an object."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def _bytes(value: Any) -> bytes | None:
    if value is None:
        return None
    if isinstance(value, Mapping):
        return base64.b64decode(value["base64"], validate=True)
    return str(value).encode()
