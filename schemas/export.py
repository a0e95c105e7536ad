"""JSON Schemas of every fact, for readers of the log who do not speak Python.

`python -m schemas.export` writes `schemas/exported/<topic>.json`; `--check` compares instead and
ends with 1 where a file differs. The schemas describe the value of a record as it stands on the
log: the fact's own fields with `kind`, `id` and `at` beside them.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from schemas.base import SCHEMA_VERSION, UINT256_MAX, Amount, Fact
from schemas.topics import TOPICS, Topic

FOLDER = Path(__file__).resolve().parent / "exported"


def fact_schema(model: type[Fact]) -> dict[str, Any]:
    """One fact's schema as it stands on the log. Fields that are None are left out there."""
    schema = model.model_json_schema(mode="serialization")
    schema.pop("$defs", None)
    envelope: dict[str, Any] = {
        "kind": {"const": model.__name__},
        "id": {"type": "string", "description": "A function of the content; see the fact."},
        "at": {
            "type": "string",
            "format": "date-time",
            "description": "When the writer appended it: RFC 3339 UTC with milliseconds.",
        },
    }
    defaults = {name for name, field in model.model_fields.items() if not field.is_required()}
    schema["properties"] = {**envelope, **_properties(model)}
    schema["required"] = [*envelope, *(name for name in model.model_fields if name not in defaults)]
    return schema


def _properties(model: type[Fact]) -> dict[str, Any]:
    """The fields as JSON. Amounts are written as decimal strings and enums stand in full."""
    schema = model.model_json_schema(mode="serialization")
    definitions = schema.get("$defs", {})
    properties: dict[str, Any] = {}
    for name, content in schema["properties"].items():
        reference = content.get("$ref", "").removeprefix("#/$defs/")
        properties[name] = dict(definitions[reference]) if reference else dict(content)
        properties[name] = _inlined(properties[name], definitions)
        choices = [choice for choice in content.get("anyOf", []) if choice != {"type": "null"}]
        if "anyOf" in content:
            properties[name] = {
                **_inlined(choices[0], definitions),
                "title": content.get("title", name),
            }
        if properties[name].get("type") == "string" and _is_amount(model, name):
            properties[name].pop("le", None)
            properties[name] |= {"pattern": "^(0|[1-9][0-9]*)$", "maxLength": len(str(UINT256_MAX))}
    return properties


def _inlined(content: Any, definitions: dict[str, Any]) -> Any:
    """With what it refers to in the place of the reference."""
    if isinstance(content, list):
        return [_inlined(item, definitions) for item in content]
    if not isinstance(content, dict):
        return content
    if "$ref" in content:
        return _inlined(definitions[content["$ref"].removeprefix("#/$defs/")], definitions)
    return {name: _inlined(item, definitions) for name, item in content.items()}


def _is_amount(model: type[Fact], name: str) -> bool:
    return model.model_fields[name].annotation in (int, Amount | None)


def topic_schema(topic: Topic) -> dict[str, Any]:
    """A value of the topic is one of its kinds; `kind` tells which."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": topic.name,
        "description": f"Values of the topic {topic.name}, schema version {SCHEMA_VERSION}.",
        "oneOf": [{"$ref": f"#/$defs/{kind}"} for kind in topic.kinds],
        "$defs": {kind: fact_schema(model) for kind, model in topic.kinds.items()},
    }


def exported() -> dict[str, str]:
    """File name to content, for each topic that holds facts."""
    return {
        f"{topic.name}.json": json.dumps(topic_schema(topic), indent=2, ensure_ascii=False) + "\n"
        for topic in TOPICS.values()
        if topic.kinds
    }


def differing(folder: Path = FOLDER) -> list[str]:
    """Names of files that are missing, stale, or no longer exported."""
    wanted = exported()
    there = {path.name: path.read_text(encoding="utf-8") for path in folder.glob("*.json")}
    return sorted(
        name for name in wanted.keys() | there.keys() if wanted.get(name) != there.get(name)
    )


def main(arguments: list[str]) -> int:
    if "--check" in arguments:
        for name in differing():
            sys.stderr.write(f"schemas/exported/{name} differs: run python -m schemas.export\n")
        return 1 if differing() else 0
    FOLDER.mkdir(exist_ok=True)
    for name in differing():
        (FOLDER / name).unlink(missing_ok=True)
    for name, content in exported().items():
        (FOLDER / name).write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
