"""Which signatures of mints stand without the clearance that the policy in force asks for."""

from __future__ import annotations

from dataclasses import dataclass, field

from schemas.base import Record
from schemas.policies import PolicyApplied
from schemas.requests import ApprovalDrafted, ApprovalSigned, ClearanceReported, DraftRecalled

SIGNED_WITHIN_SECONDS = 30
"""A signature may follow a policy so closely without having been judged by it: it was under way.
Whoever signs looks at the end of `controls` while KMS is asked, and appends at once; a process that
is frozen in between loses its partitions within ten seconds, and the next owner recalls the draft.
The rest is for clocks that differ."""


@dataclass(slots=True)
class Clearances:
    """`policies` in their order: since when, whether it has rules, its version. What was drafted
    and cleared (version by request key and draft) is forgotten with its partition: a key stays on
    one. `drafted` is the newest draft by request key, less what was signed or recalled."""

    policies: list[tuple[int, bool, str]] = field(default_factory=list)
    cleared: dict[tuple[str, str], str] = field(default_factory=dict)
    drafted: dict[str, ApprovalDrafted] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    def turn_page(self) -> None:
        self.cleared.clear()
        self.drafted.clear()
        self.attempts.clear()

    def apply(self, record: Record) -> None:
        fact = record.fact
        assert isinstance(fact, PolicyApplied)
        self.policies.append((record.at_seconds, fact.policy.rules, fact.version))

    def clear(self, fact: ClearanceReported) -> None:
        self.cleared[fact.request_key, fact.ticket.rpartition(".")[0]] = fact.version

    def draft(self, fact: ApprovalDrafted) -> None:
        """Told once more, it is no new draft."""
        if fact.attempt > self.attempts.get(fact.request_key, 0):
            self.attempts[fact.request_key] = fact.attempt
            self.drafted[fact.request_key] = fact

    def recall(self, fact: DraftRecalled) -> None:
        """A signature that follows counts no more."""
        draft = self.drafted.get(fact.request_key)
        if draft is not None and draft.attempt == fact.attempt:
            del self.drafted[fact.request_key]

    def missing(self, fact: ApprovalSigned, record: Record) -> str | None:
        """What is wrong with the first signature of a draft, in words. It must have been cleared by
        a policy that stood within the time in which the signature may have been under way; one that
        the audit has not read is newer than all of them."""
        draft = self.drafted.get(fact.request_key)
        if draft is None or draft.attempt != fact.attempt:
            return None
        del self.drafted[fact.request_key]
        since = record.at_seconds - SIGNED_WITHIN_SECONDS
        older = [policy for policy in self.policies if policy[0] <= since]
        allowed = [*older[-1:], *(policy for policy in self.policies if policy[0] > since)]
        if not older or not all(rules for _, rules, _ in allowed):
            return None
        by = self.cleared.get((draft.request_key, f"{draft.attempt}.{draft.opening or 0}"))
        outdated = {version for _, _, version in older} - {version for _, _, version in allowed}
        if by is not None and by not in outdated:
            return None
        told = "no policy had cleared it" if by is None else f"it was cleared by policy {by}"
        return f"attempt {draft.attempt} was signed under policy {older[-1][2]}, and {told}"
