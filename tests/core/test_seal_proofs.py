"""Proofs of single records: they hold, for an outsider too, and no change goes unseen."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import load_der_public_key
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.sealing.growing import CHECKPOINT_RECORDS
from orchestrator.core.sealing.proving import (
    CannotProve,
    Part,
    Proof,
    UnreadableProof,
    check,
    proved,
    read_proof,
    stretch_of,
)
from orchestrator.core.sealing.seals import NONE, next_day, read_seal, seal_keys
from tests.core import outsider
from tests.core.test_sealing import (
    DAY,
    KEYS,
    SEATS,
    record,
    sealed,
    three_days,
)
from tests.tidy.project import ROOT

RECORDS, SEALS = three_days()
VECTORS = ROOT / "tests" / "vectors"


def proof_of(place, records=RECORDS, seals=SEALS) -> Proof:
    stretch = stretch_of(seals, place)
    mine = sorted((r for r in records if r[:2] == place[:2]), key=lambda r: r.offset)
    return proved(stretch, place[2], [r for r in mine if stretch.start <= r.offset < stretch.end])


def failing(proof: Proof, keys=KEYS, anchored=None) -> list[Part]:
    return [one.part for one in check(proof, keys, anchored) if not one.holds]


def holds_outside(document: bytes) -> bool:
    found = outsider.proved(document)
    if found is None:
        return False
    text, signature, key = found
    load_der_public_key(key).verify(signature, text, ec.ECDSA(SHA256()))
    return True


@given(st.sampled_from(RECORDS))
def test_every_sealed_record_has_a_proof_that_holds_for_anybody(chosen):
    proof = proof_of(chosen[:3])
    assert failing(proof) == []
    again = read_proof(proof.document())
    assert again == proof and failing(again) == []
    assert holds_outside(proof.document())
    day = {seal.day: seal for seal in SEALS}
    assert failing(proof, anchored=day) == []
    assert len(proof.after) < CHECKPOINT_RECORDS


def test_a_proof_may_be_written_with_spaces():
    document = json.dumps(json.loads(proof_of(RECORDS[0][:3]).document()), indent=2)
    assert failing(read_proof(document.encode())) == []


def test_bytes_that_are_no_text_and_what_is_absent_are_proved_as_they_are():
    odd = record(SEATS[0], 0, value=b"\xff\xfe", key=None, headers=(("h", None), ("g", b"\x80")))
    records = [odd, record(SEATS[0], 1, value=None)]
    seal = sealed(records)
    for one in records:
        proof = proof_of(one[:3], records, [seal])
        assert read_proof(proof.document()).record == one
        assert failing(proof) == [] and holds_outside(proof.document())


def test_how_large_a_proof_is():
    """A stretch is bounded, so a proof is: the first record of one has the most hashes."""
    many = [record(SEATS[1], n, value=b"x" * 400) for n in range(5 * CHECKPOINT_RECORDS)]
    seal = sealed(many)
    sizes = [len(proof_of((*SEATS[1], n), many, [seal]).document()) for n in (0, 999, 4999)]
    assert 60_000 < sizes[0] < 75_000
    assert max(sizes[1:]) < 5_000


def leaves(value: Any, path: tuple = ()) -> list[tuple]:
    if isinstance(value, dict):
        return [found for name, one in value.items() for found in leaves(one, (*path, name))]
    if isinstance(value, list):
        return [found for n, one in enumerate(value) for found in leaves(one, (*path, n))]
    return [path]


@cache
def middle() -> Proof:
    """With hashes on both sides, checkpoints and siblings."""
    return proof_of((*SEATS[1], 4 + CHECKPOINT_RECORDS + 990))


def put(body: Any, path: tuple, value: Any) -> None:
    for step in path[:-1]:
        body = body[step]
    body[path[-1]] = value


def changed(value: Any) -> list[Any]:
    if isinstance(value, int):
        return [value + 1, value - 1, str(value)]
    if value is None:
        return ["", "x"]
    other = {"left": "right", "right": "left"}.get(value)
    flipped = ("0" if value[:1] != "0" else "1") + value[1:]
    return [flipped, value + "x", None, *([other] if other else [])]


@pytest.mark.parametrize("path", leaves(middle().body()), ids=lambda p: ".".join(map(str, p)))
def test_a_change_of_any_field_is_refused_by_its_name(path):
    if path[:2] == ("chain", "after") and path[2] > 2:
        return
    value: Any = middle().body()
    for step in path:
        value = value[step]
    for other in changed(value):
        body = copy.deepcopy(middle().body())
        put(body, path, other)
        document = json.dumps(body).encode()
        try:
            proof = read_proof(document)
        except UnreadableProof:
            continue
        assert path[0] != "format"
        assert Part(path[0]) in failing(proof), (path, other)


SHAPES = {
    "a hash fewer": lambda body: body["chain"]["after"].pop(),
    "a hash more": lambda body: body["chain"]["after"].append("00" * 32),
    "two exchanged": lambda body: body["chain"]["after"].reverse(),
    "a sibling fewer": lambda body: body["path"].pop(),
    "a header more": lambda body: body["record"]["headers"].append(["x", "y"]),
    "a checkpoint fewer": lambda body: body["partition"]["checkpoints"].pop(0),
}


@pytest.mark.parametrize("name", SHAPES)
def test_a_change_of_shape_is_refused(name):
    body = copy.deepcopy(middle().body())
    SHAPES[name](body)
    assert failing(read_proof(json.dumps(body).encode()))


NO_PROOFS = [
    b"",
    b"{}",
    b"[]",
    b"null",
    b"[" * 100_000,
    b'{"format":"stablecoin-orchestrator seal proof 1"}',
    middle().document()[:-1] + b',"more":1}',
    middle().document()[:-1] + b',"format":"stablecoin-orchestrator seal proof 1"}',
    middle().document().replace(b"proof 1", b"proof 2"),
    middle().document().replace(b'"end":', b'"end":1e3,"x":', 1),
    b'{"format":"stablecoin-orchestrator seal proof 1","record":' + b"9" * 5000 + b"}",
]


@pytest.mark.parametrize("number", range(len(NO_PROOFS)))
def test_what_is_no_proof_is_no_proof(number):
    with pytest.raises(UnreadableProof):
        read_proof(NO_PROOFS[number])


def test_a_whole_forgery_fails_at_the_key_alone_and_at_the_anchor():
    """Everything made anew, consistently, by somebody who has not the key."""
    forged = [*RECORDS[:-1], RECORDS[-1]._replace(value=b"forged")]
    stranger = ec.generate_private_key(ec.SECP256R1())
    seals, previous = [], None
    for n in range(3):
        previous = sealed(forged, next_day(DAY, n), previous, stranger)
        seals.append(previous)
    proof = proof_of(forged[-1][:3], forged, seals)
    assert failing(proof) == [Part.KEY]
    body = proof.body()
    body["statement"]["key"] = SEALS[0].statement.key
    body["statement"]["hash"] = replace(proof.statement, key=SEALS[0].statement.key).hash
    claimed = read_proof(json.dumps(body).encode())
    assert set(failing(claimed)) == {Part.SIGNATURE, Part.KEY}
    anchored = {seal.day: seal for seal in SEALS}
    assert Part.ANCHOR in failing(proof, anchored=anchored)
    assert failing(middle(), anchored={}) == [Part.ANCHOR]


def test_a_seal_signed_with_the_key_that_no_anchor_holds_is_refused_by_the_anchor():
    """Who has the key and not the anchor makes another log's day; only the anchor tells."""
    other = [record(SEATS[1], n, value=b"other") for n in range(4)]
    seal = sealed(other)
    proof = proof_of(other[0][:3], other, [seal])
    assert failing(proof) == []
    assert failing(proof, anchored={item.day: item for item in SEALS}) == [Part.ANCHOR]


