"""The shapes of the API's answers: its OpenAPI document is generated from them, the client reads
with them. Names are camelCase in JSON; amounts are decimal strings of base units.

A client ignores fields that it does not know: a later version of the API may add some.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated, Any, Generic, Literal, TypeVar

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, PlainSerializer
from pydantic.alias_generators import to_camel


def _written(value: datetime) -> str:
    value = value.astimezone(UTC)
    return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"


Moment = Annotated[
    AwareDatetime,
    PlainSerializer(_written, return_type=str, when_used="json"),
    Field(description="RFC 3339, UTC with milliseconds"),
]
Amount = Annotated[str, Field(description="Base units, a decimal number as text")]
Wei = Annotated[str, Field(description="Wei, a decimal number as text")]
TxHash = Annotated[str, Field(description="0x and 64 hex digits")]

RequestTypeName = Literal["MINT", "REDEEM"]
StatusName = Literal["PENDING", "PROCESSING", "COMPLETED", "FAILED"]


class Answer(BaseModel):
    """Frozen; extra fields are ignored."""

    model_config = ConfigDict(
        frozen=True, alias_generator=to_camel, populate_by_name=True, extra="ignore"
    )


class Problem(Answer):
    """An error (RFC 9457). `error` repeats `detail`; `type` leads to a page on this kind."""

    type: str
    title: str
    status: int
    detail: str
    error: str
    request_id: str | None
    keys: list[str] | None = None


class StatusLinks(Answer):
    self_: Annotated[str, Field(alias="self")]
    explain: str
    feed: str
    lane: str | None = None


class Status(Answer):
    """Where one request is. `user_address` and `amount` stand as they were received."""

    request_id: str
    request_key: str
    type: RequestTypeName
    status: StatusName
    stage: str
    reason: str | None
    user_address: str | None
    amount: str | None
    chain_id: int | None
    tx_hash: str | None
    error_message: str | None
    fiat_ref: str | None
    attempt: int
    created_at: Moment
    updated_at: Moment
    links: StatusLinks


class TimelineFact(Answer):
    """One fact about a request and where it stands on the log. `verdict` is what the fold made of
    it; null for facts of other topics than `requests`."""

    kind: str
    at: Moment
    topic: str
    partition: int
    offset: int
    tx_hash: str | None
    block_number: int | None
    block_hash: str | None
    verdict: str | None


class StatusWithTimeline(Status):
    timeline: list[TimelineFact]


class StatusPage(Answer):
    """`next` is the cursor of the page below; null after the last one."""

    items: list[Status]
    next: str | None


class Usual(Answer):
    """Median and 95th percentile of this step over the latest completed requests."""

    seconds: float | None
    p95_seconds: Annotated[float | None, Field(alias="p95Seconds")]
    count: int
    text: str


class Action(Answer):
    action: str
    command: str
    text: str


class LogPosition(Answer):
    topic: str
    partition: int
    offset: int
    kind: str


class Explanation(Answer):
    """Why a request is where it is. `code` is one of a closed set."""

    request_key: str
    status: StatusName
    stage: str
    code: str
    turn: Literal["kuro", "decider", "signer", "relayer", "chain", "operator", "nobody"]
    summary: str
    waiting_for: str | None
    since: Moment
    as_of: Moment
    next_attempt_at: Moment | None
    approval_deadline: Moment | None
    usual: Usual
    operator_can: list[Action]
    evidence: list[LogPosition]


class Stop(Answer):
    reason: str
    at: Moment


class LaneLinks(Answer):
    self_: Annotated[str, Field(alias="self")]
    feed: str


class LaneSummary(Answer):
    """One wallet on one chain. `stuck` counts the nonces that no replacement moves."""

    chain_id: int
    wallet: str
    next_nonce: int | None
    in_flight: int
    waiting: int
    stuck: int
    halted: Stop | None
    set_aside: Stop | None
    links: LaneLinks


class Lanes(Answer):
    items: list[LaneSummary]


class Version(Answer):
    tx_hash: TxHash
    max_fee_per_gas_wei: Wei | None
    max_priority_fee_per_gas_wei: Wei | None
    replaces: TxHash | None
    at: Moment


SlotState = Literal["PREPARED", "BROADCAST", "INCLUDED", "ORPHANED", "FINAL", "DROPPED"]


class Slot(Answer):
    """One nonce. `blocks` since its newest version is out, or above the block that holds it."""

    nonce: int
    state: SlotState
    request_key: str | None
    tx_hash: TxHash
    versions: list[Version]
    since: Moment
    blocks: int | None


class Blocked(Answer):
    nonce: int | None
    code: Literal["HALTED", "SET_ASIDE", "STUCK", "NOT_TAKEN", "NOT_MINED"]
    reason: str


class Lane(LaneSummary):
    slots: list[Slot]
    waiting_requests: list[str]
    blocked_by: Blocked | None


class Pause(Answer):
    """`scope` is all, chain:<id>, wallet:<chain>:<address> or request:<key>."""

    scope: str
    order: str
    who: str
    why: str
    at: Moment


class Controls(Answer):
    paused: list[Pause]


class Queue(Answer):
    waiting: int
    active: int
    completed: int
    failed: int


class Queues(Answer):
    mint: Queue
    redeem: Queue


class Live(Answer):
    status: Literal["ok"]


class Check(Answer):
    """One dependency; more fields follow by kind."""

    model_config = ConfigDict(extra="allow")

    ok: bool
    detail: str


class Ready(Answer):
    status: Literal["ok", "unready"]
    checks: dict[str, Check]


class Health(Answer):
    status: Literal["ok", "degraded", "down"]
    checks: dict[str, Check]
    chains: dict[str, Check]


class FeedStatus(Answer):
    from_: Annotated[StatusName | None, Field(alias="from")]
    to: StatusName


class FeedEvent(Answer):
    """The data of one server-sent event; `fact` is null for a record that holds none."""

    topic: str
    partition: int
    offset: int
    at: Moment
    kind: str
    request_key: str | None
    chain_id: int | None
    fact: dict[str, Any] | None
    status: FeedStatus | None = None


class StageCount(Answer):
    type: RequestTypeName
    stage: str
    count: int
    oldest_at: Moment | None
    oldest_seconds: float | None


class FlowPoint(Answer):
    at: Moment
    received: int
    completed: int
    failed: int
    open: int


class LatencyPoint(Answer):
    at: Moment
    p50_seconds: Annotated[float | None, Field(alias="p50Seconds")]
    p95_seconds: Annotated[float | None, Field(alias="p95Seconds")]
    p99_seconds: Annotated[float | None, Field(alias="p99Seconds")]
    count: int


Point = TypeVar("Point")


class Series(Answer, Generic[Point]):
    bucket_seconds: int
    points: list[Point]


class SupplyCompared(Answer):
    """The contract's own `totalSupply` in a final block, and what the log's events add up to there;
    what the contract had before the first followed block stands in the former alone."""

    block: int
    total_supply: Amount
    by_events: Annotated[str, Field(description="Base units as text; may be below zero")]
    at: Moment


class ChainShown(Answer):
    chain_id: int
    followed_block: int | None
    followed_at: Moment | None
    age_seconds: float | None
    halted: Stop | None
    minted: Amount
    redeemed: Amount
    supply: Annotated[str, Field(description="Base units as text; may be below zero")]
    supply_compared: SupplyCompared | None = None


class Overview(Answer):
    """All that the page shows at a glance. Fields for the page alone are not promised."""

    model_config = ConfigDict(extra="allow")

    now: Moment
    window: str
    queues: Queues
    stages: list[StageCount]
    throughput: Series[FlowPoint]
    latency: Series[LatencyPoint]
    chains: list[ChainShown]
    dead_letters: dict[str, int]


class WebhookTurn(Answer):
    """The event that is being tried again."""

    topic: str
    partition: int
    offset: int
    fact_id: str | None
    since: Moment | None
    attempts: int
    next_attempt_at: Moment | None


class Webhook(Answer):
    """How one endpoint stands. `lag_records` is null where Kafka does not answer."""

    name: str
    url: str
    state: str
    problem: str | None
    delivered: int
    delivered_at: Moment | None
    lag_records: int | None
    dead_letters: int
    in_turn: WebhookTurn | None
    served_by: str | None


class Webhooks(Answer):
    items: list[Webhook]
