"""What a policy holds: how much of it, since when, and each breach in words for a person."""

from __future__ import annotations

from dataclasses import dataclass

from projections.store import Store
from schemas.policies import Breach, PolicyRule

_WORDS: dict[PolicyRule, str] = {
    PolicyRule.REQUEST_AMOUNT: "{value} base units are above the {limit} allowed for one mint",
    PolicyRule.WINDOW_AMOUNT: "with it {value} base units would be minted in {seconds} s for "
    "{scope}; allowed are {limit}",
    PolicyRule.WINDOW_COUNT: "it would be mint {value} in {seconds} s for {scope}; allowed are "
    "{limit}",
    PolicyRule.DENIED: "{value} is denied",
    PolicyRule.NOT_ALLOWED: "{value} is not among the allowed",
    PolicyRule.NOT_VERIFIED: "the KYC registry does not verify {value}; it is "
    "asked again by itself",
    PolicyRule.REGISTRY_UNASKED: "nobody can ask the KYC registry about {value}; it "
    "is asked again by itself",
    PolicyRule.QUIET_HOURS: "these are quiet hours ({value})",
    PolicyRule.KURO_AGE: "Kuro's word is {value} s old; allowed are {limit}",
    PolicyRule.FIAT_REF_MISSING: "it has no fiat reference",
    PolicyRule.FIAT_REF_USED: "its fiat reference belongs to request {value}",
}


def told(breach: Breach) -> str:
    words = _WORDS[breach.rule].format(
        value=breach.value,
        limit=breach.limit,
        scope=breach.scope,
        seconds=breach.window_seconds,
    )
    detail = f" ({breach.detail})" if breach.detail else ""
    return f"{breach.rule}: {words}{detail}"


@dataclass(frozen=True, slots=True)
class Held:
    """Requests that breach a rule, and for how long the oldest of them has been held. One that
    breaches several counts under each. `detail` is that of one of them."""

    rule: PolicyRule
    requests: int
    oldest_seconds: float
    detail: str | None


async def holds(store: Store) -> list[Held]:
    """Raises StoreUnavailable."""
    rows = await store.rows(
        "SELECT breach ->> 'rule' AS rule, count(DISTINCT request_key) AS requests, "
        "extract(epoch FROM now() - min(changed_at))::float8 AS oldest_seconds, "
        "min(breach ->> 'detail') AS detail "
        "FROM requests, jsonb_array_elements(state #> '{hold,breaches}') AS breach "
        "WHERE type = 'MINT' AND stage = 'HELD' GROUP BY 1 ORDER BY 1"
    )
    known = {rule.value: rule for rule in PolicyRule}
    return [
        Held(known[row["rule"]], row["requests"], max(0.0, row["oldest_seconds"]), row["detail"])
        for row in rows
        if row["rule"] in known
    ]
