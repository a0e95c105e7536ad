"""The exported JSON Schemas are what the code says, and describe what stands on the log."""

from __future__ import annotations

import json
import re

import pytest

from schemas.base import Record, encode_value
from schemas.export import FOLDER, differing, exported
from schemas.topics import TOPICS
from tests.schemas.test_records import AT, mint

DOCUMENTS = {name: json.loads(text) for name, text in exported().items()}


def test_the_exported_files_are_up_to_date():
    assert differing() == [], "run python -m schemas.export"
    assert {path.name for path in FOLDER.iterdir()} == set(DOCUMENTS)


@pytest.mark.parametrize("topic", [topic for topic in TOPICS.values() if topic.kinds])
def test_each_fact_is_described_with_its_envelope(topic):
    document = DOCUMENTS[f"{topic.name}.json"]
    assert set(document["$defs"]) == set(topic.kinds)
    for kind, model in topic.kinds.items():
        schema = document["$defs"][kind]
        assert schema["properties"]["kind"] == {"const": kind}
        assert {"kind", "id", "at"} <= set(schema["required"])
        assert set(schema["properties"]) == {"kind", "id", "at", *model.model_fields}
        assert schema["additionalProperties"] is False
        assert "$ref" not in json.dumps(schema)


def test_a_fact_fits_its_schema():
    """By hand, for the keywords that the export uses."""
    schema = DOCUMENTS["kuro.events.json"]["$defs"]["MintOk"]
    body = json.loads(encode_value(Record(mint(), AT)))
    assert set(schema["required"]) <= body.keys() <= schema["properties"].keys()
    types = {"string": str, "integer": int, "boolean": bool}
    for name, value in body.items():
        rule = schema["properties"][name]
        if "type" in rule:
            assert isinstance(value, types[rule["type"]])
        if "pattern" in rule:
            assert re.search(rule["pattern"], value)
        if "enum" in rule:
            assert value in rule["enum"]


def test_amounts_are_described_as_decimal_strings():
    amount = DOCUMENTS["evm.events.json"]["$defs"]["ContractEvent"]["properties"]["amount"]
    assert (amount["type"], amount["maxLength"]) == ("string", 78)
    assert re.search(amount["pattern"], "0")
    assert not re.search(amount["pattern"], "01")
