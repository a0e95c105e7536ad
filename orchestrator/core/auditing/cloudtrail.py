"""CloudTrail's `Sign` events against the facts and the guard's record.

CloudTrail does not hold what was signed (AWS KMS Developer Guide, "Logging AWS KMS API calls"):
time, key, principal, algorithm and message type are all there is. So events and `ApprovalSigned`
facts are matched one to one by time: of two signatures and one fact, one is left over.
A process killed after KMS answered and before its append leaves one too; it is told all the same.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

ALGORITHM, MESSAGE_TYPE = "ECDSA_SHA_256", "DIGEST"


class KmsKind(StrEnum):
    SIGN_WITHOUT_FACT = "SIGN_WITHOUT_FACT"
    FACT_WITHOUT_SIGN = "FACT_WITHOUT_SIGN"
    SIGN_BY_OTHERS = "SIGN_BY_OTHERS"
    SIGN_OTHERWISE = "SIGN_OTHERWISE"
    FACT_WITHOUT_CLAIM = "FACT_WITHOUT_CLAIM"


KMS_MEANING = {
    KmsKind.SIGN_WITHOUT_FACT: "every Sign event has its ApprovalSigned fact",
    KmsKind.FACT_WITHOUT_SIGN: "every ApprovalSigned fact of that time has its Sign event",
    KmsKind.SIGN_BY_OTHERS: "every Sign event is by a principal that was named",
    KmsKind.SIGN_OTHERWISE: f"every Sign event is of a {MESSAGE_TYPE} by {ALGORITHM}",
    KmsKind.FACT_WITHOUT_CLAIM: "every signed digest is on the guard's record",
}


@dataclass(frozen=True, slots=True)
class SignEvent:
    """One signature that KMS gave. `principals` are the identity's ARN and that of its role."""

    event_id: str
    at_seconds: int
    keys: frozenset[str]
    principals: tuple[str, ...]
    algorithm: str
    message_type: str


@dataclass(frozen=True, slots=True)
class Signed:
    """An `ApprovalSigned` on the log."""

    at_seconds: int
    digest: str
    subject: str
    position: str


@dataclass(slots=True)
class KmsFindings:
    events: int = 0
    refused_by_kms: int = 0
    other_keys: int = 0
    facts: int = 0
    first: int | None = None
    last: int | None = None
    principals: Counter[str] = field(default_factory=Counter)
    judged: set[KmsKind] = field(default_factory=set)
    found: list[tuple[KmsKind, str, str]] = field(default_factory=list)
    """Kind, what it is about, and the words."""


def sign_events(records: Iterable[Any]) -> tuple[list[SignEvent], int]:
    """The signatures among CloudTrail's records, by time, each event once; and how many calls KMS
    refused. Raises ValueError for a `Sign` record that lacks what CloudTrail always writes."""
    found: dict[str, SignEvent] = {}
    refused: set[str] = set()
    for record in records:
        if not isinstance(record, dict):
            raise ValueError("a record is no JSON object")
        if record.get("eventName") != "Sign":
            continue
        if record.get("eventSource") != "kms.amazonaws.com":
            continue
        event = _event(record)
        if record.get("errorCode"):
            refused.add(event.event_id)
        else:
            found[event.event_id] = event
    return sorted(found.values(), key=lambda item: (item.at_seconds, item.event_id)), len(refused)


def _event(record: dict[str, Any]) -> SignEvent:
    try:
        at = datetime.fromisoformat(record["eventTime"].replace("Z", "+00:00"))
        asked = record.get("requestParameters") or {}
        identity = record.get("userIdentity") or {}
        issuer = (identity.get("sessionContext") or {}).get("sessionIssuer") or {}
        arns = [item.get("ARN") for item in record.get("resources") or []]
        named = (identity.get("arn"), issuer.get("arn"), identity.get("invokedBy"))
        return SignEvent(
            event_id=str(record["eventID"]),
            at_seconds=int(at.astimezone(UTC).timestamp()),
            keys=frozenset(str(key) for key in (asked.get("keyId"), *arns) if key),
            principals=tuple(str(name) for name in named if name),
            algorithm=str(asked.get("signingAlgorithm", "none")),
            message_type=str(asked.get("messageType", "RAW")),
        )
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"a Sign record cannot be read: {type(error).__name__}: {error}") from None


