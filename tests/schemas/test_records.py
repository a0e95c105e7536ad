"""Facts on the log: one form, read back to the same, and nothing else accepted."""

from __future__ import annotations

import json
import string

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from schemas import controls, evm, kuro, lanes, policies, requests, sequences
from schemas.base import (
    INT64_MAX,
    UINT256_MAX,
    Position,
    Record,
    UnreadableRecord,
    encode_headers,
    encode_value,
    instant,
)
from schemas.dead_letters import LARGEST_RAW_BYTES, DeadLetter, DeadLetterReason
from schemas.topics import (
    CONTROLS,
    DEAD_LETTERS,
    EVM_EVENTS,
    KURO_EVENTS,
    LANES,
    REQUESTS,
    TOPICS,
)

AT = "2027-01-15T08:00:00.000Z"
KIND_OF_TOPIC = [(topic, model) for topic in TOPICS.values() for model in topic.kinds.values()]

ids = st.text(string.ascii_letters + string.digits + ":-", min_size=1, max_size=40)
by_pattern = {
    r"^0x[0-9a-f]{64}$": st.binary(min_size=32, max_size=32).map(lambda raw: "0x" + raw.hex()),
    r"^0x[0-9a-fA-F]{40}$": st.binary(min_size=20, max_size=20).map(lambda raw: "0x" + raw.hex()),
}
FIELDS = {
    "signature": st.binary(min_size=65, max_size=65).map(lambda raw: "0x" + raw.hex()),
    "raw": st.binary(max_size=50).map(lambda raw: "0x" + raw.hex()),
    "data": st.binary(max_size=50).map(lambda raw: "0x" + raw.hex()),
    "request_id": ids,
    "timestamp_ms": st.integers(-INT64_MAX, INT64_MAX),
    "attempt": st.integers(1, 100),
    "assignment": st.integers(1, 100),
    "number": st.integers(1, 100),
    "chain_id": st.integers(1, INT64_MAX),
    "order": st.from_regex(r"\A[A-Za-z0-9._-]{1,64}\Z"),
    "scope": st.sampled_from(
        ["all", "chain:5920", "wallet:5920:0x" + "aB" * 20, "request:redeem:5920:r-7"]
    ),
}
TEXTS = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=30)
WHO = st.text("abc ", min_size=1, max_size=20)
POLICIES = st.builds(
    policies.Policy,
    note=st.text(string.printable, max_size=20),
    max_amount=st.none() | st.integers(0, UINT256_MAX),
    windows=st.lists(
        st.builds(
            policies.Window,
            per=st.sampled_from(policies.Per),
            seconds=st.integers(1, policies.LONGEST_WINDOW_SECONDS),
            max_amount=st.integers(0, UINT256_MAX),
            on_breach=st.sampled_from(policies.OnBreach),
        ),
        max_size=2,
    ).map(tuple),
    fiat_ref_once=st.booleans(),
    kyc=st.none() | st.just(policies.Kyc()),
    quiet_hours=st.just(()) | st.just((policies.QuietHours(start="22:00", end="06:00"),)),
)
FIELDS |= {
    "ticket": st.builds("{}.{}.{}".format, *[st.integers(1, 99)] * 3),
    "policy": POLICIES,
    "by_events": st.integers(-UINT256_MAX, UINT256_MAX),
    "told_at_ms": st.none() | st.integers(-INT64_MAX, INT64_MAX),
    "until": st.none() | st.integers(0, INT64_MAX),
    "approved_by": st.lists(WHO, max_size=3).map(tuple),
    "breaches": st.lists(
        st.builds(
            policies.Breach,
            rule=st.sampled_from(policies.PolicyRule),
            scope=st.none() | TEXTS,
            limit=TEXTS,
            value=TEXTS,
            until=st.none() | st.integers(0, INT64_MAX),
        ),
        min_size=1,
        max_size=3,
    ).map(tuple),
}
COMPLEX = {"by_events", "ticket", "policy", "told_at_ms", "until", "approved_by", "breaches"}
AMOUNTS = {
    "amount",
    "approval_nonce",
    "count",
    "max_fee_per_gas_wei",
    "max_priority_fee_per_gas_wei",
    "total_supply",
}