def test_a_record_of_another_stretch_is_not_brought_in_by_a_longer_chain():
    """All hashes up to a later checkpoint are true, and the record does not stand there."""
    first, last = (*SEATS[1], 4 + 5), (*SEATS[1], 4 + CHECKPOINT_RECORDS + 5)
    early, late = proof_of(first), proof_of(last)
    mine = [r for r in RECORDS if r[:2] == SEATS[1] and first[2] < r.offset < late.end]
    from orchestrator.core.sealing.hashing import record_digest

    longer = replace(early, after=tuple(record_digest(r).hex() for r in mine), end=late.end)
    assert failing(longer) == [Part.CHAIN]
    assert not outsider.proved(longer.document())


def test_there_is_no_proof_of_what_was_not_sealed_or_is_not_what_was_sealed():
    with pytest.raises(CannotProve, match="sealed up to 23, and not yet at 23"):
        proof_of((*SEATS[0], 23))
    with pytest.raises(CannotProve, match="sealed up to 0, and not yet at 0"):
        proof_of((*SEATS[2], 0))
    with pytest.raises(CannotProve, match="no committed record"):
        proof_of((*SEATS[0], 1))
    forged = [r._replace(value=b"x") if r[:3] == (*SEATS[1], 9) else r for r in RECORDS]
    with pytest.raises(CannotProve, match="is not what was sealed"):
        proof_of((*SEATS[1], 10), forged)
    assert failing(proof_of((*SEATS[0], 0), forged)) == [], "another stretch is as it was"


def test_a_proof_that_was_made_once_holds_for_ever():
    """Known answers: the file was written by the code of its day and is never written anew."""
    keys = seal_keys((VECTORS / "seal-proofs.pem").read_bytes())
    lines = (VECTORS / "seal-proofs.jsonl").read_bytes().splitlines()
    seal = read_seal((VECTORS / "seal-of-proofs.json").read_bytes().strip())
    assert len(lines) == 3
    for line in lines:
        proof = read_proof(line)
        assert proof.document() == line
        assert failing(proof, keys, {seal.day: seal}) == []
        assert holds_outside(line)
    first = read_proof(lines[0])
    assert first.place == "requests/0/0" and first.statement.previous == NONE
    assert first.record_hash == json.loads(lines[0])["record"]["hash"]


def write_vectors() -> None:
    """How the files came to be."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    records = [record(SEATS[1], n, value=b'{"n":%d}' % n) for n in range(6)]
    records += [record(SEATS[0], 3, value=b"\xff\x00", key=None, headers=())]
    key = ec.generate_private_key(ec.SECP256R1())
    seal = sealed(records, key=key)
    pem = key.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    places = [(*SEATS[1], 0), (*SEATS[1], 5), (*SEATS[0], 3)]
    proofs = [proof_of(place, records, [seal]).document() + b"\n" for place in places]
    (VECTORS / "seal-proofs.pem").write_bytes(pem)
    (VECTORS / "seal-proofs.jsonl").write_bytes(b"".join(proofs))
    (VECTORS / "seal-of-proofs.json").write_bytes(seal.document() + b"\n")
