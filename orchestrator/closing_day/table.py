"""Bank statements as CSV, by the names of their columns; docs/day-close.md says how."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date, datetime

from orchestrator.closing_day.amounts import StatementError, minor_units
from orchestrator.core.day_close import Payment

DELIMITERS = ",;\t|"
FIELDS = ("reference", "amount", "currency", "date")


@dataclass(frozen=True, slots=True)
class Layout:
    """Which column holds what; `currency` stands for all rows where no column says it."""

    columns: Mapping[str, str] = field(default_factory=lambda: {name: name for name in FIELDS})
    decimal_comma: bool = False
    date_format: str = "%Y-%m-%d"
    encoding: str = "utf-8-sig"
    currency: str | None = None


def read_table(raw: bytes, decimals: int, layout: Layout) -> list[Payment]:
    """Raises StatementError, with the line. A negative amount is a debit."""
    try:
        text = raw.decode(layout.encoding)
    except UnicodeDecodeError as error:
        raise StatementError(
            f"byte {error.start} is not {layout.encoding}: give --encoding, such as cp1252"
        ) from None
    except LookupError:
        raise StatementError(f"{layout.encoding!r} is no known encoding") from None
    if "\0" in text:
        raise StatementError("the file holds zero bytes: another encoding, or no CSV")
    header = text.partition("\n")[0]
    delimiter = max(DELIMITERS, key=header.count)
    rows = csv.DictReader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        names = [name.strip() for name in rows.fieldnames or []]
        rows.fieldnames = names
        _check_columns(names, layout)
        return [_payment(row, rows.line_num, decimals, layout) for row in rows]
    except csv.Error as error:
        raise StatementError(f"line {rows.line_num}: no CSV: {error}") from None


def _check_columns(names: list[str], layout: Layout) -> None:
    if len(set(names)) != len(names):
        raise StatementError("two columns have one name")
    needed = [f for f in FIELDS if f != "currency" or layout.currency is None]
    missing = [layout.columns[f] for f in needed if layout.columns[f] not in names]
    if missing:
        raise StatementError(
            f"no column {', '.join(missing)}; there are {', '.join(names)[:300] or 'none'}: "
            "give --column"
        )


def _payment(
    row: Mapping[str | None, str | None], line: int, decimals: int, layout: Layout
) -> Payment:
    place = f"line {line}"
    if None in row or None in row.values():
        raise StatementError(f"{place}: not as many fields as the header has")
    told = {name: (row.get(layout.columns[name]) or "").strip() for name in FIELDS}
    amount = told["amount"]
    if layout.decimal_comma:
        amount = amount.replace(".", "!").replace(",", ".")
    units = minor_units(amount, decimals, place)
    currency = told["currency"] or layout.currency
    if not currency:
        raise StatementError(f"{place}: no currency")
    return Payment(
        references=(told["reference"],) if told["reference"] else (),
        amount=abs(units),
        currency=currency,
        booked=_day(told["date"], layout.date_format, place),
        place=place,
        is_credit=units >= 0,
    )


def _day(text: str, form: str, place: str) -> date:
    try:
        return datetime.strptime(text, form).date()
    except ValueError:
        raise StatementError(f"{place}: {text[:40]!r} is no date of the form {form}") from None
