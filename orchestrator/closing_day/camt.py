"""ISO 20022 camt.053 (bank to customer statement), versions .001.02 to .001.08 and their like.

Names are read without their namespace, so that the version does not matter. A document type
declaration is refused: without one there are no entities, neither external nor exploding ones.
Only what is booked counts. Source: ISO 20022, camt.053.001.02 and camt.053.001.08.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any
from xml.parsers import expat

from orchestrator.closing_day.amounts import StatementError, minor_units
from orchestrator.core.day_close import Payment

DEEPEST = 64
LONGEST_TEXT = 100_000


@dataclass(slots=True)
class _Element:
    name: str
    currency: str | None = None
    text: str = ""
    parts: list[_Element] = field(default_factory=list)

    def all(self, *path: str) -> Iterator[_Element]:
        if not path:
            yield self
            return
        for part in self.parts:
            if part.name == path[0]:
                yield from part.all(*path[1:])

    def one(self, *path: str) -> _Element | None:
        return next(self.all(*path), None)

    def said(self, *path: str) -> str:
        found = self.one(*path)
        return found.text.strip() if found is not None else ""


class _Reader:
    """Keeps one entry at a time."""

    def __init__(self, decimals: int) -> None:
        self.payments: list[Payment] = []
        self.aside: dict[str, int] = {}
        self.entries = 0
        self.is_statement = False
        self._decimals = decimals
        self._stack: list[_Element] = []
        self._depth = 0

    def start(self, name: str, attributes: dict[str, str]) -> None:
        name = name.rpartition(" ")[2]
        self._depth += 1
        if self._depth > DEEPEST:
            raise StatementError("the XML is nested too deep")
        if name == "BkToCstmrStmt":
            self.is_statement = True
        if self._stack or (name == "Ntry" and self.is_statement):
            element = _Element(name, attributes.get("Ccy"))
            if self._stack:
                self._stack[-1].parts.append(element)
            self._stack.append(element)

    def data(self, text: str) -> None:
        if self._stack:
            self._stack[-1].text += text
            if len(self._stack[-1].text) > LONGEST_TEXT:
                raise StatementError("a text of the XML is too long")

    def end(self, _: str) -> None:
        self._depth -= 1
        if self._stack:
            element = self._stack.pop()
            if not self._stack:
                self.entries += 1
                self._take(element)

    def _take(self, entry: _Element) -> None:
        place = f"entry {self.entries}"
        status = entry.said("Sts", "Cd") or entry.said("Sts")
        if status != "BOOK":
            name = f"entries that are not booked ({status or 'no status'})"
            self.aside[name] = self.aside.get(name, 0) + 1
            return
        details = list(entry.all("NtryDtls", "TxDtls"))
        total = self._amount(entry.one("Amt"), place)
        if total is None:
            raise StatementError(f"{place}: no amount")
        if len(details) < 2:
            self._add(entry, details[0] if details else entry, total, place)
            return
        amounts = [self._amount(_amount_of(detail), place) for detail in details]
        if any(amount is None for amount in amounts):
            raise StatementError(f"{place}: a batch whose transactions have no amounts")
        known = [amount for amount in amounts if amount is not None]
        if sum(money for money, _ in known) != total[0]:
            raise StatementError(f"{place}: its transactions do not add up to its amount")
        for number, (detail, amount) in enumerate(zip(details, known, strict=True), 1):
            self._add(entry, detail, amount, f"{place}, transaction {number}")

    def _amount(self, element: _Element | None, place: str) -> tuple[int, str] | None:
        if element is None:
            return None
        if not element.currency:
            raise StatementError(f"{place}: an amount without its currency")
        return minor_units(element.text.strip(), self._decimals, place), element.currency

    def _add(self, entry: _Element, detail: _Element, amount: tuple[int, str], place: str) -> None:
        direction = detail.said("CdtDbtInd") or entry.said("CdtDbtInd")
        if direction not in ("CRDT", "DBIT"):
            raise StatementError(f"{place}: neither credit nor debit")
        self.payments.append(
            Payment(
                references=_references(detail),
                amount=amount[0],
                currency=amount[1],
                booked=_day(entry, place),
                place=place,
                is_credit=direction == "CRDT",
                is_reversal=entry.said("RvslInd") in ("true", "1"),
            )
        )


def _amount_of(detail: _Element) -> _Element | None:
    return detail.one("Amt") or detail.one("AmtDtls", "TxAmt", "Amt")


def _references(detail: _Element) -> tuple[str, ...]:
    paths = (
        ("Refs", "EndToEndId"),
        ("RmtInf", "Strd", "CdtrRefInf", "Ref"),
        ("RmtInf", "Ustrd"),
        ("Refs", "InstrId"),
    )
    texts = [found.text.strip() for path in paths for found in detail.all(*path)]
    unstructured = "".join(found.text.strip() for found in detail.all("RmtInf", "Ustrd"))
    wanted = [text for text in [*texts, unstructured] if text and text != "NOTPROVIDED"]
    return tuple(dict.fromkeys(wanted))


def _day(entry: _Element, place: str) -> date | None:
    text = entry.said("BookgDt", "Dt") or entry.said("BookgDt", "DtTm")
    if not text:
        return None
    try:
        return date.fromisoformat(text[:10])
    except ValueError:
        raise StatementError(f"{place}: {text[:40]!r} is no date") from None


def _refuse(*_: object) -> Any:
    raise StatementError("the XML has a document type declaration or entities: refused")


def read_camt(raw: bytes, decimals: int) -> tuple[list[Payment], dict[str, int]]:
    """The payments of all statements in the document, and how many entries were set aside, by why.
    Raises StatementError."""
    reader = _Reader(decimals)
    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = reader.start
    parser.EndElementHandler = reader.end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = _refuse
    parser.EntityDeclHandler = _refuse
    parser.ExternalEntityRefHandler = _refuse
    try:
        parser.Parse(raw, True)
    except expat.ExpatError as error:
        raise StatementError(f"not well-formed XML: {error}") from None
    except (ValueError, LookupError) as error:
        raise StatementError(f"the XML's encoding cannot be read: {error}") from None
    if not reader.is_statement:
        raise StatementError("no camt.053 document: it has no BkToCstmrStmt")
    return reader.payments, reader.aside
