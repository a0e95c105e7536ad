"""Every client of Kafka is made by `KafkaAccess`: one that is not would speak plain text."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.tidy.project import ROOT, python_files

MAKER = Path("orchestrator/kafka_clients.py")
VALUE = Path("orchestrator/kafka_access.py")
MADE = {"AIOKafkaProducer", "AIOKafkaConsumer", "AIOKafkaAdminClient", "AIOKafkaClient"}
SERVICE = [
    path
    for path in python_files()
    if path.parts[0] in ("orchestrator", "streams", "projections") and path not in (MAKER, VALUE)
]


def last_name(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def faults(tree: ast.AST) -> list[str]:
    found = []
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        called, given = last_name(node.func), {item.arg for item in node.keywords}
        clients = MADE | {"Producer", "Consumer", "Admin", "create_conn"}
        if called in clients or "bootstrap_servers" in given:
            found.append(f"line {node.lineno}: {called} is made beside KafkaAccess")
        if ast.unparse(node.func) in ("faust.App", "App"):
            spread = [ast.unparse(item.value) for item in node.keywords if item.arg is None]
            if "broker" in given or not any(text.startswith("broker_of(") for text in spread):
                found.append(f"line {node.lineno}: a Faust app without broker_of")
    return found


@pytest.mark.parametrize("path", SERVICE, ids=str)
def test_no_client_is_made_elsewhere(path):
    assert faults(ast.parse((ROOT / path).read_text())) == []


@pytest.mark.parametrize(
    "line",
    [
        "AIOKafkaConsumer('requests')",
        "aiokafka.AIOKafkaProducer(**options)",
        "make(bootstrap_servers='kafka:9092')",
        "faust.App('decide', broker='aiokafka://kafka')",
        "faust.App('decide', **options)",
    ],
)
def test_a_client_beside_it_would_be_found(line):
    assert faults(ast.parse(line))


def test_the_maker_makes_them():
    text = (ROOT / MAKER).read_text()
    assert all(f", {name})" in text for name in MADE - {"AIOKafkaClient"})
