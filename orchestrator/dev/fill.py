"""Fills the read side's tables with requests that never were, for measuring how it behaves when
there are many: `DATABASE_URL=… python -m orchestrator.dev.fill --requests 1000000`.

Each row is the fold of a real life of a request, made once per stage, with its own names, account,
amount, times and hashes put in. Accounts are as uneven as in life: a few have a great deal. The
rows stand on no log: a writer must not run on such a database, and `verify` would find them all.
"""

from __future__ import annotations

import argparse
import bisect
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import psycopg

from orchestrator.core.keys import redeem_key
from orchestrator.core.lifecycle import RequestState, Stage, evolve
from orchestrator.errors import OrchestratorError
from schemas.base import Fact, Record, RequestType, encode_value, instant
from schemas.evm import EventName
from schemas.requests import (
    ApprovalDrafted,
    ApprovalSigned,
    EvidenceReported,
    FailureReason,
    InclusionReported,
    RefusalReported,
    RejectionReason,
    RelayAssigned,
    RequestCompleted,
    RequestFact,
    RequestFailed,
    RequestReceived,
    RequestRejected,
    SubmissionReported,
)

CHAINS = (5920, 5921, 5922, 5923, 5924)
BUSY_ACCOUNTS = (0.03, 0.02, 0.01)
"""Shares of the busiest accounts; the others share the rest evenly."""
ACCOUNTS = 20_000
DAYS = 180
ROWS_PER_COPY = 50_000
SEED = 5920

SHARES = {
    Stage.COMPLETED: 0.968,
    Stage.REJECTED: 0.012,
    Stage.FAILED: 0.012,
    Stage.RECEIVED: 0.002,
    Stage.DRAFTED: 0.001,
    Stage.SIGNED: 0.001,
    Stage.RELAYING: 0.001,
    Stage.SUBMITTED: 0.002,
    Stage.INCLUDED: 0.001,
}
OLD_STAGES = frozenset({Stage.COMPLETED, Stage.REJECTED, Stage.FAILED})
"""The others are open, so they are of the last hour."""

KEY, REQUEST_ID, FIAT_REF = "@key@", "@request-id@", "@fiat-ref@"
USER = "0x" + "b2" * 20
SIGNER, WALLET, CONTRACT = ("0x" + digits * 20 for digits in ("c1", "c2", "c3"))
TX_HASH, BLOCK_HASH, DIGEST = ("0x" + digits * 32 for digits in ("d1", "d2", "d3"))
AMOUNT, CHAIN_ID, BLOCK = 987654321012345678909, 771_771_771, 662_662_662
BEGUN = 1_000_000_000

COLUMNS = (
    "request_key",
    "request_id",
    "type",
    "status",
    "stage",
    "reason",
    "error_message",
    "user_address",
    "amount",
    "chain_id",
    "tx_hash",
    "fiat_ref",
    "attempt",
    "created_at",
    "updated_at",
    "changed_at",
    "state",
)


class CannotFill(OrchestratorError):
    """Why nothing was filled."""


@dataclass(frozen=True, slots=True)
class Template:
    """A row and its facts with placeholders. `seconds` from the first fact to the last."""

    state: RequestState
    row: str
    facts: tuple[str, ...]
    seconds: int


def life(kind: RequestType, stage: Stage) -> list[RequestFact]:
    """The facts that lead to this stage, in order."""
    redeem = kind is RequestType.REDEEM
    seat = f"{CHAIN_ID}:{BLOCK_HASH}:0"
    attempt: dict[str, Any] = {"request_key": KEY, "attempt": 1}
    received = RequestReceived(
        request_key=KEY,
        request_id=REQUEST_ID,
        type=kind,
        chain_id=CHAIN_ID,
        user=USER,
        amount=str(AMOUNT),
        fiat_ref=None if redeem else FIAT_REF,
        origin="evm.events/0/0" if redeem else "kuro.events/0/0",
        origin_event=seat if redeem else None,
    )
    if stage is Stage.REJECTED:
        why = {"reason": RejectionReason.INVALID_ADDRESS, "detail": f"user {USER!r} is no address"}
        origin = received.origin_event
        return [received, RequestRejected(request_key=KEY, origin_event=origin, **why)]
    block: dict[str, Any] = {"tx_hash": TX_HASH, "block_number": BLOCK, "block_hash": BLOCK_HASH}
    evidence = EvidenceReported(
        request_key=KEY,
        chain_id=CHAIN_ID,
        event=EventName.REDEEMED if redeem else EventName.MINTED,
        account=USER,
        amount=AMOUNT,
        log_index=1,
        **block,
    )
    way: list[RequestFact] = [
        received,
        ApprovalDrafted(
            contract=CONTRACT, approval_nonce=1, deadline=2**33, digest=DIGEST, **attempt
        ),
        ApprovalSigned(digest=DIGEST, signature="0x" + "ab" * 65, signer=SIGNER, **attempt),
        RelayAssigned(wallet=WALLET, **attempt),
        SubmissionReported(wallet=WALLET, nonce=7, tx_hash=TX_HASH, **attempt),
        InclusionReported(succeeded=True, **block, **attempt),
        evidence,
        RequestCompleted(request_key=KEY, seat=evidence.seat, tx_hash=TX_HASH, block_number=BLOCK),
    ]
    if stage is Stage.FAILED:
        refusal = {"detail": "the contract is paused", "block_number": BLOCK}
        return [
            *way[:5],
            RefusalReported(reason="REVERTED", block_timestamp=BEGUN, **refusal, **attempt),
            RequestFailed(
                reason=FailureReason.CONTRACT_REVERTED, detail=refusal["detail"], **attempt
            ),
        ]
    steps = {Stage.RECEIVED: 1, Stage.DRAFTED: 2, Stage.SIGNED: 3, Stage.RELAYING: 4}
    steps |= {Stage.SUBMITTED: 5, Stage.INCLUDED: 6, Stage.COMPLETED: 8}
    return way[: steps[stage]]


