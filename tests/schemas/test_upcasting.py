"""A record of an earlier schema version reads as today's fact; one of a later version says so."""

from __future__ import annotations

from typing import ClassVar

import orjson
import pytest

from schemas import upcasting
from schemas.base import Fact, Record, UnreadableRecord, decode_value, encode_headers, encode_value
from schemas.topics import TOPICS

AT = "2026-01-01T00:00:00.000Z"


class Parted(Fact):
    """Today's form: the name in two fields. It was `name` in version 1 and `full` in version 2."""

    version: ClassVar[int] = 3
    first: str
    last: str

    @property
    def id(self) -> str:
        return f"{self.first} {self.last}"


@pytest.fixture
def steps(monkeypatch):
    monkeypatch.setitem(upcasting.STEPS, ("Parted", 1), lambda body: {"full": body["name"]})
    monkeypatch.setitem(
        upcasting.STEPS,
        ("Parted", 2),
        lambda body: dict(zip(("first", "last"), body["full"].split(), strict=True)),
    )


def decoded(**body) -> Fact:
    value = orjson.dumps({"kind": "Parted", "id": "Ada Lovelace", "at": AT, **body})
    return decode_value(value, {"Parted": Parted}).fact


def test_every_version_reads_as_the_newest(steps):
    ada = Parted(first="Ada", last="Lovelace")
    assert decoded(name="Ada Lovelace") == ada
    assert decoded(schema=2, full="Ada Lovelace") == ada
    assert decoded(schema=3, first="Ada", last="Lovelace") == ada


def test_what_is_written_names_its_version():
    record = Record(Parted(first="Ada", last="Lovelace"), AT)
    assert orjson.loads(encode_value(record))["schema"] == 3
    assert dict(encode_headers(record))["schema"] == b"3"
    assert decode_value(encode_value(record), {"Parted": Parted}).fact == record.fact


@pytest.mark.parametrize("version", [0, 4, -1, "2", None, 2.5])
def test_a_version_that_is_not_known_is_told(steps, version):
    with pytest.raises(UnreadableRecord, match="not a valid Parted"):
        decoded(schema=version, first="Ada", last="Lovelace")


def test_a_lifted_record_must_still_fit_its_id(steps):
    with pytest.raises(UnreadableRecord, match="does not fit"):
        decoded(name="Charles Babbage")


def test_every_kind_has_a_step_from_each_earlier_version():
    for topic in TOPICS.values():
        for kind, model in topic.kinds.items():
            for version in range(1, model.version):
                assert (kind, version) in upcasting.STEPS
