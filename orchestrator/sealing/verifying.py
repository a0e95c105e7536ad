"""The log, live or archived, against every seal of every anchor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from orchestrator.core.sealing.checking import (
    Anchored,
    Finding,
    judged,
    ordered,
    walks,
)
from orchestrator.core.sealing.seals import Seal
from orchestrator.errors import OrchestratorError
from orchestrator.ports import SealableLog, SealAnchor
from orchestrator.sealing.running import Tell, newest_due

DUE_SECONDS = 6 * 3600
"""A day that has been over for so long and has no seal is told as missing."""


class CannotTell(OrchestratorError):
    """There is nothing to compare with, or nothing to trust."""


@dataclass(frozen=True, slots=True)
class Compared:
    """What was found, and how much was looked at."""

    found: list[Finding]
    days: int
    first_day: str
    last_day: str
    records: int
    newest: Seal

    @property
    def same(self) -> bool:
        return not self.found


@dataclass(frozen=True, slots=True)
class Span:
    """Days to verify, inclusive; None leaves an end open."""

    since: str | None = None
    until: str | None = None

    def within(self, day: str) -> bool:
        return (self.since is None or day >= self.since) and (
            self.until is None or day <= self.until
        )


async def compare(
    name: str,
    source: SealableLog,
    anchors: Sequence[SealAnchor],
    keys: Mapping[str, bytes],
    *,
    span: Span,
    tell: Tell,
    now: float,
) -> Compared:
    """Raises CannotTell, AnchorUnavailable, LogUnavailable.

    Seals are judged all, whatever the span: it bounds what is read of the log. Without an end of
    the span, a day that is long over and has no seal is a difference.
    """
    if not keys:
        raise CannotTell("no public key to trust: SEAL_KMS_KEY_ID, SEAL_PUBLIC_KEYS_FILE or --key")
    held = [Anchored(anchor.name, await anchor.everything()) for anchor in anchors]
    if not any(item.documents for item in held):
        names = ", ".join(item.anchor for item in held)
        raise CannotTell(f"there is no seal in {names}: nothing to compare with")
    due = newest_due(now, DUE_SECONDS) if span.until is None else None
    verdict = judged(held, keys, name, due=due)
    chosen = [seal for seal in verdict.seals if span.until is None or seal.day <= span.until]
    found = [item for item in verdict.found if not item.day or span.within(item.day)]
    in_span = [seal for seal in chosen if span.within(seal.day)]
    if not in_span:
        if found:
            raise CannotTell(f"no seal can be believed; the first problem: {_told(found[0])}")
        raise CannotTell("there is no seal of these days")
    before = [seal.day for seal in chosen if not span.within(seal.day)]
    records = await _walked(source, chosen, max(before, default=None), found, tell)
    return Compared(
        ordered(found), len(in_span), in_span[0].day, in_span[-1].day, records, in_span[-1]
    )


def _told(finding: Finding) -> str:
    return f"{finding.day} {finding.text}".strip()


async def _walked(
    source: SealableLog,
    seals: Sequence[Seal],
    after: str | None,
    found: list[Finding],
    tell: Tell,
) -> int:
    """Reads the log beside what was sealed; how many records."""
    walking = walks(seals, after)
    bounds = await source.bounds()
    for seat, walk in walking.items():
        walk.begin(bounds.get(seat, (0, 0))[0])
    starts = {seat: walk.start for seat, walk in walking.items()}
    ends = {seat: min(walk.end, bounds.get(seat, (0, 0))[1]) for seat, walk in walking.items()}
    total = sum(max(0, ends[seat] - start) for seat, start in starts.items())
    done = 0
    tell("verifying", 0, total)
    async for seat, records in source.records(starts, ends, set()):
        walking[seat].take(records)
        done += len(records)
        tell("verifying", done, total)
    tell("verifying", total, total)
    for seat, walk in walking.items():
        walk.finish(bounds.get(seat, (0, 0))[1])
        found += walk.found
    return sum(walk.records for walk in walking.values())
