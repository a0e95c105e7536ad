"""Alerts and dashboard ask only for what the service exposes; each alert has its runbook."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import promql_parser
import pytest
import yaml

from orchestrator.dev import dashboard
from orchestrator.metric_catalogue import CATALOGUE
from tests.tidy.project import ROOT

FOLDER = ROOT / "deploy" / "prometheus"
RULES = yaml.safe_load((FOLDER / "alerts.yml").read_text(encoding="utf-8"))
ALERTS = {rule["alert"]: rule for group in RULES["groups"] for rule in group["rules"]}
CASES = yaml.safe_load((FOLDER / "alerts.test.yml").read_text(encoding="utf-8"))["tests"]
PANELS = {panel.title: panel for _, row in dashboard.ROWS for panel in row}
OF_EACH_PROCESS = {
    "process_cpu_seconds_total",
    "process_resident_memory_bytes",
    "process_open_fds",
    "process_start_time_seconds",
}
WANTED = {
    "stuck-lane",
    "empty-wallet",
    "kms-down",
    "rpc-lagging",
    "kuro-silent",
    "reorg-beyond-depth",
    "consumer-lag",
    "dead-letters",
    "conflicting-facts",
    "supply-mismatch",
}


def exposed() -> dict[str, set[str]]:
    """Every series that there can be, with its labels."""
    found: dict[str, set[str]] = {name: set() for name in OF_EACH_PROCESS}
    for spec in CATALOGUE.values():
        labels = set(spec.labels)
        if spec.kind == "histogram":
            found[f"{spec.full_name}_bucket"] = labels | {"le"}
            found[f"{spec.full_name}_count"] = found[f"{spec.full_name}_sum"] = labels
        else:
            found[spec.full_name] = labels
    return found


def inner(node: Any) -> list[Any]:
    parts = [getattr(node, name, None) for name in ("lhs", "rhs", "expr", "vs", "vector_selector")]
    return [part for part in (*parts, *(getattr(node, "args", None) or ())) if part is not None]


def selectors(node: Any) -> Iterator[tuple[str, set[str]]]:
    """Every metric that is asked for, with the labels that it is chosen by."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node.name, {matcher.name for matcher in node.matchers.matchers}
    for part in inner(node):
        yield from selectors(part)


def groupings(node: Any) -> Iterator[tuple[set[str], set[str]]]:
    """Every `by (…)`, with the metrics below it."""
    modifier = getattr(node, "modifier", None)
    if isinstance(node, promql_parser.AggregateExpr) and modifier is not None:
        yield set(modifier.labels), {name for name, _ in selectors(node)}
    for part in inner(node):
        yield from groupings(part)


QUERIES = {
    **{f"alert {name}": rule["expr"] for name, rule in ALERTS.items()},
    **{
        f"panel {title}, {number}": query
        for title, panel in PANELS.items()
        for number, (query, _) in enumerate(panel.queries)
    },
}


@pytest.mark.parametrize("name", QUERIES)
def test_a_query_asks_for_what_is_exposed(name):
    parsed, known = promql_parser.parse(QUERIES[name]), exposed()
    asked = list(selectors(parsed))
    assert asked
    for metric, labels in asked:
        assert metric in known, f"{name}: no such metric: {metric}"
        assert labels <= known[metric], f"{name}: {metric} has no {labels - known[metric]}"
    for labels, metrics in groupings(parsed):
        for metric in metrics:
            assert labels <= known[metric], f"{name}: {metric} has no {labels - known[metric]}"


def test_the_check_finds_what_is_not_there():
    query = promql_parser.parse("sum by (colour) (rate(orchestrator_nothing_total{shape='x'}[5m]))")
    assert list(selectors(query)) == [("orchestrator_nothing_total", {"shape"})]
    assert list(groupings(query)) == [({"colour"}, {"orchestrator_nothing_total"})]


@pytest.mark.parametrize("name", ALERTS)
def test_an_alert_has_its_page_its_words_and_its_weight(name):
    rule = ALERTS[name]
    page = (ROOT / rule["annotations"]["runbook"]).read_text(encoding="utf-8")
    assert f"`{name}`" in page, "the page names the alert"
    assert rule["labels"]["severity"] in ("page", "ticket")
    index = (ROOT / "docs" / "runbooks" / "README.md").read_text(encoding="utf-8")
    assert re.search(rf"\b{name}\b", index)
    labels = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    grouped = [found for found, _ in groupings(promql_parser.parse(rule["expr"]))]
    assert labels <= set().union(*grouped, set()), "the summary names only labels that are kept"


