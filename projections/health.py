"""What is well and what is not, each with a sentence a person can act on."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from orchestrator.core.controls import Pause
from orchestrator.errors import LogUnavailable
from projections.database import schema_head
from projections.holds import holds
from projections.lag import LogProbe, lag_by_topic
from projections.pauses import pauses
from projections.rows import rfc3339, supply_object
from projections.store import Row, Store, StoreUnavailable
from schemas.controls import supply_scope
from schemas.policies import PolicyRule

STALE_SECONDS = 60.0
"""Answers older than this are not served as ready."""
CHAIN_STALE_SECONDS = 600.0
"""A chain without a newly followed block, or a comparison of its supply, for so long is reported;
it does not unready the API."""


@dataclass(frozen=True, slots=True)
class Check:
    ok: bool
    detail: str
    facts: dict[str, Any] = field(default_factory=dict)

    def shown(self) -> dict[str, Any]:
        return {"ok": self.ok, "detail": self.detail, **self.facts}


async def check_database(store: Store) -> dict[str, Check]:
    """`database` and `migrations`."""
    try:
        revision = await store.revision()
    except StoreUnavailable as error:
        unknown = Check(False, "unknown while the database does not answer")
        return {"database": Check(False, str(error)), "migrations": unknown}
    database = Check(True, "answers")
    if revision == schema_head():
        return {"database": database, "migrations": Check(True, f"at revision {revision}")}
    detail = f"at {revision or 'nothing'}, this version needs {schema_head()}"
    return {"database": database, "migrations": Check(False, detail)}


async def check_projection(store: Store) -> Check:
    """Fresh when a writer lately confirmed that all of the log was in the tables."""
    try:
        writer = await store.writer()
    except StoreUnavailable as error:
        return Check(False, str(error))
    if writer is None:
        return Check(False, "no projection has run on this database yet")
    age = writer["fresh_age_seconds"]
    facts = {
        "writer": writer["writer"],
        "freshAt": rfc3339(writer["fresh_at"]) if writer["fresh_at"] else None,
        "ageSeconds": None if age is None else round(age, 1),
    }
    problem = f"; the writer says: {writer['problem']}" if writer["problem"] else ""
    if writer["beat_age_seconds"] > STALE_SECONDS:
        detail = f"no sign of a writer for {writer['beat_age_seconds']:.0f} s"
        return Check(False, detail + problem, facts)
    if age is None:
        return Check(False, f"has not reached the end of the log yet{problem}", facts)
    if age > STALE_SECONDS:
        return Check(False, f"{age:.0f} s behind the log{problem}", facts)
    return Check(True, f"holds all that the log held {max(age, 0):.0f} s ago{problem}", facts)


async def check_kafka(store: Store, probe: LogProbe | None) -> tuple[Check, dict[str, int] | None]:
    """Kafka, and the lag by topic; None where it cannot be known."""
    if probe is None:
        return Check(True, "not configured for this process; the lag is not known here"), None
    try:
        ends = await probe.ends()
    except LogUnavailable as error:
        return Check(False, str(error)), None
    try:
        lag = lag_by_topic(ends, await store.offsets())
    except StoreUnavailable:
        lag = None
    return Check(True, "answers"), lag


async def check_policies(store: Store) -> Check:
    """Holds are a policy's work, and no fault; that its registry cannot be asked is one."""
    try:
        found = await holds(store)
    except StoreUnavailable as error:
        return Check(False, str(error))
    facts = {
        "held": {item.rule.value: item.requests for item in found},
        "oldestHoldSeconds": round(max((item.oldest_seconds for item in found), default=0.0), 1),
    }
    for item in found:
        if item.rule is PolicyRule.REGISTRY_UNASKED:
            detail = f"{item.requests} mints are held: a KYC registry cannot be asked"
            return Check(False, f"{detail}: {item.detail}", facts)
    told = ", ".join(f"{item.rule} {item.requests}" for item in found)
    return Check(True, f"held by rule: {told}" if told else "no mint is held", facts)


async def check_chains(store: Store, configured: Iterable[int]) -> dict[str, Check]:
    """By chain id: those configured and those that the log tells of."""
    try:
        heads, ordered = await store.heads(), await pauses(store)
    except StoreUnavailable as error:
        return {str(chain): Check(False, str(error)) for chain in configured}
    chains = sorted({*configured, *heads})
    return {
        str(chain): _check_chain(heads.get(chain), ordered.pauses.get(supply_scope(chain)))
        for chain in chains
    }


def _check_chain(head: Row | None, doubt: Pause | None) -> Check:
    if head is None or (head["to_block"] is None and head["halted_reason"] is None):
        return Check(False, "no block followed yet")
    age = head["followed_age_seconds"]
    facts = {
        "block": head["to_block"],
        "blockHash": head["to_hash"],
        "blockTimestamp": rfc3339(head["to_timestamp"]) if head["to_timestamp"] else None,
        "followedAt": rfc3339(head["followed_at"]) if head["followed_at"] else None,
        "ageSeconds": None if age is None else round(age, 1),
        "supply": supply_object(head),
    }
    if doubt is not None:
        return Check(False, f"nothing is signed: {doubt.why}", facts)
    if head["halted_reason"] is not None:
        return Check(False, f"halted: {head['halted_reason']}", facts)
    resumed = head["resumed_seconds"]
    if resumed is not None and resumed <= CHAIN_STALE_SECONDS:
        detail = f"released {max(resumed, 0):.0f} s ago; its follower reads the next blocks"
        return Check(True, detail, facts)
    if age > CHAIN_STALE_SECONDS:
        return Check(False, f"no block followed for {age:.0f} s", facts)
    followed = f"followed to block {head['to_block']}, {max(age, 0):.0f} s ago"
    untold = _supply_untold(head)
    return Check(False, f"{followed}; {untold}", facts) if untold else Check(True, followed, facts)


def _supply_untold(head: Row) -> str | None:
    """Whether signatures wait for it, `explain` tells of a request; by default none does."""
    age = head["supply_age_seconds"]
    if age is None:
        return "its totalSupply was never compared with the log"
    if age > CHAIN_STALE_SECONDS:
        return f"its totalSupply was not compared with the log for {age:.0f} s"
    return None