def values(name, field, model):
    """Values that a field accepts, extremes included."""
    if name in COMPLEX:
        return FIELDS[name]
    patterns = [getattr(entry, "pattern", None) for entry in field.metadata]
    annotation = field.annotation
    if name in AMOUNTS and annotation is int:
        return st.integers(0, UINT256_MAX) | st.sampled_from([0, 2**53 + 1, UINT256_MAX])
    if name in FIELDS and annotation in (str, int):
        return FIELDS[name]
    if name == "order" and not field.is_required():
        return st.none() | FIELDS["order"]
    for pattern in patterns:
        if pattern in by_pattern:
            return by_pattern[pattern]
    if annotation is bool:
        return st.booleans()
    if annotation is int:
        return st.integers(0, INT64_MAX)
    if isinstance(annotation, type) and issubclass(annotation, str) and annotation is not str:
        return st.sampled_from(list(annotation))
    if name in ("fork_block", "final_timestamp", "opening", "retractions") or (
        name == "block_number" and not field.is_required()
    ):
        return st.none() | st.integers(0, INT64_MAX)
    if name == "approval_nonce":
        return st.none() | st.integers(0, UINT256_MAX)
    if name == "account":
        return st.none() | by_pattern[r"^0x[0-9a-fA-F]{40}$"]
    if name in ("replaces", "fork_hash") or (
        name in ("block_hash", "tx_hash") and not field.is_required()
    ):
        return st.none() | by_pattern[r"^0x[0-9a-f]{64}$"]
    if annotation is str:
        return st.text("abc:-", min_size=1, max_size=20) if field.is_required() else TEXTS
    return st.none() | TEXTS


def facts(model):
    if model is policies.PolicyApplied:
        order = st.just("o-1")
        return st.builds(
            lambda order, policy: model(
                order=order, who="ann", why="a test", version=policy.version, policy=policy
            ),
            order,
            POLICIES,
        )
    return st.builds(
        model, **{name: values(name, field, model) for name, field in model.model_fields.items()}
    )


@pytest.mark.parametrize(
    ("topic", "model"), KIND_OF_TOPIC, ids=lambda value: getattr(value, "__name__", None)
)
def test_each_kind_is_read_back_as_it_was_written(topic, model):
    @given(facts(model))
    @settings(max_examples=25, deadline=None)
    def check(fact):
        position = Position(topic.name, 3, 14)
        trace = "00-" + "ab" * 16 + "-" + "cd" * 8 + "-01"
        record = Record(fact, AT, position, trace)
        value = encode_value(record)
        assert b"\n" not in value
        read = topic.decode(value, position, trace)
        assert read == record
        assert encode_value(read) == value
        body = json.loads(value)
        assert (body["kind"], body["id"], body["at"]) == (model.__name__, fact.id, AT)
        assert list(body) == sorted(body)
        assert all(isinstance(body[name], str) for name in AMOUNTS & body.keys())
        assert None not in body.values()
        headers = dict(encode_headers(record))
        assert headers["kind"].decode() == model.__name__
        assert headers["id"].decode() == fact.id
        assert headers["traceparent"].decode() == trace
        assert fact.key
        assert fact.agrees_with(read.fact)

    check()


def mint(**changes):
    fields = {
        "request_id": "m-1",
        "user": "0x12",
        "amount": "1",
        "fiat_ref": "wire ü",
        "chain_id": 5920,
        "timestamp_ms": 1,
        "via": "socket",
    }
    return kuro.MintOk(**fields | changes)


def body(**changes):
    given_body = orjson.loads(encode_value(Record(mint(), AT)))
    given_body.update(changes)
    return orjson.dumps({name: v for name, v in given_body.items() if v != "absent"})


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "not JSON"),
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff", "not JSON"),
        (b"[" * 5000, "not JSON"),
        (b'{"fiat_ref":"\\ud800"}', "not JSON"),
        (b"[]", "not a JSON object"),
        (b"1", "not a JSON object"),
        (b"null", "not a JSON object"),
        (b"{}", "unknown kind None"),
        (body(kind="absent"), "unknown kind"),
        (body(kind="MintNo"), "unknown kind 'MintNo'"),
        (body(kind=["MintOk"]), "unknown kind"),
        (body(id="absent"), "does not fit the content"),
        (body(id="mint-ok:m-2"), "does not fit the content"),
        (body(id=7), "does not fit the content"),
        (body(at="absent"), "not a valid MintOk"),
        (body(at="soon"), "not a valid MintOk"),
        (body(at=5), "not a valid MintOk"),
        (body(at="2027-01-15T08:00:00"), "has no zone"),
        (body(at="2027-01-15"), "has no zone"),
        (body(more=1), "more"),
        (body(user="absent"), "user"),
        (body(user=5), "user"),
        (body(user="a\x00"), "user"),
        (body(request_id="a b", id="mint-ok:a b"), "request_id"),
        (body(request_id="ü", id="mint-ok:ü"), "request_id"),
        (body(chain_id=0), "chain_id"),
        (body(timestamp_ms=1e30), "timestamp_ms"),
        (body(via="pigeon"), "via"),
    ],
)
def test_what_is_no_fact_is_unreadable_and_says_why(value, reason):
    with pytest.raises(UnreadableRecord, match=reason):
        KURO_EVENTS.decode(value)


@given(st.binary(max_size=200) | st.text().map(str.encode))
@settings(max_examples=300, deadline=None)
def test_noise_raises_nothing_but_unreadable_record(noise):
    for topic in TOPICS.values():
        with pytest.raises(UnreadableRecord):
            topic.decode(noise)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.sampled_from([*orjson.loads(body()), "extra"]), json_values)