def template(kind: RequestType, stage: Stage) -> Template:
    state: RequestState | None = None
    facts = life(kind, stage)
    for second, fact in enumerate(facts):
        state, _ = evolve(state, Record(fact, instant(BEGUN + second)))
    assert state is not None and state.stage is stage
    ending = state.ending
    reason = getattr(ending, "reason", None)
    message = f"{reason}: {ending.detail}" if reason else None  # type: ignore[union-attr]
    evidence = state.evidence or state.inclusion or state.submission
    values = {
        "request_key": KEY,
        "request_id": REQUEST_ID,
        "type": kind,
        "status": state.status,
        "stage": stage,
        "reason": reason,
        "error_message": message,
        "user_address": USER,
        "amount": AMOUNT,
        "chain_id": CHAIN_ID,
        "tx_hash": evidence.tx_hash if evidence else None,
        "fiat_ref": FIAT_REF if kind is RequestType.MINT else None,
        "attempt": state.attempt,
        "created_at": state.created_at,
        "updated_at": state.updated_at,
        "changed_at": state.changed_at,
        "state": _state_json(state),
    }
    row = "\t".join("\\N" if values[name] is None else str(values[name]) for name in COLUMNS)
    told = tuple(
        encode_value(Record(fact, instant(BEGUN + second))).decode()
        for second, fact in enumerate(facts)
    )
    return Template(state, row, told, len(facts) - 1)


def _state_json(state: RequestState) -> str:
    """As the projection keeps it; a test compares."""
    body: dict[str, Any] = {}
    for item in fields(state):
        value = getattr(state, item.name)
        if isinstance(value, Fact):
            body[item.name] = orjson.Fragment(value.model_dump_json(exclude_none=True))
            if item.name == "ending":
                body["ending_kind"] = value.kind
        elif value is not None and (value != () or item.name == "retracted_seats"):
            body[item.name] = value
    return orjson.dumps(body).decode()