def of_key(events: Sequence[SignEvent], key: str | None) -> list[SignEvent]:
    """Those of one key, named by id, ARN or alias: what it is called in one event counts in all, so
    that nobody hides by naming the key otherwise. Without a key, all."""
    if key is None:
        return list(events)
    names = {key}
    if key.startswith("arn:") and ":key/" in key:
        names.add(key.rpartition("/")[2])
    while True:
        ours = [event for event in events if _is_named(event, names)]
        more = names.union(*(event.keys for event in ours))
        if more == names:
            return ours
        names = more


def _is_named(event: SignEvent, names: set[str]) -> bool:
    return any(key in names or key.rpartition("/")[2] in names for key in event.keys)


def compare(
    events: Sequence[SignEvent],
    facts: Iterable[Signed],
    *,
    tolerance_seconds: int,
    principals: Collection[str] = (),
    claimed: Collection[str] | None = None,
) -> KmsFindings:
    """Events by time and facts within their period. `principals` empty: shown, not judged.
    `claimed` are the digests of the guard's record; None: there is none to compare with."""
    result = KmsFindings(events=len(events))
    result.judged = {KmsKind.SIGN_WITHOUT_FACT, KmsKind.FACT_WITHOUT_SIGN, KmsKind.SIGN_OTHERWISE}
    if principals:
        result.judged.add(KmsKind.SIGN_BY_OTHERS)
    ordered = sorted(facts, key=lambda item: (item.at_seconds, item.position))
    for event in events:
        result.principals[event.principals[-1] if event.principals else "nobody"] += 1
        if principals and not set(event.principals) & set(principals):
            told = f"signed by {', '.join(event.principals) or 'nobody'}"
            result.found.append((KmsKind.SIGN_BY_OTHERS, _name(event), told))
        if (event.algorithm, event.message_type) != (ALGORITHM, MESSAGE_TYPE):
            told = f"a {event.message_type} by {event.algorithm}"
            result.found.append((KmsKind.SIGN_OTHERWISE, _name(event), told))
    if events:
        result.first, result.last = events[0].at_seconds, events[-1].at_seconds
        _match(events, ordered, tolerance_seconds, result)
    if claimed is not None:
        result.judged.add(KmsKind.FACT_WITHOUT_CLAIM)
        known = set(claimed)
        result.found += [
            (
                KmsKind.FACT_WITHOUT_CLAIM,
                fact.subject,
                f"digest {fact.digest} was signed and never claimed [{fact.position}]",
            )
            for fact in ordered
            if fact.digest not in known
        ]
    return result


def _match(
    events: Sequence[SignEvent], facts: Sequence[Signed], tolerance: int, result: KmsFindings
) -> None:
    """Both by time, the earliest with the earliest: no other pairing leaves fewer over."""
    first, last = events[0].at_seconds, events[-1].at_seconds
    place = 0
    for event in events:
        while place < len(facts) and facts[place].at_seconds < event.at_seconds - tolerance:
            _left_over(facts[place], first, last, result)
            place += 1
        if place < len(facts) and facts[place].at_seconds <= event.at_seconds + tolerance:
            result.facts += 1
            place += 1
            continue
        told = f"no ApprovalSigned is left within {tolerance} s of it"
        result.found.append((KmsKind.SIGN_WITHOUT_FACT, _name(event), told))
    for fact in facts[place:]:
        _left_over(fact, first, last, result)


def _left_over(fact: Signed, first: int, last: int, result: KmsFindings) -> None:
    """Of another time than the file's, nothing can be said."""
    if first <= fact.at_seconds <= last:
        result.facts += 1
        told = f"signed at {moment(fact.at_seconds)} and no event is left for it [{fact.position}]"
        result.found.append((KmsKind.FACT_WITHOUT_SIGN, fact.subject, told))


def _name(event: SignEvent) -> str:
    return f"event {event.event_id} at {moment(event.at_seconds)}"


def moment(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
