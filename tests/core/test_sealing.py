"""What a seal is, by an outsider's computation; and that no change of a sealed log goes unseen."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from functools import cache

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.core.sealing.checking import (
    Anchored,
    Difference,
    Finding,
    judged,
    ordered,
    walks,
)
from orchestrator.core.sealing.growing import CHECKPOINT_RECORDS, day_end_ms, growths
from orchestrator.core.sealing.hashing import (
    Logged,
    chain_start,
    chained,
    climbed,
    digest,
    merkle_path,
    merkle_root,
    record_digest,
)
from orchestrator.core.sealing.seals import (
    NONE,
    Seal,
    Statement,
    UnreadableSeal,
    UnusableSealKey,
    key_hash,
    next_day,
    read_seal,
    root_of,
    seal_keys,
    signature_problem,
)
from tests.core import outsider

SEATS = [("lanes", 0), ("requests", 0), ("requests", 1)]
DAY = "2026-11-20"
LOG = "orchestrator"
NOW_MS = day_end_ms("2027-01-01")


@cache
def private_key(name: str = "seals") -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def public_of(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


PUBLIC = public_of(private_key())
KEYS = {key_hash(PUBLIC): PUBLIC}


def record(seat, offset, day=DAY, value=b"{}", **changed) -> Logged:
    at = day_end_ms(day) - 1000
    fields = {"timestamp_ms": at, "key": b"k", "value": value, "headers": (("kind", b"x"),)}
    return Logged(*seat, offset, **{**fields, **changed})


def signed(statement: Statement, partitions, key=None) -> Seal:
    key = key or private_key()
    signature = key.sign(statement.text(), ec.ECDSA(SHA256()))
    return Seal(statement, tuple(partitions), signature, public_of(key))


def sealed(records, day=DAY, previous=None, key=None, now_ms=NOW_MS, log=LOG) -> Seal:
    grown = growths(SEATS, previous, day, now_ms)
    for seat, growth in grown.items():
        mine = sorted((r for r in records if r[:2] == seat), key=lambda r: r.offset)
        growth.take(r for r in mine if r.offset >= growth.start)
    partitions = [growth.sealed() for growth in grown.values()]
    before = NONE if previous is None else previous.statement.hash
    public = public_of(key or private_key())
    at = f"{next_day(day)}T00:10:00.000Z"
    root = root_of(partitions)
    statement = Statement(log, day, at, before, root, key_hash(public))
    return signed(statement, partitions, key)


def found_in(records, seals, ends=None, starts=None) -> list[Finding]:
    found = []
    for seat, walk in walks(seals).items():
        walk.begin((starts or {}).get(seat, 0))
        mine = sorted((r for r in records if r[:2] == seat), key=lambda r: r.offset)
        walk.take(r for r in mine if walk.start <= r.offset < walk.end)
        last = max((r.offset + 1 for r in mine), default=0)
        walk.finish((ends or {}).get(seat, last))
        found += walk.found
    return ordered(found)


def three_days():
    records, seals = _three_days()
    return list(records), list(seals)


@cache
def _three_days():
    """Holes between, an empty partition and an empty day; a stretch longer than a checkpoint."""
    days = [next_day(DAY, n) for n in range(3)]
    records = [record(SEATS[0], n * 2, days[0]) for n in range(5)]
    records += [record(SEATS[0], 20 + n, days[2], b"%d" % n) for n in range(3)]
    many = CHECKPOINT_RECORDS * 2 + 7
    records += [record(SEATS[1], n, days[0], b"%d" % n) for n in range(4)]
    records += [record(SEATS[1], 4 + n, days[1], b"%d" % n) for n in range(many)]
    seals, previous = [], None
    for day in days:
        previous = sealed(records, day, previous)
        seals.append(previous)
    return records, seals


def judge(seals, keys=KEYS, due=None, log=LOG):
    documents = [(s.day, s.document()) if isinstance(s, Seal) else ("?", s) for s in seals]
    return judged([Anchored("here", documents)], keys, log, due=due)


def kinds(found) -> list[Difference]:
    return [finding.kind for finding in found]


def test_an_outsider_comes_to_the_same_roots_and_statements():
    records, seals = three_days()
    for seal in seals:
        document = json.loads(seal.document())
        assert outsider.root(records, document["partitions"]) == seal.statement.root
        assert outsider.statement(seal.document()) == seal.statement.text()
        assert base64.b64decode(document["signature"]) == seal.signature


def test_a_log_as_it_was_sealed_is_the_same():
    records, seals = three_days()
    assert found_in(records, seals) == []
    verdict = judge(seals)
    assert verdict.found == []
    assert verdict.seals == seals
    later = [*records, record(SEATS[2], 0), record(SEATS[1], 9000)]
    assert found_in(later, seals) == []


@pytest.mark.parametrize("parts", [(), (None,), (b"",), ("", ""), (0,), ("0", None)])
def test_no_two_lists_of_parts_are_hashed_alike(parts):
    others = [(), (None,), (b"",), ("", ""), (0,), ("0", None), ("00",), ("ab",), ("a", "b")]
    assert [digest(*other) for other in others].count(digest(*parts)) == 1


TEXT = st.one_of(st.none(), st.binary(max_size=12))
HEADERS = st.lists(st.tuples(st.text(max_size=4), TEXT), max_size=3).map(tuple)
RECORDS = st.builds(
    Logged,
    st.sampled_from(["a", "ab", "b"]),
    st.integers(0, 12),
    st.integers(0, 2**63 - 1),
    st.integers(-1, 2**63 - 1),
    TEXT,
    TEXT,
    HEADERS,
)


@given(RECORDS, RECORDS)
def test_two_records_have_one_digest_only_when_they_are_equal(one, other):
    assert (record_digest(one) == record_digest(other)) == (one == other)


@given(st.lists(st.binary(min_size=1, max_size=3), min_size=1, max_size=40), st.data())
def test_each_leaf_climbs_to_the_root_and_no_other_does(leaves, data):
    index = data.draw(st.integers(0, len(leaves) - 1))
    path = merkle_path(leaves, index)
    assert climbed(leaves[index], path) == merkle_root(leaves)
    assert climbed(leaves[index] + b"x", path) != merkle_root(leaves)


@given(st.data())
def test_any_change_of_a_sealed_log_is_named_at_its_place(data):
    """One byte changed, a record taken out, added, moved, or two exchanged."""
    count = data.draw(st.integers(2, 12))
    seat = SEATS[1]
    records = [record(seat, n * 2, value=b"%d" % n) for n in range(count)]
    seals = [sealed(records)]
    at = data.draw(st.integers(0, count - 1))
    other = data.draw(st.integers(0, count - 1).filter(lambda n: n != at))
    changed = list(records)
    match data.draw(
        st.sampled_from(["value", "key", "headers", "time", "out", "in", "moved", "swap"])
    ):
        case "value":
            changed[at] = records[at]._replace(value=records[at].value + b" ")
        case "key":
            changed[at] = records[at]._replace(key=None)
        case "headers":
            changed[at] = records[at]._replace(headers=())
        case "time":
            changed[at] = records[at]._replace(timestamp_ms=records[at].timestamp_ms - 1)
        case "out":
            del changed[at]
        case "in":
            changed.append(records[at]._replace(offset=max(0, at * 2 - 1) if at else 1))
        case "moved":
            changed[at] = records[at]._replace(offset=at * 2 - 1 if at else 1)
        case "swap":
            changed[at] = records[at]._replace(value=records[other].value)
            changed[other] = records[other]._replace(value=records[at].value)
    [finding] = found_in(changed, seals, ends={seat: count * 2})
    assert finding.kind is Difference.CHANGED
    assert (finding.day, finding.topic, finding.partition) == (DAY, *seat)
    assert (finding.start, finding.end) == (0, count * 2 - 1)


def test_only_the_damaged_stretch_is_named_when_there_are_checkpoints():
    records, seals = three_days()
    at = next(
        n
        for n, r in enumerate(records)
        if r[:2] == SEATS[1] and r.offset == CHECKPOINT_RECORDS + 50
    )
    records[at] = records[at]._replace(value=b"tampered")
    [finding] = found_in(records, seals)
    assert finding.day == next_day(DAY)
    assert (finding.start, finding.end) == (4 + CHECKPOINT_RECORDS, 4 + 2 * CHECKPOINT_RECORDS)


def test_a_walk_may_begin_after_a_day():
    records, seals = three_days()
    records = [r._replace(value=b"x") if r[:3] == (*SEATS[1], 2) else r for r in records]
    assert kinds(found_in(records, seals)) == [Difference.CHANGED]
    later = walks(seals, after=DAY)[SEATS[1]]
    later.begin(0)
    later.take(r for r in records if r[:2] == SEATS[1] and r.offset >= later.start)
    later.finish(10_000)
    assert later.found == []


def test_a_shorter_log_and_one_that_lost_its_beginning():
    records, seals = three_days()
    shorter = [r for r in records if r[:2] != SEATS[1] or r.offset < 2]
    [finding] = found_in(shorter, seals)
    assert (finding.kind, finding.day) == (Difference.SHORTER, DAY)
    assert "ends at 2" in finding.text
    middle = 4 + CHECKPOINT_RECORDS + 3
    lost = [r for r in records if r[:2] != SEATS[1] or r.offset >= middle]
    [finding] = found_in(lost, seals, starts={SEATS[1]: middle})
    assert (finding.kind, finding.end) == (Difference.DELETED, middle)
    both = [r._replace(value=b"x") if r.offset == 4 + 2 * CHECKPOINT_RECORDS else r for r in lost]
    found = found_in(both, seals, starts={SEATS[1]: middle})
    assert kinds(found) == [Difference.DELETED, Difference.CHANGED]
    assert found[1].start == 4 + 2 * CHECKPOINT_RECORDS
    gone = [r for r in records if r[:2] != SEATS[1]]
    found = found_in(gone, seals, starts={SEATS[1]: 9000}, ends={SEATS[1]: 9000})
    assert kinds(found) == [Difference.DELETED]


def test_a_record_before_midnight_behind_one_after_it_is_of_the_later_day():
    seat, tomorrow = SEATS[0], next_day(DAY)
    records = [record(seat, 0), record(seat, 1, tomorrow), record(seat, 2)]
    first = sealed(records)
    second = sealed(records, tomorrow, first)
    assert [s.partitions[0].records for s in (first, second)] == [1, 2]
    assert (first.partitions[0].end, second.partitions[0].start) == (1, 1)


def test_a_time_from_the_future_ends_no_day():
    seat, now_ms = SEATS[0], day_end_ms(DAY) + 600_000
    records = [record(seat, 0), record(seat, 1, "2050-01-01"), record(seat, 2)]
    records.append(record(seat, 3, timestamp_ms=day_end_ms(DAY)))
    assert sealed(records, now_ms=now_ms).partitions[0].records == 3


def test_a_partition_that_is_new_begins_at_its_beginning():
    records, seals = three_days()
    first = seals[0]
    fewer = [item for item in first.partitions if item.seat != SEATS[2]]
    statement = replace(first.statement, root=root_of(fewer))
    first = signed(statement, fewer)
    second = sealed(records, next_day(DAY), first)
    assert judge([first, second]).found == []
    third = sealed(records, next_day(DAY, 2), second)
    lacking = [item for item in third.partitions if item.seat != SEATS[2]]
    third = signed(replace(third.statement, root=root_of(lacking)), lacking)
    [finding] = judge([first, second, third]).found
    assert "lacks requests/1" in finding.text


def test_missing_days():
    _, seals = three_days()
    [finding] = judge([seals[0], seals[2]]).found
    assert (finding.kind, finding.day) == (Difference.MISSING, seals[1].day)
    [finding] = judge(seals[1:]).found
    assert finding.kind is Difference.UNLINKED
    assert judge(seals[:2], due=seals[1].day).found == []
    [finding] = judge(seals[:1], due=seals[2].day).found
    assert f"{seals[1].day} to {seals[2].day}" in finding.text


def test_a_seal_that_follows_another_one():
    records, seals = three_days()
    other = sealed(records[1:], DAY)
    [finding] = judge([other, *seals[1:]]).found
    assert (finding.kind, finding.day) == (Difference.UNLINKED, seals[1].day)
    rebased = replace(seals[1].statement, previous=other.statement.hash)
    moved = replace(seals[1].partitions[0], start=3, end=9)
    partitions = (moved, *seals[1].partitions[1:])
    second = signed(replace(rebased, root=root_of(partitions)), partitions)
    assert "begins lanes/0 at 3" in judge([other, second]).found[0].text


def test_signatures_keys_and_roots():
    records, seals = three_days()
    seal = seals[0]
    assert judge([seal]).found == []
    other = private_key("another")
    cases = {
        "none of those to trust": sealed(records, key=other),
        "not over its statement": replace(seal, signature=other.sign(b"", ec.ECDSA(SHA256()))),
        "another public key": replace(seal, public_key=public_of(other)),
        "another root": replace(seal, partitions=seals[1].partitions),
        "of the log 'elsewhere'": sealed(records, log="elsewhere"),
    }
    for why, bad in cases.items():
        verdict = judge([bad])
        assert kinds(verdict.found) == [Difference.UNTRUSTED]
        assert why in verdict.found[0].text
        assert verdict.seals == []
    restated = replace(seal, statement=replace(seal.statement, day=next_day(DAY)))
    assert "not over its statement" in (signature_problem(restated, KEYS) or "")
    both = {**KEYS, key_hash(public_of(other)): public_of(other)}
    assert judge([seal, sealed(records, seals[1].day, seal, other)], both).found == []


def test_anchors_that_disagree():
    records, seals = three_days()
    twin = sealed(records)
    one = Anchored("one", [(s.day, s.document()) for s in seals])
    two = Anchored("two", [(twin.day, twin.document())])
    verdict = judged([one, two], KEYS, LOG, due=None)
    assert kinds(verdict.found) == [Difference.DISAGREEING] * 3
    assert verdict.seals == seals
    twice = Anchored("one", [*one.documents, one.documents[0]])
    assert kinds(judged([twice], KEYS, LOG, due=None).found) == [Difference.DISAGREEING]


def test_only_the_one_form_of_a_seal_is_read():
    _, [seal, *_] = three_days()
    document = seal.document()
    assert read_seal(document) == seal
    body = json.loads(document)
    more = json.dumps({**body, "note": "x"}, sort_keys=True, separators=(",", ":")).encode()
    spaced = json.dumps(body, sort_keys=True).encode()
    bad = [
        b"",
        b"[]",
        b"{}",
        b"\xff",
        more,
        spaced,
        document + b" ",
        b"[" * 100_000,
        b'{"day":' * 100_000,
    ]
    for name, value in (
        ("format", "other"),
        ("day", "20261120"),
        ("root", body["root"].upper()),
        ("previous", "no"),
        ("log", "a\nb"),
        ("signature", "%"),
        ("partitions", body["partitions"][::-1]),
        ("partitions", []),
        ("partitions", [{**body["partitions"][0], "end": 1.0}]),
        ("partitions", [{**body["partitions"][0], "records": True}]),
        ("partitions", [{**body["partitions"][0], "start": 5}]),
    ):
        bad.append(
            json.dumps({**body, name: value}, sort_keys=True, separators=(",", ":")).encode()
        )
    for text in bad:
        with pytest.raises(UnreadableSeal):
            read_seal(text)
    assert kinds(judge([seal, more]).found) == [Difference.UNREADABLE]


def test_public_keys_from_pem():
    pem = private_key().public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    assert seal_keys(b"# the key of seals\n" + pem + pem) == KEYS
    issuer = ec.generate_private_key(ec.SECP256K1()).public_key()
    wrong = issuer.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    for text in (b"", b"nothing", wrong, pem[:40] + b"!" + pem[41:]):
        with pytest.raises(UnusableSealKey):
            seal_keys(text)


def test_the_chain_names_its_partition():
    assert chain_start("requests", 1) != chain_start("requests", 0)
    assert chained(b"a", b"b") != chained(b"b", b"a")
