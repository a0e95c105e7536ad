"""Policies: what may be minted without a person looking. The document, and the facts about it.

A policy is reviewed data. Applying one is an order on `controls`; the owner of the policies takes
it into its own order, on `lanes` under the key `policies`, where it judges each mint before it is
drafted. There stand together, in one total order: what was asked, what was answered, and by which
policy. Amounts are decimal strings of base units in JSON, never floats.
"""

from __future__ import annotations

import hashlib
import re
from enum import StrEnum
from typing import Annotated, ClassVar

import orjson
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.base import Address, Amount, ChainId, Count, Fact, Hash
from schemas.controls import OrderFact, OrderId, RequestKey, Who, Why

POLICIES = "policies"
"""The key of all facts of the owner on `lanes`; no wallet is called so."""
LONGEST_WINDOW_SECONDS = 31 * 86_400
"""How long the owner remembers what it cleared; no window may be longer."""
DAY_MINUTES = 1440
DETAIL_LENGTH = 500

Seconds = Annotated[int, Field(ge=1, le=LONGEST_WINDOW_SECONDS, strict=True)]
Detail = Annotated[str, Field(max_length=DETAIL_LENGTH)]
Ticket = Annotated[str, Field(pattern=r"^[1-9][0-9]{0,8}(\.[0-9]{1,9}){2}$")]
"""Which draft of a request is meant: its attempt, the retries and retractions before it, and how
often it was asked about since. Every one of them only grows."""


class Part(BaseModel):
    """Of a policy. Unknown names are errors: a rule that is misspelt would be no rule."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Per(StrEnum):
    """Whose mints a window adds up."""

    USER = "user"
    CHAIN = "chain"
    ALL = "all"


class OnBreach(StrEnum):
    HOLD = "hold"
    """Until a person approves."""
    WAIT = "wait"
    """Until the window has room again, or a person approves."""


class Window(Part):
    """In any `seconds` that pass, at most `max_amount` in all, or `max_count` mints, or both.
    `chain_ids`, of a window per chain: only these chains."""

    per: Per
    seconds: Seconds
    max_amount: Amount | None = None
    max_count: Annotated[int | None, Field(ge=1, le=10**9, strict=True)] = None
    chain_ids: tuple[ChainId, ...] = ()
    on_breach: OnBreach = OnBreach.HOLD

    @model_validator(mode="after")
    def _limits_something(self) -> Window:
        if self.max_amount is None and self.max_count is None:
            raise ValueError("a window limits nothing: give max_amount, max_count, or both")
        if self.chain_ids and self.per is not Per.CHAIN:
            raise ValueError('chain_ids belongs to windows with "per": "chain"')
        return self


class Day(StrEnum):
    MONDAY = "MON"
    TUESDAY = "TUE"
    WEDNESDAY = "WED"
    THURSDAY = "THU"
    FRIDAY = "FRI"
    SATURDAY = "SAT"
    SUNDAY = "SUN"


class QuietHours(Part):
    """Nothing is cleared from `start` to `end` (HH:MM, UTC: the same on every machine) on the days
    on which that begins; an end that is not after the start is on the next day."""

    days: Annotated[tuple[Day, ...], Field(min_length=1)] = tuple(Day)
    start: str
    end: str

    @field_validator("start", "end")
    @classmethod
    def _time(cls, value: str) -> str:
        if re.fullmatch(r"([01][0-9]|2[0-3]):[0-5][0-9]", value) is None:
            raise ValueError("a time of day in UTC such as 22:00")
        return value

    @property
    def start_minute(self) -> int:
        return _minute(self.start)

    @property
    def minutes(self) -> int:
        """How long; a whole day where start and end are the same."""
        return (_minute(self.end) - self.start_minute) % DAY_MINUTES or DAY_MINUTES


def _minute(text: str) -> int:
    return int(text[:2]) * 60 + int(text[3:])


class Kyc(Part):
    """The recipient must be verified by the chain's registry, at a final block. `chain_ids`: only
    for mints on these chains; empty for all."""

    chain_ids: tuple[ChainId, ...] = ()


class Approvals(Part):
    """How many distinct operators release a hold: `operators` above `above_amount` base units,
    `operators_up_to` for smaller ones."""

    operators: Annotated[int, Field(ge=1, le=20, strict=True)] = 2
    above_amount: Amount = 0
    operators_up_to: Annotated[int, Field(ge=1, le=20, strict=True)] = 1


class Policy(Part):
    """All rules at once; one that is not there does not exist. They are about mints alone."""

    note: Annotated[str, Field(max_length=2000)] = ""
    max_amount: Amount | None = None
    windows: Annotated[tuple[Window, ...], Field(max_length=100)] = ()
    deny: Annotated[tuple[Address, ...], Field(max_length=10_000)] = ()
    allow: Annotated[tuple[Address, ...] | None, Field(max_length=10_000)] = None
    kyc: Kyc | None = None
    quiet_hours: Annotated[tuple[QuietHours, ...], Field(max_length=100)] = ()
    kuro_max_age_seconds: Seconds | None = None
    fiat_ref_once: Annotated[bool, Field(strict=True)] = False
    approvals: Approvals = Approvals()

    @property
    def rules(self) -> bool:
        """False for a policy that has none: nothing is asked under it."""
        return bool(self.model_dump(exclude_defaults=True, exclude={"note", "approvals"}))

    @property
    def version(self) -> str:
        """SHA-256 of the canonical JSON of what differs from the defaults, so that a rule that is
        added to this vocabulary later changes no version."""
        body = self.model_dump(mode="json", exclude_defaults=True)
        return "0x" + hashlib.sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


class PolicyRule(StrEnum):
    """What a mint may breach."""

    REQUEST_AMOUNT = "REQUEST_AMOUNT"
    WINDOW_AMOUNT = "WINDOW_AMOUNT"
    WINDOW_COUNT = "WINDOW_COUNT"
    DENIED = "DENIED"
    NOT_ALLOWED = "NOT_ALLOWED"
    NOT_VERIFIED = "NOT_VERIFIED"
    REGISTRY_UNASKED = "REGISTRY_UNASKED"
    """The registry could not be asked for a while: nobody passes unasked."""
    QUIET_HOURS = "QUIET_HOURS"
    KURO_AGE = "KURO_AGE"
    FIAT_REF_MISSING = "FIAT_REF_MISSING"
    FIAT_REF_USED = "FIAT_REF_USED"


NEVER_APPROVED = frozenset({PolicyRule.DENIED, PolicyRule.FIAT_REF_USED})
"""No number of operators releases these. Who is denied stays so until the policy changes; money
that came once is minted once."""


class Breach(Part):
    """One rule that a mint breaches. `limit` and `value` are what the policy says and what is (base
    units, a count, seconds, an address), `scope` whose window it is. `until` (Unix seconds): then
    it may be over by itself. `detail`: why a registry said no, or could not be asked."""

    rule: PolicyRule
    scope: str | None = None
    window_seconds: Count | None = None
    limit: str
    value: str
    until: Count | None = None
    detail: Detail | None = None


class PolicyApplied(OrderFact):
    """An operator puts this policy in force, whole, in place of the one before. On `controls`."""

    version: Hash
    policy: Policy

    @property
    def key(self) -> str:
        return POLICIES

    @model_validator(mode="after")
    def _is_what_it_says(self) -> PolicyApplied:
        if self.version != self.policy.version:
            raise ValueError(f"the content has version {self.policy.version}")
        return self


class PolicyFact(Fact):
    """On `lanes`, in the order of the policies' owner."""

    @property
    def key(self) -> str:
        return POLICIES


