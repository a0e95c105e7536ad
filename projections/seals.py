"""What the API tells of the log's seals: how old the newest is, and what is not well with it."""

from __future__ import annotations

from aiohttp import web
from prometheus_client.core import Metric

from orchestrator.metrics import gauge_family
from orchestrator.sealing.watching import SealWatch
from projections.health import Check

SEALS: web.AppKey[SealWatch | None] = web.AppKey("seals")


def check_seals(watch: SealWatch | None) -> Check:
    """That nothing is sealed is no fault of this process; it is said all the same."""
    if watch is None:
        return Check(True, "not sealed: SEAL_ANCHORS is not set for this process")
    now, standings = watch.now, watch.standings()
    ages = {one.anchor: one.age_seconds(now) for one in standings}
    facts = {
        "newestDay": {one.anchor: one.day for one in standings},
        "ageSeconds": {name: None if age is None else round(age) for name, age in ages.items()},
    }
    troubles = [f"{one.anchor}: {text}" for one in standings if (text := one.trouble(now))]
    if troubles:
        return Check(False, "; ".join(troubles), facts)
    if not all(one.looked for one in standings):
        return Check(True, "the anchors were not looked at yet", facts)
    day = min(one.day or "" for one in standings)
    doubt = "" if all(one.trusted for one in standings) else "; SEAL_PUBLIC_KEYS_FILE is not given"
    return Check(True, f"sealed up to {day}{doubt}", facts)


def seal_families(watch: SealWatch | None) -> list[Metric]:
    """Nothing at all where nothing is to be sealed."""
    age, up = gauge_family("seal_age_seconds"), gauge_family("seal_anchor_up")
    refused = gauge_family("seal_refused")
    for one in watch.standings() if watch is not None else ():
        if not one.looked:
            continue
        assert watch is not None
        up.add_metric([one.anchor], one.stands)
        refused.add_metric([one.anchor], one.refused is not None)
        seconds = one.age_seconds(watch.now)
        if seconds is not None:
            age.add_metric([one.anchor], seconds)
    return [age, up, refused]
