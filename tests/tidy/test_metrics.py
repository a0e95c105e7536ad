"""Metrics: named by convention, made from the catalogue alone, told as the page says."""

from __future__ import annotations

import ast
import re

import pytest
from prometheus_client.parser import text_string_to_metric_families

from orchestrator import metrics
from orchestrator.metric_catalogue import BEGIN, CATALOGUE, END, PREFIX, Kind, section
from tests.tidy.project import ROOT, python_files

ONLY_HERE = {
    "orchestrator/metrics.py",
    "orchestrator/metric_catalogue.py",
    "orchestrator/metric_specs.py",
}
FAMILIES = re.compile(r"^(Counter|Gauge|Histogram|Summary|Info|Enum)(MetricFamily)?$")


def test_the_page_shows_the_catalogue():
    text = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")
    shown = text[text.index(BEGIN) : text.index(END) + len(END)]
    assert shown == section(), "put in what python -m orchestrator.metric_catalogue prints"


@pytest.mark.parametrize("spec", CATALOGUE.values(), ids=lambda spec: spec.name)
def test_names_follow_the_conventions_of_prometheus(spec):
    """https://prometheus.io/docs/practices/naming/: base units, and counters end with _total."""
    assert re.fullmatch(r"[a-z][a-z0-9_]*[a-z0-9]", spec.name)
    assert (spec.kind is Kind.COUNTER) == spec.name.endswith("_total")
    assert (spec.kind is not Kind.HISTOGRAM) or spec.name.endswith("_seconds")
    assert not re.search(r"milli|minutes|hours|_ms\b|gwei", spec.name)
    assert spec.meaning[0].isupper() or spec.meaning[0].isdigit()
    assert spec.meaning.endswith(".") and "|" not in spec.meaning


@pytest.mark.parametrize("path", [p for p in python_files() if p.parts[0] != "tests"], ids=str)
def test_no_metric_is_made_beside_the_catalogue(path):
    if str(path) in ONLY_HERE:
        return
    for node in ast.walk(ast.parse((ROOT / path).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("prometheus_client"):
            made = [item.name for item in node.names if FAMILIES.match(item.name)]
            assert set(made) <= {"GaugeMetricFamily"}, f"{path}:{node.lineno}: {made}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            queries = path.name == "dashboard.py"  # compared by tests/deploy/test_monitoring.py
            assert queries or not node.value.startswith("orchestrator_")


def test_what_is_watched_is_told_while_it_is_watched():
    def read():
        yield "lane_balance_wei", (1, "0xw"), 5
        yield "lane_next_nonce", (1, "0xw"), None

    with metrics.watch(read):
        told = {family.name: family for family in _families()}
        [sample] = told[PREFIX + "lane_balance_wei"].samples
        assert (sample.labels, sample.value) == ({"chain_id": "1", "wallet": "0xw"}, 5)
        assert PREFIX + "lane_next_nonce" not in told, "what is not known is absent"
    assert PREFIX + "lane_balance_wei" not in {family.name for family in _families()}


def _families():
    return text_string_to_metric_families(metrics.exposition().decode())


def test_other_names_cannot_be_exposed():
    with pytest.raises(KeyError):
        metrics.gauge_family("made_up")
    with pytest.raises(KeyError):
        metrics.counter("made_up_total")
