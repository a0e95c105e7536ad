"""`orchestrator day-close`: the bank's statement against the day's mints."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, tzinfo
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import orjson
import typer

from orchestrator.closing_day import report
from orchestrator.closing_day.reading import Statement, currency_of, read_mints, read_statement
from orchestrator.closing_day.table import FIELDS, Layout
from orchestrator.commands.progressing import Tell, progress
from orchestrator.config import Config, Need, load
from orchestrator.core.day_close import Closing, Mint, Scales, closed
from orchestrator.errors import OrchestratorError
from orchestrator.logs import set_up

DIFFERENT, UNKNOWN = 1, 2


def day_close(
    statement: Annotated[Path, typer.Option(help="camt.053 XML, or CSV.")],
    day: Annotated[str, typer.Option(help="The day to close, such as 2026-11-24.")],
    out: Annotated[Path | None, typer.Option("--out", help="An HTML report.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
    timezone: Annotated[str, typer.Option(help="Whose days count.")] = "UTC",
    currency: Annotated[str | None, typer.Option(help="The one that backs mints.")] = None,
    currency_decimals: Annotated[
        int, typer.Option(min=0, max=30, help="Decimals of the statement's amounts.")
    ] = 2,
    token_decimals: Annotated[int, typer.Option(min=0, max=30, help="Decimals of the token.")] = 18,
    column: Annotated[
        list[str] | None,
        typer.Option(help="CSV: <field>=<name>, of reference, amount, currency, date; repeatable."),
    ] = None,
    decimal_comma: Annotated[bool, typer.Option(help="CSV: 12,50 instead of 12.50.")] = False,
    date_format: Annotated[str, typer.Option(help="CSV: such as %d.%m.%Y.")] = "%Y-%m-%d",
    encoding: Annotated[str, typer.Option(help="CSV: such as cp1252.")] = "utf-8-sig",
) -> None:
    """Match a bank statement with the mints of a day by their fiatRef, and compare the amounts.

    Nothing is guessed: what fits several mints is reported. Exit code 0 clean, 1 differences, 2
    could not tell. docs/day-close.md says what counts as what.
    """
    config = load([Need.KAFKA])
    set_up("ERROR")
    closing_day, zone = _day(day), _zone(timezone)
    layout = Layout(_columns(column or []), decimal_comma, date_format, encoding, currency)
    read = read_statement(statement, currency_decimals, layout)
    scales = Scales(currency_of(read.payments, currency), currency_decimals, token_decimals)
    with progress(as_json) as tell:
        mints, unreadable = asyncio.run(_mints(config, zone, tell))
    closing = closed(closing_day, read.payments, mints, scales)
    for name, count in read.aside.items():
        closing.set_aside[name] = closing.set_aside.get(name, 0) + count
    body = report.as_json(closing, _about(statement, read, mints, scales, timezone, unreadable))
    if out is not None:
        try:
            out.write_text(report.as_html(body), encoding="utf-8")
        except OSError as error:
            raise OrchestratorError(f"cannot write {out}: {error.strerror}") from None
    shown = orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()
    typer.echo(shown if as_json else report.as_text(body))
    raise typer.Exit(_code(closing, body))


def _code(closing: Closing, body: dict[str, Any]) -> int:
    if body["problems"]:
        return UNKNOWN
    return DIFFERENT if closing.differences else 0


def _about(
    file: Path,
    read: Statement,
    mints: list[Mint],
    scales: Scales,
    timezone: str,
    unreadable: int,
) -> dict[str, Any]:
    problems = [f"{unreadable} records of the log cannot be read"] if unreadable else []
    if not read.payments and not read.aside:
        problems.append("the statement holds no entries")
    return {
        "statement": file.name,
        "sha256": read.sha256,
        "form": read.form,
        "payments": len(read.payments),
        "mints": len(mints),
        "timezone": timezone,
        "currency": scales.currency,
        "currencyDecimals": scales.currency_decimals,
        "tokenDecimals": scales.token_decimals,
        "problems": problems,
    }


async def _mints(config: Config, zone: tzinfo, tell: Tell) -> tuple[list[Mint], int]:
    from orchestrator.adapters.kafka_log import KafkaLog

    return await read_mints(KafkaLog(config.kafka, "orchestrator-day-close"), zone, tell)


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise typer.BadParameter(f"{text[:40]!r} is no day such as 2026-11-24") from None


def _zone(name: str) -> tzinfo:
    if name == "UTC":  # without a database of time zones, too
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise typer.BadParameter(f"{name[:60]!r} is no time zone such as Europe/Berlin") from None


def _columns(texts: list[str]) -> dict[str, str]:
    found = {name: name for name in FIELDS}
    for text in texts:
        name, _, column = text.partition("=")
        if name not in found or not column:
            raise typer.BadParameter(
                f"{text[:80]!r}: give <field>=<column>, of {', '.join(FIELDS)}"
            )
        found[name] = column
    return found