class PolicyAdopted(PolicyFact):
    """The owner judges by it from here on. Carried over from `controls`."""

    order: OrderId
    who: Who
    why: Why
    version: Hash
    policy: Policy

    @property
    def id(self) -> str:
        return f"adopted:{self.order}"


class TicketFact(PolicyFact):
    """About one draft of one request."""

    request_key: RequestKey
    ticket: Ticket


class ClearanceRequested(TicketFact):
    """May this be minted? Asked by the request before each draft. `order` is the newest policy that
    the request's owner has read: it is not judged by an older one. `told_at_ms` is the time that
    Kuro itself gave (Unix milliseconds), `received_seconds` when it came here."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"order"})

    order: OrderId
    chain_id: ChainId
    account: Address
    amount: Amount
    fiat_ref: str
    received_seconds: Count
    told_at_ms: int | None = None

    @property
    def id(self) -> str:
        return f"clearance:{self.request_key}:{self.ticket}"


class ReleaseRequested(TicketFact):
    """Enough operators approved; their names and orders stand in the request's own order."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"approved_by"})

    approved_by: tuple[Who, ...]

    @property
    def id(self) -> str:
        return f"release:{self.request_key}:{self.ticket}"


class AccountVerified(TicketFact):
    """What the registry of the chain said of the recipient, at this final block. `later`: of one
    who was held meanwhile, because the registry said no or could not be asked; told once a hold.
    `detail`: why it verifies nobody (it reverted)."""

    chain_id: ChainId
    account: Address
    registry: Address
    function: str
    verified: bool
    block_number: Count
    block_hash: Hash
    later: bool = False
    detail: Detail | None = None

    @property
    def id(self) -> str:
        return f"verified:{self.request_key}:{self.ticket}{':later' if self.later else ''}"


class RequestCleared(TicketFact):
    """It may be drafted, and counts in every window from `judged_at` (Unix seconds) on.
    `approved_by` are the operators who released it from a hold."""

    chain_id: ChainId
    account: Address
    amount: Amount
    fiat_ref: str
    version: Hash
    judged_at: Count
    approved_by: tuple[Who, ...] = ()

    @property
    def id(self) -> str:
        return f"cleared:{self.request_key}:{self.ticket}"


class RequestHeld(TicketFact):
    """It breaches the policy. `approvals_needed` is 0 where no approval releases it. `until`: it is
    judged again by itself then, when every breach may be over by itself."""

    version: Hash
    judged_at: Count
    breaches: Annotated[tuple[Breach, ...], Field(min_length=1)]
    approvals_needed: Count
    until: Count | None = None

    @property
    def id(self) -> str:
        return f"held:{self.request_key}:{self.ticket}"


class LapseReason(StrEnum):
    """Why a hold is over without an answer: the request asks anew."""

    POLICY_CHANGED = "POLICY_CHANGED"
    TIME_PASSED = "TIME_PASSED"
    OTHERWISE_BREACHED = "OTHERWISE_BREACHED"
    """It was approved, but breaches by now what nobody who approved has seen."""
    REGISTRY_ANSWERED = "REGISTRY_ANSWERED"
    """The registry says otherwise than when it was held."""


class HoldLapsed(TicketFact):
    reason: LapseReason
    judged_at: Count

    @property
    def id(self) -> str:
        return f"lapsed:{self.request_key}:{self.ticket}"


class ApproveOrdered(OrderFact):
    """An operator lets one held request go, as it was held: `ticket` names the hold. `controls`."""

    request_key: RequestKey
    ticket: Ticket

    @property
    def key(self) -> str:
        return f"request:{self.request_key}"
