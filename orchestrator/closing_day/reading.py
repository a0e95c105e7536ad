"""What a day is closed from: the statement's file, and the mints of the whole log."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import date, datetime, tzinfo
from pathlib import Path

from orchestrator.closing_day.amounts import StatementError
from orchestrator.closing_day.camt import read_camt
from orchestrator.closing_day.table import Layout, read_table
from orchestrator.core.day_close import Mint, Payment
from orchestrator.core.lifecycle import RequestState, Verdict, evolve
from orchestrator.ports import LogReader
from schemas.base import Position, Record, RequestType, UnreadableRecord
from schemas.requests import RequestCompleted, RequestFact
from schemas.topics import REQUESTS

LARGEST_BYTES = 64 * 1024 * 1024
Tell = Callable[[str, int, int], None]


@dataclass(slots=True)
class Statement:
    payments: list[Payment]
    form: str
    sha256: str
    aside: dict[str, int] = field(default_factory=dict)


def read_statement(file: Path, decimals: int, layout: Layout) -> Statement:
    """camt.053 or CSV, by what it holds. Raises StatementError."""
    try:
        with file.open("rb") as opened:
            raw = opened.read(LARGEST_BYTES + 1)
    except OSError as error:
        raise StatementError(f"cannot read {file}: {error.strerror}") from None
    if len(raw) > LARGEST_BYTES:
        raise StatementError(f"{file} is above {LARGEST_BYTES // 2**20} MiB: split it")
    if not raw.strip():
        raise StatementError(f"{file} is empty")
    digest = hashlib.sha256(raw).hexdigest()
    if _is_xml(raw):
        payments, aside = read_camt(raw, decimals)
        return Statement(payments, "camt.053", digest, aside)
    return Statement(read_table(raw, decimals, layout), "CSV", digest)


def _is_xml(raw: bytes) -> bool:
    start = raw[:200].replace(b"\0", b"").lstrip(b"\xef\xbb\xbf\xff\xfe \t\r\n")
    return start.startswith(b"<")


def currency_of(payments: list[Payment], wanted: str | None) -> str | None:
    """The one currency of a statement. Raises StatementError for several, unless one is wanted."""
    found = sorted({payment.currency for payment in payments})
    if wanted is None and len(found) > 1:
        raise StatementError(f"the statement has {', '.join(found)[:200]}: give --currency")
    return wanted or (found[0] if found else None)


async def read_mints(log: LogReader, zone: tzinfo, tell: Tell) -> tuple[list[Mint], int]:
    """Every mint of the log, folded as the service folds it, and how many records could not be
    read. Raises LogUnavailable."""
    mints: list[Mint] = []
    unreadable = read = 0
    for number in range(REQUESTS.partitions):
        states: dict[str, RequestState] = {}
        completed: dict[str, Record] = {}
        async for _, messages in log.replay(REQUESTS, {number: 0}):
            for message in messages:
                place = Position(REQUESTS.name, number, message.offset)
                try:
                    record = REQUESTS.decode(message.value, place)
                except UnreadableRecord:
                    unreadable += 1
                    continue
                assert isinstance(record.fact, RequestFact)
                key = record.fact.request_key
                state, verdict = evolve(states.get(key), record)
                if state is not None:
                    states[key] = state
                if verdict is Verdict.APPLIED and isinstance(record.fact, RequestCompleted):
                    completed[key] = record
            read += len(messages)
            tell(REQUESTS.name, read, 0)
        mints += [
            _mint(state, completed.get(key), zone)
            for key, state in states.items()
            if state.type is RequestType.MINT
        ]
    tell(REQUESTS.name, read, read)
    return mints, unreadable


def _mint(state: RequestState, completed: Record | None, zone: tzinfo) -> Mint:
    received = state.received
    assert received is not None
    text = received.amount
    is_amount = text.isascii() and text.isdigit() and len(text) <= 78
    is_done = isinstance(state.ending, RequestCompleted) and completed is not None
    return Mint(
        key=state.key,
        fiat_ref=received.fiat_ref or "",
        amount=int(text) if is_amount else None,
        chain_id=received.chain_id,
        status=str(state.status),
        stage=str(state.stage),
        completed=_day(completed.at, zone) if is_done and completed is not None else None,
        tx_hash=state.ending.tx_hash if isinstance(state.ending, RequestCompleted) else None,
    )


def _day(at: str, zone: tzinfo) -> date:
    return datetime.fromisoformat(at).astimezone(zone).date()
