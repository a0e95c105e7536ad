"""Which drafts of mints stand without the clearance that a policy asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.base import Record
from schemas.policies import PolicyApplied
from schemas.requests import ApprovalDrafted, ClearanceReported

READ_WITHIN_SECONDS = 120
"""So soon every process has read a policy; what is drafted before may be of before it."""


@dataclass(slots=True)
class Clearances:
    """`policies` in their order: since when, whether it has rules, its version. What was cleared is
    forgotten with its partition: a key stays on one."""

    policies: list[tuple[int, bool, str]] = field(default_factory=list)
    cleared: set[tuple[str, str]] = field(default_factory=set)

    def turn_page(self) -> None:
        self.cleared.clear()

    def apply(self, record: Record) -> None:
        fact = record.fact
        assert isinstance(fact, PolicyApplied)
        self.policies.append((record.at_seconds, fact.policy.rules, fact.version))

    def clear(self, fact: ClearanceReported) -> None:
        self.cleared.add((fact.request_key, fact.ticket.rpartition(".")[0]))

    def missing(self, draft: ApprovalDrafted, record: Record) -> str | None:
        """What is wrong, in words. Only where a policy with rules was in force all the time in
        which the draft may have been decided."""
        now = record.at_seconds
        before = [item for item in self.policies if item[0] <= now - READ_WITHIN_SECONDS]
        lately = [item for item in self.policies if now - READ_WITHIN_SECONDS < item[0] <= now]
        if not before or not all(rules for _, rules, _ in (before[-1], *lately)):
            return None
        if (draft.request_key, f"{draft.attempt}.{draft.opening or 0}") in self.cleared:
            return None
        return (
            f"attempt {draft.attempt} was drafted under policy {before[-1][2]}, and no clearance "
            "of it stands before it"
        )
