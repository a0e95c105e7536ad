"""What a running service exposes, against the catalogue and against what is known to be true."""

from __future__ import annotations

import asyncio
from urllib.request import urlopen

from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.metric_catalogue import CATALOGUE, PREFIX, Kind
from schemas.topics import REQUESTS
from tests.e2e.harness import World, until

ONLY_WITH_AN_EVENT = {
    "deep_reorgs_total",
    "retractions_total",
    "kms_errors_total",
    "rpc_errors_total",
    "kuro_failures_total",
    "webhook_deliveries_total",
    "webhook_request_seconds",
    "webhook_dead_letters",
    "webhook_failing_seconds",
    "webhook_lag_records",
    "oldest_open_request_age_seconds",
    "oldest_hold_age_seconds",
    "registry_unasked_seconds",
    "seal_age_seconds",
    "seal_anchor_up",
    "seal_refused",
}
"""Absent, or without a sample, until there is one; seals where an anchor is configured."""


async def scrape(url: str) -> dict[str, Metric]:
    """Families by their name in the catalogue; a counter's ends with _total there."""
    text = await asyncio.to_thread(lambda: urlopen(f"{url}/metrics").read().decode())
    found = {}
    for family in text_string_to_metric_families(text):
        assert family.name not in found, f"{family.name} is exposed twice"
        found[family.name + ("_total" if family.type == "counter" else "")] = family
    return found


def value(families: dict[str, Metric], name: str, **labels: str) -> float | None:
    for sample in families[PREFIX + name].samples:
        if sample.labels.items() >= labels.items() and not sample.name.endswith("_bucket"):
            return float(sample.value)
    return None


async def test_a_run_exposes_the_catalogue_and_it_is_true(world: World) -> None:
    chain_id = 5921
    keys = await world.mint(chain_id=chain_id, count=3)
    await world.ended(keys)

    async def settled() -> bool:
        found = await scrape(world.service.base_url)
        return value(found, "lane_in_flight", chain_id="5921") == 0

    await until(settled, "the lane has nothing in flight")
    found = await scrape(world.service.base_url)
    for name, family in found.items():
        if not name.startswith(PREFIX):
            continue
        spec = CATALOGUE[name.removeprefix(PREFIX)]
        assert family.type == spec.kind and family.documentation == spec.meaning
        for sample in family.samples:
            assert set(sample.labels) - {"le"} == set(spec.labels), sample
    with_values = {name.removeprefix(PREFIX) for name, family in found.items() if family.samples}
    assert set(CATALOGUE) - ONLY_WITH_AN_EVENT <= with_values
    lane = {"chain_id": "5921"}
    assert value(found, "lane_nonce_gap", **lane) == 0
    assert value(found, "lane_chain_nonce", **lane) == value(found, "lane_next_nonce", **lane)
    wallet = found[PREFIX + "lane_balance_wei"].samples[0]
    assert wallet.value > 10**17
    assert (value(found, "kuro_messages_total", outcome="accepted") or 0) >= 3
    assert value(found, "kuro_connected") == 1
    for stage in ("DRAFTED", "SIGNED", "RELAYING", "INCLUDED", "COMPLETED"):
        assert _count(found, "step_seconds", type="MINT", chain_id="5921", stage=stage) >= 3
    assert _count(found, "request_seconds", type="MINT", chain_id="5921") >= 3
    head = value(found, "chain_head_block", **lane) or 0
    assert abs(head - await world.block_number(chain_id)) < 30
    assert value(found, "chain_head_age_seconds", **lane) is not None
    for role in ("decide", "sign"):
        kept = {"role": role, "place": "disk"}
        assert value(found, "book_partitions", **kept) == REQUESTS.partitions
        assert (value(found, "book_resting_bytes", **kept) or 0) > 0
        assert value(found, "book_partitions", role=role, place="memory") == 0
    lagging = {sample.labels["group"] for sample in found[PREFIX + "consumer_lag_records"].samples}
    assert {"projection", "orchestrator-decide", "orchestrator-sign"} <= lagging
    queues = await world.get("/metrics/queues")
    for kind in ("MINT", "REDEEM"):
        stages = found[PREFIX + "requests"].samples
        total = sum(sample.value for sample in stages if sample.labels["type"] == kind)
        assert sum(queues[kind.lower()].values()) == total


def _count(families: dict[str, Metric], name: str, **labels: str) -> float:
    return sum(
        sample.value
        for sample in families[PREFIX + name].samples
        if sample.name.endswith("_count") and sample.labels.items() >= labels.items()
    )


def test_every_kind_of_the_catalogue_is_tested_here() -> None:
    assert {spec.kind for spec in CATALOGUE.values()} == set(Kind)