def test_every_page_is_led_to_and_every_wanted_case_has_one():
    pages = {path.stem for path in (ROOT / "docs" / "runbooks").glob("*.md")} - {"README"}
    led_to = {rule["annotations"]["runbook"].split("/")[-1][:-3] for rule in ALERTS.values()}
    assert pages == led_to
    index = (ROOT / "docs" / "runbooks" / "README.md").read_text(encoding="utf-8")
    assert all(f"({page}.md)" in index for page in pages)
    assert pages >= WANTED


def test_runbooks_name_only_commands_that_there_are():
    import typer

    from orchestrator.cli import app

    group = typer.main.get_command(app)
    known = set(group.commands)
    for path in (ROOT / "docs" / "runbooks").glob("*.md"):
        text = path.read_text(encoding="utf-8")
        for command, rest in re.findall(r"\borchestrator ([a-z][a-z-]+)( [a-z][a-z-]+)?", text):
            assert command in known, f"{path.name}: orchestrator {command}"
            inside = getattr(group.commands[command], "commands", None)
            if inside is not None and rest:
                assert rest.strip() in inside, f"{path.name}: orchestrator {command}{rest}"


def test_the_dashboard_is_the_committed_one():
    assert dashboard.FILE.read_text(encoding="utf-8") == dashboard.text()


@pytest.mark.skipif(not shutil.which("promtool"), reason="NOT CHECKED: promtool is not installed")
@pytest.mark.parametrize(
    "command", [["check", "rules", "alerts.yml"], ["test", "rules", "alerts.test.yml"]]
)
def test_prometheus_itself_takes_the_rules(command):
    done = subprocess.run(
        ["promtool", *command], cwd=FOLDER, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def cases_of(alert: str) -> list[tuple[bool, set[str]]]:
    """For each time that promtool looks for it: whether it is expected, and the case's metrics."""
    found = []
    for case in CASES:
        series = {promql_parser.parse(item["series"]).name for item in case["input_series"]}
        for look in case["alert_rule_test"]:
            if look["alertname"] == alert:
                found.append((bool(look["exp_alerts"]), series))
    return found


def test_every_alert_has_a_case_that_makes_it_and_one_that_does_not():
    expected = {name: {expected for expected, _ in cases_of(name)} for name in ALERTS}
    lacking = {name: found for name, found in expected.items() if found != {True, False}}
    assert lacking == {}, "write what they lack into deploy/prometheus/alerts.test.yml"
    assert {look["alertname"] for case in CASES for look in case["alert_rule_test"]} == {*ALERTS}


@pytest.mark.parametrize("name", ALERTS)
def test_the_cases_of_an_alert_are_of_its_own_metrics_as_they_are_exposed(name):
    asked = {metric for metric, _ in selectors(promql_parser.parse(ALERTS[name]["expr"]))}
    assert any(expected and asked <= series for expected, series in cases_of(name))


def test_the_series_of_cases_are_exposed_ones():
    known = exposed()
    for case in CASES:
        for item in case["input_series"]:
            selector = promql_parser.parse(item["series"])
            labels = {matcher.name for matcher in selector.matchers.matchers} - {"instance"}
            assert selector.name in known, f"{case['name']}: {selector.name}"
            assert labels <= known[selector.name], f"{case['name']}: {selector.name}"


def test_every_role_is_scraped_where_it_listens():
    from tests.deploy.shape import filled, own

    jobs = yaml.safe_load((FOLDER / "prometheus.yml").read_text(encoding="utf-8"))
    scraped = {
        name: found["port"]
        for job in jobs["scrape_configs"]
        for found in job["dns_sd_configs"]
        for name in found["names"]
    }
    listening = {
        name: int(filled(service["environment"]["METRICS_PORT"], {}))
        for name, service in own().items()
        if name != "seal"  # the API tells of seals
    }
    assert scraped.pop("api") == 3000
    assert scraped == {name: listening[name] for name in set(listening) - {"api", "init"}}
