"""The Grafana dashboard: `python -m orchestrator.dev.dashboard [--check]` writes or compares it.

A dashboard as JSON is long and says little; what it shows stands here as rows of panels. Every
query is compared with the metrics that the service exposes (tests/deploy/test_monitoring.py).
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FILE = Path(__file__).resolve().parents[2] / "deploy" / "grafana" / "orchestrator.json"
WIDTH = 24
SOURCE = {"type": "prometheus", "uid": "${source}"}


@dataclass(frozen=True, slots=True)
class Panel:
    """One picture. `queries` are expressions with their legends; `unit` is Grafana's name of it."""

    title: str
    queries: tuple[tuple[str, str], ...]
    unit: str = "short"
    kind: str = "timeseries"
    warn_above: float | None = None


def _quantiles(metric: str, by: str = "", where: str = "") -> tuple[tuple[str, str], ...]:
    """p50, p95 and p99 of a histogram."""
    labels = f"le, {by}" if by else "le"
    legend = f" {{{{{by}}}}}" if by else ""
    return tuple(
        (
            f"histogram_quantile({share}, sum by ({labels}) (rate({metric}_bucket{where}[5m])))",
            f"p{round(share * 100)}{legend}",
        )
        for share in (0.5, 0.95, 0.99)
    )


ROWS: tuple[tuple[str, tuple[Panel, ...]], ...] = (
    (
        "Requests",
        (
            Panel(
                "Completed a minute",
                (
                    (
                        "sum by (type) (rate(orchestrator_request_seconds_count[5m])) * 60",
                        "{{type}}",
                    ),
                ),
            ),
            Panel(
                "In each stage",
                (("max by (type, stage) (orchestrator_requests)", "{{type}} {{stage}}"),),
            ),
            Panel("Received to completed", _quantiles("orchestrator_request_seconds"), "s"),
            Panel(
                "Oldest open request",
                (
                    (
                        "max by (type, stage) (orchestrator_oldest_open_request_age_seconds)",
                        "{{type}} {{stage}}",
                    ),
                ),
                "s",
                warn_above=900,
            ),
            Panel(
                "Time in each step, p95",
                (
                    (
                        "histogram_quantile(0.95, sum by (le, stage) "
                        "(rate(orchestrator_step_seconds_bucket[5m])))",
                        "to {{stage}}",
                    ),
                ),
                "s",
            ),
            Panel(
                "What needs a person",
                (
                    ("max by (reason) (orchestrator_dead_letters)", "dead letters {{reason}}"),
                    (
                        "sum by (verdict) (increase(orchestrator_refused_facts_total"
                        "{verdict!='REPEATED'}[1h]))",
                        "refused in an hour: {{verdict}}",
                    ),
                    ("max(orchestrator_projection_faults)", "unreadable records"),
                ),
                warn_above=1,
            ),
        ),
    ),
    (
        "Policies",
        (
            Panel(
                "Held mints, by rule",
                (("max by (rule) (orchestrator_held_requests)", "{{rule}}"),),
            ),
            Panel(
                "Oldest hold",
                (("max by (rule) (orchestrator_oldest_hold_age_seconds)", "{{rule}}"),),
                "s",
                warn_above=900,
            ),
            Panel(
                "Judging",
                (
                    ("max(orchestrator_policy_waiting)", "waiting to be judged"),
                    (
                        "max by (chain_id) (orchestrator_registry_unasked_seconds)",
                        "registry of {{chain_id}} unasked, seconds",
                    ),
                    (
                        "count by (version) (orchestrator_policy_in_force)",
                        "processes under policy {{version}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Chains and lanes",
        (
            Panel(
                "Age of the nodes' newest block",
                (("max by (chain_id) (orchestrator_chain_head_age_seconds)", "{{chain_id}}"),),
                "s",
                warn_above=120,
            ),
            Panel(
                "Blocks to follow",
                (("max by (chain_id) (orchestrator_chain_head_lag_blocks)", "{{chain_id}}"),),
                warn_above=100,
            ),
            Panel(
                "Nonces out and not mined",
                (
                    (
                        "max by (chain_id, wallet) (orchestrator_lane_nonce_gap)",
                        "{{chain_id}} {{wallet}}",
                    ),
                ),
            ),
            Panel(
                "Waiting for a nonce",
                (
                    (
                        "max by (chain_id, wallet) (orchestrator_lane_waiting)",
                        "{{chain_id}} {{wallet}}",
                    ),
                ),
            ),
            Panel(
                "Balances",
                (
                    (
                        "min by (chain_id, wallet) (orchestrator_lane_balance_wei) / 1e18",
                        "{{chain_id}} {{wallet}}",
                    ),
                ),
            ),
            Panel(
                "Reorganisations and replacements in an hour",
                (
                    (
                        "sum by (chain_id) "
                        "(increase(orchestrator_orphaned_transactions_total[1h]))",
                        "orphaned {{chain_id}}",
                    ),
                    (
                        "sum by (chain_id) "
                        "(increase(orchestrator_replaced_transactions_total[1h]))",
                        "replaced {{chain_id}}",
                    ),
                    (
                        "sum by (chain_id) (increase(orchestrator_deep_reorgs_total[1h]))",
                        "beyond the depth {{chain_id}}",
                    ),
                ),
            ),
        ),
    ),
    (
        "Dependencies",
        (
            Panel("KMS", _quantiles("orchestrator_kms_request_seconds"), "s"),
            Panel(
                "KMS errors a second",
                (
                    (
                        "sum by (operation, reason) (rate(orchestrator_kms_errors_total[5m]))",
                        "{{operation}} {{reason}}",
                    ),
                ),
            ),
            Panel(
                "Nodes, p95",
                (
                    (
                        "histogram_quantile(0.95, sum by (le, chain_id) "
                        "(rate(orchestrator_rpc_request_seconds_bucket[5m])))",
                        "{{chain_id}}",
                    ),
                ),
                "s",
            ),
            Panel(
                "Node errors a second",
                (
                    (
                        "sum by (chain_id, reason) (rate(orchestrator_rpc_errors_total[5m]))",
                        "{{chain_id}} {{reason}}",
                    ),
                ),
            ),
            Panel(
                "Kuro",
                (
                    ("max(orchestrator_kuro_connected)", "socket open"),
                    (
                        "sum by (outcome) (rate(orchestrator_kuro_messages_total[5m]))",
                        "messages a second: {{outcome}}",
                    ),
                ),
            ),
            Panel(
                "Consumer lag",
                (
                    (
                        "max by (group, topic) (orchestrator_consumer_lag_records)",
                        "{{group}} {{topic}}",
                    ),
                ),
                warn_above=10_000,
            ),
        ),
    ),
    (
        "Seals",
        (
            Panel(
                "Since the newest sealed day was over",
                (("min by (anchor) (orchestrator_seal_age_seconds)", "{{anchor}}"),),
                "s",
                warn_above=108_000,
            ),
            Panel(
                "Anchors",
                (
                    ("max by (anchor) (orchestrator_seal_anchor_up)", "{{anchor}} read"),
                    ("max by (anchor) (orchestrator_seal_refused)", "{{anchor}} refused"),
                ),
            ),
        ),
    ),
    (
        "The service itself",
        (
            Panel(
                "HTTP, p95",
                (
                    (
                        "histogram_quantile(0.95, sum by (le, route) "
                        "(rate(orchestrator_http_request_seconds_bucket[5m])))",
                        "{{route}}",
                    ),
                ),
                "s",
            ),
            Panel(
                "HTTP answers a second",
                (
                    (
                        "sum by (status) (rate(orchestrator_http_request_seconds_count[5m]))",
                        "{{status}}",
                    ),
                ),
            ),
            Panel(
                "Age of what the API shows",
                (("min(orchestrator_projection_age_seconds)", "age"),),
                "s",
                warn_above=60,
            ),
            Panel("Memory", (("process_resident_memory_bytes", "{{job}} {{instance}}"),), "bytes"),
            Panel(
                "Processor",
                (("rate(process_cpu_seconds_total[5m])", "{{job}} {{instance}}"),),
                "percentunit",
            ),
            Panel(
                "Webhooks",
                (
                    (
                        "sum by (endpoint, outcome) "
                        "(rate(orchestrator_webhook_deliveries_total[5m]))",
                        "{{endpoint}} {{outcome}}",
                    ),
                    (
                        "max by (endpoint) (orchestrator_webhook_lag_records)",
                        "{{endpoint}} records behind",
                    ),
                ),
            ),
        ),
    ),
)


def dashboard() -> dict[str, Any]:
    """The whole, as Grafana imports it."""
    panels: list[dict[str, Any]] = []
    top = 0
    for title, row in ROWS:
        place = {"x": 0, "y": top, "w": WIDTH, "h": 1}
        panels.append({"type": "row", "title": title, "gridPos": place, "panels": []})
        for number, panel in enumerate(row):
            width, height = WIDTH // 3, 8
            place = {"x": number % 3 * width, "y": top + 1 + number // 3 * height}
            panels.append(_panel(panel, {**place, "w": width, "h": height}))
        top += 1 + -(-len(row) // 3) * 8
    for number, shown in enumerate(panels, 1):
        shown["id"] = number
    return {
        "title": "Stablecoin orchestrator",
        "uid": "stablecoin-orchestrator",
        "schemaVersion": 39,
        "timezone": "utc",
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "tags": ["stablecoin"],
        "templating": {
            "list": [
                {"name": "source", "label": "Source", "type": "datasource", "query": "prometheus"}
            ]
        },
        "panels": panels,
    }


def _panel(panel: Panel, place: dict[str, int]) -> dict[str, Any]:
    steps: list[dict[str, Any]] = [{"color": "green", "value": None}]
    if panel.warn_above is not None:
        steps.append({"color": "red", "value": panel.warn_above})
    shown = "dashed" if panel.warn_above is not None else "off"
    return {
        "type": panel.kind,
        "title": panel.title,
        "datasource": SOURCE,
        "gridPos": place,
        "fieldConfig": {
            "defaults": {
                "unit": panel.unit,
                "min": 0 if panel.title != "Nonces out and not mined" else None,
                "thresholds": {"mode": "absolute", "steps": steps},
                "custom": {"thresholdsStyle": {"mode": shown}, "fillOpacity": 5},
            },
            "overrides": [],
        },
        "options": {"legend": {"displayMode": "list", "placement": "bottom"}},
        "targets": [
            {"refId": chr(ord("A") + n), "expr": text, "legendFormat": legend, "datasource": SOURCE}
            for n, (text, legend) in enumerate(panel.queries)
        ],
    }


def text() -> str:
    return json.dumps(dashboard(), indent=1) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="the Grafana dashboard")
    parser.add_argument("--check", action="store_true", help="compare with the committed file")
    if parser.parse_args().check:
        return 0 if FILE.read_text(encoding="utf-8") == text() else 1
    FILE.write_text(text(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