@settings(max_examples=300, deadline=None)
def test_a_fact_with_one_field_of_anything_is_read_or_unreadable(name, anything):
    changed = json.dumps(orjson.loads(body()) | {name: anything}).encode()
    try:
        record = KURO_EVENTS.decode(changed)
    except UnreadableRecord:
        return
    encode_value(record)


@pytest.mark.parametrize(
    "amount", [-1, UINT256_MAX + 1, "-1", "1e18", "0x1", "", "١", 1.0, True, "9" * 5000]
)
def test_amounts_outside_uint256_are_refused(amount):
    with pytest.raises(ValidationError):
        requests.ApprovalDrafted(
            request_key="k",
            attempt=1,
            contract="0x" + "11" * 20,
            approval_nonce=amount,
            deadline=1,
            digest="0x" + "22" * 32,
        )


def test_facts_are_frozen_and_closed():
    with pytest.raises(ValidationError):
        mint().user = "other"
    with pytest.raises(ValidationError):
        mint(other=1)


def test_agreement_ignores_circumstances_only():
    assert mint().agrees_with(mint(timestamp_ms=2, via="rest"))
    for change in ({"amount": "2"}, {"user": "x"}, {"fiat_ref": ""}, {"chain_id": 5921}):
        assert not mint().agrees_with(mint(**change))
    assert mint().id == mint(amount="2").id


def test_circumstances_are_fields():
    for topic, model in KIND_OF_TOPIC:
        assert model.circumstances <= model.model_fields.keys(), (topic.name, model)


def test_each_topic_has_its_kinds_and_partitions():
    counts = {name: topic.partitions for name, topic in TOPICS.items()}
    assert counts == {
        "kuro.events": 12,
        "evm.events": 12,
        "requests": 12,
        "lanes": 12,
        "controls": 1,
        "dead-letters": 1,
    }
    places = {
        kuro: KURO_EVENTS,
        evm: EVM_EVENTS,
        requests: REQUESTS,
        lanes: LANES,
        controls: CONTROLS,
    }
    for module, topic in places.items():
        modules = {module.__name__} | ({sequences.__name__} if topic is LANES else set())
        modules |= {policies.__name__} if topic in (LANES, CONTROLS) else set()
        assert {model.__module__ for model in topic.kinds.values()} == modules
    assert list(DEAD_LETTERS.kinds) == ["DeadLetter", "DeadLetterReplayed"]


@pytest.mark.parametrize(
    "scope",
    ["", "ALL", "chain:", "chain:0", "chain:x", "wallet:5920", "wallet:5920:0x12", "request:"],
)
def test_a_scope_that_covers_nothing_is_no_scope(scope):
    with pytest.raises(ValidationError):
        controls.WorkPaused(order="o-1", who="ann", why="a test", scope=scope)


@pytest.mark.parametrize(
    "change", [{"who": ""}, {"why": ""}, {"order": ""}, {"order": "a b"}, {"why": "y" * 2001}]
)
def test_an_order_without_its_person_or_reason_is_no_order(change):
    given_order = {"order": "o-1", "who": "ann", "why": "a test", "request_key": "m-1"}
    assert controls.CancelOrdered(**given_order).id == controls.RetryOrdered(**given_order).id
    with pytest.raises(ValidationError):
        controls.CancelOrdered(**given_order | change)


@given(st.floats(0, 4e9))
def test_instants_are_utc_with_milliseconds(seconds):
    text = instant(seconds)
    assert len(text) == len(AT)
    assert text.endswith("Z")
    assert abs(Record(mint(), text).at_seconds - seconds) <= 1


def test_a_dead_letter_keeps_what_came():
    raw = b"\x00\xff" * LARGEST_RAW_BYTES
    letter = DeadLetter.of(DeadLetterReason.MALFORMED, "x" * 9000, raw, origin=None, source="kuro")
    assert letter.raw_bytes == len(raw)
    assert letter.origin == f"kuro/{letter.raw_sha256}"
    assert len(letter.detail) == 2000
    assert len(letter.raw_base64) == -(-LARGEST_RAW_BYTES // 3) * 4
    assert DEAD_LETTERS.decode(encode_value(Record(letter, AT))).fact == letter


def test_seats_name_an_event_for_ever():
    fields = {
        "chain_id": 1,
        "block_number": 2,
        "block_hash": "0x" + "ab" * 32,
        "block_timestamp": 3,
        "tx_hash": "0x" + "cd" * 32,
        "log_index": 4,
        "event": "Minted",
        "request_id": "m",
    }
    event = evm.ContractEvent(
        **fields, contract="0x" + "11" * 20, account="0x" + "22" * 20, amount=1
    )
    gone = evm.EventRetracted(**fields, reason="reorganised")
    assert event.seat == gone.seat == f"1:{fields['block_hash']}:4"
    assert event.id != gone.id
