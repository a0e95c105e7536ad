"""What a policy's breach says, in words for a person."""

from __future__ import annotations

from schemas.policies import Breach, PolicyRule

_WORDS: dict[PolicyRule, str] = {
    PolicyRule.REQUEST_AMOUNT: "{value} base units are above the {limit} allowed for one mint",
    PolicyRule.WINDOW_AMOUNT: "with it {value} base units would be minted in {seconds} s for "
    "{scope}; allowed are {limit}",
    PolicyRule.WINDOW_COUNT: "it would be mint {value} in {seconds} s for {scope}; allowed are "
    "{limit}",
    PolicyRule.DENIED: "{value} is denied",
    PolicyRule.NOT_ALLOWED: "{value} is not among the allowed",
    PolicyRule.NOT_VERIFIED: "the KYC registry does not verify {value}",
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
    return f"{breach.rule}: {words}"