class Generator:
    """Rows of `requests` and their facts, as lines for COPY. The same seed, the same rows."""

    def __init__(self, count: int, now: datetime, seed: int = SEED) -> None:
        self._random = random.Random(seed)
        self._now = now
        self._count = count
        self._templates = {
            (kind, stage): template(kind, stage) for kind in RequestType for stage in SHARES
        }
        self._stages = list(SHARES)
        shares = list(SHARES.values())
        self._bounds = [sum(shares[: at + 1]) / sum(shares) for at in range(len(shares))]

    def user(self, rank: int) -> str:
        return f"0x{rank:08x}{'5eed' * 8}"

    def _rank(self) -> int:
        draw = self._random.random()
        for rank, share in enumerate(BUSY_ACCOUNTS):
            if draw < share:
                return rank
            draw -= share
        return self._random.randrange(len(BUSY_ACCOUNTS), ACCOUNTS)

    def rows(self) -> Iterator[tuple[str, Callable[[], list[str]]]]:
        """The row, and what gives the request's facts, as JSON."""
        for number in range(self._count):
            at = bisect.bisect_left(self._bounds, self._random.random())
            stage = self._stages[min(at, len(self._stages) - 1)]
            kind = RequestType.MINT if self._random.random() < 0.6 else RequestType.REDEEM
            if stage in OLD_STAGES:
                age = DAYS * 86_400 * (1 - number / self._count) + self._random.random() * 60
            else:
                age = self._random.random() * 3600
            yield self._filled(self._templates[kind, stage], kind, number, age)

    def _filled(
        self, shape: Template, kind: RequestType, number: int, age: float
    ) -> tuple[str, Callable[[], list[str]]]:
        draw = self._random
        chain_id = draw.choice(CHAINS)
        request_id = f"m-{number:08d}" if kind is RequestType.MINT else f"redeem-{number}"
        key = request_id if kind is RequestType.MINT else redeem_key(chain_id, request_id)
        begun = (self._now - timedelta(seconds=age)).timestamp()
        took = draw.uniform(2, 40)
        changes = [
            (KEY, key),
            (REQUEST_ID, request_id),
            (FIAT_REF, f"wire-{number}"),
            (USER, self.user(self._rank())),
            (TX_HASH, f"0x{draw.getrandbits(256):064x}"),
            (BLOCK_HASH, f"0x{draw.getrandbits(256):064x}"),
            (DIGEST, f"0x{draw.getrandbits(256):064x}"),
            (str(AMOUNT), str(draw.randrange(1, 10**6) * 10**16)),
            (str(CHAIN_ID), str(chain_id)),
            (str(BLOCK), str(1_000_000 + number)),
            (str(BEGUN), str(int(begun))),
        ]
        for second in range(shape.seconds + 1):
            moment = begun + took * second / max(shape.seconds, 1)
            changes.append((instant(BEGUN + second), instant(moment)))
        return _changed(shape.row, changes), lambda: [_changed(f, changes) for f in shape.facts]


def _changed(text: str, changes: list[tuple[str, str]]) -> str:
    for old, new in changes:
        text = text.replace(old, new)
    return text


def fill(database_url: str, count: int, timelines: int) -> float:
    """Fill empty tables with `count` requests, and the facts of the `timelines` latest ones;
    seconds that it took. Raises CannotFill."""
    begun = time.monotonic()
    with psycopg.connect(database_url, autocommit=True) as link:
        link.execute("SET synchronous_commit = off")
        try:
            held = link.execute("SELECT EXISTS (SELECT FROM requests)").fetchone()
        except psycopg.errors.UndefinedTable:
            raise CannotFill("the database has no tables yet; `orchestrator init`") from None
        if held and held[0]:
            raise CannotFill("the tables hold requests already: give an empty database")
        rows = Generator(count, datetime.now(UTC)).rows()
        offset = 0
        for first in range(0, count, ROWS_PER_COPY):
            part = [next(rows) for _ in range(min(ROWS_PER_COPY, count - first))]
            with link.cursor().copy(f"COPY requests ({', '.join(COLUMNS)}) FROM STDIN") as copy:
                copy.write("".join(f"{row}\n" for row, _ in part))
            offset = _fill_facts(link, part, offset, first + len(part) > count - timelines)
            done = first + len(part)
            rate = done / (time.monotonic() - begun)
            print(f"{done} of {count} requests, {rate:.0f} a second", file=sys.stderr, flush=True)
        link.execute("VACUUM (ANALYZE) requests")
        link.execute("VACUUM (ANALYZE) request_facts")
        link.execute("CHECKPOINT")
    return time.monotonic() - begun


def _fill_facts(
    link: Any, part: list[tuple[str, Callable[[], list[str]]]], offset: int, wanted: bool
) -> int:
    if not wanted:
        return offset
    names = 'topic, partition, "offset", request_key, kind, fact_id, at, value, verdict'
    lines = []
    for row, facts in part:
        key = row.partition("\t")[0]
        for text in facts():
            body = orjson.loads(text)
            place = f"requests\t0\t{offset}\t{key}\t{body['kind']}\t{body['id']}"
            lines.append(f"{place}\t{body['at']}\t{text}\tAPPLIED\n")
            offset += 1
    with link.cursor().copy(f"COPY request_facts ({names}) FROM STDIN") as copy:
        copy.write("".join(lines))
    return offset


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--requests", type=int, default=1_000_000)
    parser.add_argument("--timelines", type=int, default=100_000, help="requests with their facts")
    options = parser.parse_args()
    url = os.environ.get("DATABASE_URL", "").replace("postgresql+psycopg://", "postgresql://")
    if not url:
        sys.exit("DATABASE_URL: missing; give a database that may be filled")
    try:
        seconds = fill(url, options.requests, options.timelines)
    except CannotFill as error:
        sys.exit(str(error))
    print(f"{options.requests} requests in {seconds:.0f} s", file=sys.stderr)


if __name__ == "__main__":
    main()
