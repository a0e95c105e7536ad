"""Kuro's messages: what is a mint, what is ignored, what is malformed and why."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters.kuro import Ignored, MalformedMessage, parse
from schemas.base import Record, encode_value, instant
from schemas.kuro import MintOk, Via
from schemas.topics import KURO_EVENTS

MINT = {
    "requestId": "m-1",
    "user": "0x00000000000000000000000000000000000A11CE",
    "amount": "1000000000000000000",
    "fiatRef": "wire 7",
    "timestamp": 1_700_000_000_000,
}


def parsed(body: Any, default_chain_id: int = 5920) -> MintOk | Ignored:
    return parse(json.dumps(body).encode(), Via.SOCKET, default_chain_id)


def refusal(raw: bytes) -> str:
    with pytest.raises(MalformedMessage) as caught:
        parse(raw, Via.SOCKET, 5920)
    return str(caught.value)


def test_bare_and_wrapped_are_the_same() -> None:
    expected = MintOk(
        request_id="m-1",
        user="0x00000000000000000000000000000000000A11CE",
        amount="1000000000000000000",
        fiat_ref="wire 7",
        chain_id=5920,
        timestamp_ms=1_700_000_000_000,
        via=Via.SOCKET,
    )
    assert parsed(MINT) == expected
    assert parsed({"type": "mintOk", "data": MINT}) == expected
    assert parsed({"type": "mintOk", **MINT}) == expected
    assert parsed({**MINT, "data": 7, "more": [1, None]}) == expected
    assert parsed({"type": "mintOk", "data": {**MINT, "type": 5}, "v": 2}) == expected
    assert parse(json.dumps(MINT).encode(), Via.REST, 1).agrees_with(  # type: ignore[union-attr]
        expected.model_copy(update={"chain_id": 1})
    )


def test_the_chain_is_kuros_or_the_default() -> None:
    assert parsed({**MINT, "chainId": 5923}).chain_id == 5923  # type: ignore[union-attr]
    assert parsed(MINT, 5921).chain_id == 5921  # type: ignore[union-attr]


def test_a_missing_timestamp_is_tolerated() -> None:
    body = {name: value for name, value in MINT.items() if name != "timestamp"}
    mint = parsed(body)
    assert isinstance(mint, MintOk)
    assert mint.timestamp_ms == 0
    told = parsed(MINT)
    assert isinstance(told, MintOk)
    assert mint.agrees_with(told)


@pytest.mark.parametrize(
    "body",
    [
        {"type": "connection", "status": "ok"},
        {"type": "MINTOK", "data": MINT},
        {"type": "mintRejected", **MINT},
        {"type": "", "data": MINT},
    ],
)
def test_other_types_are_ignored(body: Any) -> None:
    assert parsed(body) == Ignored(body["type"])


@pytest.mark.parametrize(
    "change", [{"user": "Bob"}, {"user": ""}, {"amount": "-1"}, {"amount": ""}]
)
def test_senseless_values_are_left_to_the_core(change: dict[str, str]) -> None:
    assert isinstance(parsed({**MINT, **change}), MintOk)


MALFORMED = [
    ({"requestId": 7}, "requestId is 7, not text"),
    ({"requestId": ""}, "requestId '' is not 1 to 200"),
    ({"requestId": "a b"}, "requestId 'a b' is not"),
    ({"requestId": "a\n"}, "requestId 'a\\n' is not"),
    ({"requestId": "ä"}, "requestId 'ä' is not"),
    ({"requestId": "a" * 201}, "requestId has 201 characters"),
    ({"requestId": "redeem:5920:r"}, "reserved"),
    ({"user": None}, "user is None, not text"),
    ({"user": "0" * 201}, "user has 201 characters"),
    ({"user": "a\x00"}, "NUL"),
    ({"amount": 1000}, "amount is 1000, not text; amounts are decimal strings"),
    ({"amount": 1e18}, "amount is 1e+18, not text"),
    ({"amount": ["1"]}, "amount is a list, not text"),
    ({"amount": "1" * 201}, "amount has 201 characters"),
    ({"fiatRef": {}}, "fiatRef is an object"),
    ({"fiatRef": "x" * 501}, "fiatRef has 501 characters"),
    ({"chainId": "5920"}, "chainId is '5920', not a positive integer"),
    ({"chainId": 0}, "chainId is 0"),
    ({"chainId": -1}, "chainId is -1"),
    ({"chainId": True}, "chainId is True"),
    ({"chainId": 5920.0}, "chainId is 5920.0"),
    ({"chainId": None}, "chainId is None"),
    ({"chainId": 2**63}, "chainId is"),
    ({"chainId": 10**30}, "chainId is"),
    ({"timestamp": "2024-01-01"}, "timestamp is '2024-01-01'"),
    ({"timestamp": 1.5}, "timestamp is 1.5"),
    ({"timestamp": True}, "timestamp is True"),
    ({"timestamp": 10**30}, "timestamp is"),
    ({"timestamp": -1}, "timestamp is -1"),
]


@pytest.mark.parametrize(("change", "reason"), MALFORMED)
def test_malformed_fields(change: dict[str, Any], reason: str) -> None:
    assert reason in refusal(json.dumps({**MINT, **change}).encode())
    wrapped = {"type": "mintOk", "data": {**MINT, **change}}
    assert reason in refusal(json.dumps(wrapped).encode())


@pytest.mark.parametrize("name", ["requestId", "user", "amount", "fiatRef"])
def test_missing_fields(name: str) -> None:
    body = {key: value for key, value in MINT.items() if key != name}
    assert refusal(json.dumps(body).encode()) == f"{name} is missing"


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        (b"", "not JSON"),
        (b"not json", "not JSON"),
        (b"\xff\xfe", "not JSON"),
        (b'{"requestId": "\xc3\x28"}', "not JSON"),
        (b'{"requestId": "\\ud800"}', "not JSON"),
        (b'{"amount": NaN}', "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, "not JSON"),
        (b"null", "None is not a JSON object"),
        (b"[]", "a list is not a JSON object"),
        (b"7" * 5000, "not JSON"),
        (b'{"type": 7}', "type is 7, not text"),
        (b'{"type": null}', "type is None, not text"),
        (b'{"type": "mintOk", "data": []}', "data is a list, not an object"),
        (b'{"type": "mintOk"}', "requestId is missing"),
        (b'"' + b"x" * 1_048_576 + b'"', "1048578 bytes, more than 1048576"),
    ],
)
def test_malformed_messages(raw: bytes, reason: str) -> None:
    told = refusal(raw)
    assert reason in told
    assert len(told) < 400


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "requestId": json_values | st.text(max_size=210) | st.from_regex(r"\A[!-~]{1,200}\Z"),
        "user": json_values | st.text(max_size=210),
        "amount": json_values | st.decimals(allow_nan=False).map(str),
        "fiatRef": json_values | st.text(max_size=510),
        "chainId": json_values | st.integers(1, 2**64),
        "timestamp": json_values | st.integers(0, 2**64),
    },
)
bodies = fields | st.fixed_dictionaries(
    {"type": st.just("mintOk") | json_values, "data": fields | json_values}
)


@given(st.binary(max_size=300) | bodies.map(lambda body: json.dumps(body).encode()))
def test_anything_is_a_fact_or_ignored_or_malformed(raw: bytes) -> None:
    """Never another exception; and a fact always survives its way through the log."""
    try:
        outcome = parse(raw, Via.REST, 5920)
    except MalformedMessage as error:
        assert str(error)
        return
    if isinstance(outcome, MintOk):
        record = Record(outcome, instant(0))
        assert KURO_EVENTS.decode(encode_value(record)) == record
        assert "\x00" not in outcome.user + outcome.amount + outcome.fiat_ref


@given(fields)
def test_the_list_and_the_socket_tell_the_same(body: dict[str, Any]) -> None:
    """An item of the list is serialised anew: that changes nothing of its meaning."""
    raw = json.dumps(body).encode()
    try:
        again = orjson.dumps(orjson.loads(raw))
    except orjson.JSONDecodeError:
        return

    def outcome(message: bytes) -> object:
        try:
            return parse(message, Via.REST, 5920)
        except MalformedMessage as error:
            return str(error)

    assert outcome(raw) == outcome(again)
