"""How a day closes: every group, from statements as banks write them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.closing_day import reading, report
from orchestrator.closing_day.amounts import StatementError, minor_units
from orchestrator.closing_day.camt import read_camt
from orchestrator.closing_day.reading import currency_of, read_mints, read_statement
from orchestrator.closing_day.table import Layout
from orchestrator.core.day_close import Closing, Mint, Payment, Scales, closed, normalised
from schemas.base import Record, encode_value, instant
from schemas.topics import REQUESTS
from tests.projections.facts import received, whole_life

DAY, BEFORE = date(2026, 11, 24), date(2026, 11, 23)
SCALES = Scales("EUR", 2, 18)
TOKEN = 10**18


def mint(key: str, ref: str, tokens: int = 1, **fields: Any) -> Mint:
    return replace(Mint(key, ref, tokens * TOKEN, 5920, "COMPLETED", "COMPLETED", DAY), **fields)


def paid(*references: str, cents: int = 100, **fields: Any) -> Payment:
    return replace(Payment(references, cents, "EUR", DAY, "entry 1"), **fields)


def groups(closing: Closing) -> dict[str, int]:
    return {name: len(lines) for name, lines in closing.groups() if lines}


def close(payments: list[Payment], mints: list[Mint], scales: Scales = SCALES) -> dict[str, int]:
    return groups(closed(DAY, payments, mints, scales))


OPEN = {"completed": None, "status": "PENDING", "stage": "SIGNED"}
CASES: list[tuple[str, list[Payment], list[Mint], dict[str, int]]] = [
    ("exact", [paid("A-1")], [mint("m", "A-1")], {"matched": 1}),
    ("normalised", [paid("a 1")], [mint("m", "A-1")], {"matched": 1}),
    ("amount", [paid("A-1", cents=101)], [mint("m", "A-1")], {"amount_differs": 1}),
    ("currency", [paid("A-1", currency="USD")], [mint("m", "A-1")], {"amount_differs": 1}),
    (
        "exact first",
        [paid("A-1")],
        [mint("m", "A-1"), mint("n", "a1", completed=BEFORE)],
        {"matched": 1},
    ),
    ("ambiguous", [paid("A 1")], [mint("m", "A-1"), mint("n", "a.1")], {"ambiguous": 1}),
    ("two references", [paid("A", "B")], [mint("m", "A"), mint("n", "B")], {"ambiguous": 1}),
    ("paid twice", [paid("A"), paid("a")], [mint("m", "A")], {"paid_twice": 1}),
    (
        "minted twice",
        [paid("A")],
        [mint("m", "A"), mint("n", "A")],
        {"ambiguous": 1, "minted_twice": 1},
    ),
    ("unpaid", [], [mint("m", "A")], {"completed_without_money": 1}),
    (
        "no fiatRef",
        [paid("")],
        [mint("m", "")],
        {"completed_without_money": 1, "money_without_mint": 1},
    ),
    ("unknown money", [paid("Z")], [], {"money_without_mint": 1}),
    ("no reference", [paid()], [], {"money_without_mint": 1}),
    ("open", [paid("A")], [mint("m", "A", **OPEN)], {"money_without_mint": 1}),
    (
        "punctuation only",
        [paid("---")],
        [mint("m", "...")],
        {"completed_without_money": 1, "money_without_mint": 1},
    ),
    (
        "contained",
        [paid("pay A-1 now")],
        [mint("m", "A-1")],
        {"completed_without_money": 1, "money_without_mint": 1},
    ),
    ("money a day before", [paid("A", booked=BEFORE)], [mint("m", "A")], {"matched": 1}),
    ("another day's", [paid("A", booked=BEFORE)], [mint("m", "A", completed=BEFORE)], {}),
    ("other days' money", [paid("Z", booked=BEFORE)], [], {}),
    (
        "went back",
        [paid("A"), paid("A", is_credit=False)],
        [mint("m", "A")],
        {"matched": 1, "reversed": 1},
    ),
    ("debit", [paid("Z", is_credit=False)], [], {}),
    ("no amount", [paid("A")], [mint("m", "A", amount=None)], {"amount_differs": 1}),
]


@pytest.mark.parametrize(("name", "payments", "mints", "found"), CASES, ids=lambda x: str(x)[:20])
def test_each_situation_has_its_group(
    name: str, payments: list[Payment], mints: list[Mint], found: dict[str, int]
) -> None:
    assert close(payments, mints) == found, name


def test_scales_are_exact() -> None:
    tiny = mint("m", "A", amount=TOKEN + 1)
    assert close([paid("A")], [tiny]) == {"amount_differs": 1}
    six = Scales("EUR", 2, 6)
    assert close([paid("A")], [mint("m", "A", amount=10**6)], six) == {"matched": 1}
    none = Scales("JPY", 0, 0)
    assert close([paid("A", cents=7, currency="JPY")], [mint("m", "A", amount=7)], none) == {
        "matched": 1
    }
    fine = Scales("EUR", 3, 2)
    assert close([paid("A", cents=1001)], [mint("m", "A", amount=100)], fine) == {
        "amount_differs": 1
    }


@given(
    st.lists(st.tuples(st.sampled_from("ABCDE"), st.integers(1, 3))),
    st.sets(st.sampled_from("ABCDEF")),
)
def test_nothing_of_the_day_is_lost(money: list[tuple[str, int]], refs: set[str]) -> None:
    payments = [
        paid(ref, cents=amount * 100, place=f"{n}") for n, (ref, amount) in enumerate(money)
    ]
    closing = closed(DAY, payments, [mint(ref, ref) for ref in sorted(refs)], SCALES)
    told = [one.place for _, lines in closing.groups() for line in lines for one in line.payments]
    assert sorted(told) == sorted(one.place for one in payments)
    keys = {one.key for _, lines in closing.groups() for line in lines for one in line.mints}
    assert keys == refs
    assert normalised("ÄÖ-ﬁ 1") == "äöfi1"


def entry(body: str = "", amount: str = "1.00", ref: str = "A-1", status: str = "BOOK") -> str:
    details = body or f"<TxDtls><Refs><EndToEndId>{ref}</EndToEndId></Refs></TxDtls>"
    sts = f"<Sts>{status}</Sts>"
    return (
        f'<Ntry><Amt Ccy="EUR">{amount}</Amt><CdtDbtInd>CRDT</CdtDbtInd>{sts}'
        f"<BookgDt><Dt>2026-11-24</Dt></BookgDt><NtryDtls>{details}</NtryDtls></Ntry>"
    )


def camt(*entries: str, version: str = "02", head: str = "") -> bytes:
    space = f"urn:iso:std:iso:20022:tech:xsd:camt.053.001.{version}"
    inner = "".join(entries)
    return (
        f'<?xml version="1.0" encoding="UTF-8"?>{head}<Document xmlns="{space}"><BkToCstmrStmt>'
        f"<Stmt>{inner}</Stmt></BkToCstmrStmt></Document>"
    ).encode()


@pytest.mark.parametrize("version", [f"{number:02}" for number in range(2, 9)])
def test_camt_of_every_version(version: str) -> None:
    status = "<Cd>BOOK</Cd>" if version == "08" else "BOOK"
    raw = camt(entry(status=status), entry(status="PDNG"), version=version)
    payments, aside = read_camt(raw, 2)
    assert payments == [Payment(("A-1",), 100, "EUR", DAY, "entry 1")]
    assert sum(aside.values()) == 1
    assert read_camt(raw.replace(b"<Document xmlns", b"<Document xmlns:x"), 2)[0] == payments


def part(ref: str, amount: str, wrapped: bool) -> str:
    money = f'<Amt Ccy="EUR">{amount}</Amt>'
    money = f"<AmtDtls><TxAmt>{money}</TxAmt></AmtDtls>" if wrapped else money
    lines = f"<RmtInf><Ustrd>{ref[:2]}</Ustrd><Ustrd>{ref[2:]}</Ustrd></RmtInf>"
    return f"<TxDtls><Refs><EndToEndId>NOTPROVIDED</EndToEndId></Refs>{money}{lines}</TxDtls>"


@pytest.mark.parametrize("wrapped", [True, False])
def test_a_batch_is_its_transactions(wrapped: bool) -> None:
    both = part("AB12", "1.50", wrapped) + part("CD34", "0.50", wrapped)
    payments, _ = read_camt(camt(entry(both, amount="2.00")), 2)
    assert [(one.references, one.amount) for one in payments] == [
        (("AB", "12", "AB12"), 150),
        (("CD", "34", "CD34"), 50),
    ]
    with pytest.raises(StatementError, match="do not add up"):
        read_camt(camt(entry(both, amount="2.01")), 2)
    with pytest.raises(StatementError, match="no amounts"):
        read_camt(camt(entry("<TxDtls></TxDtls><TxDtls></TxDtls>")), 2)


XXE = '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
LAUGHS = '<!DOCTYPE a [<!ENTITY a "ha"><!ENTITY b "&a;&a;&a;">]>'
BAD: list[tuple[bytes, str]] = [
    (camt(entry(ref="&x;"), head=XXE), "document type"),
    (camt(entry(ref="&b;"), head=LAUGHS), "document type"),
    (camt(head='<!DOCTYPE a SYSTEM "http://example.org/a.dtd">'), "document type"),
    (camt(entry(ref="&x;")), "not well-formed"),
    (camt(entry())[:-20], "not well-formed"),
    (b"<a/>", "no camt.053"),
    (b"<html><body>Please sign in</body></html>", "no camt.053"),
    (camt(entry(amount="1,00")), "no amount"),
    (camt(entry(amount="1e3")), "no amount"),
    (camt(entry(amount="0.001")), "finer"),
    (camt(entry()).replace(b' Ccy="EUR"', b""), "without its currency"),
    (camt(entry()).replace(b"CRDT", b"X"), "neither credit nor debit"),
    (camt(entry()).replace(b"2026-11-24", b"24.11.2026"), "no date"),
    (camt(entry(ref="Ä")).decode().encode("latin-1"), "not well-formed"),
    (camt(entry()).replace(b"UTF-8", b"utf-99"), "encoding"),
    (camt("<x>" * 100 + "</x>" * 100), "nested too deep"),
    (camt(entry(ref="A" * 200_000)), "too long"),
    (b"", "empty"),
    (b"\0\1\2garbage", "zero bytes"),
    (b"reference;amount\nA;1", "no column currency, date"),
    (b"reference;amount;currency;date\nA;1;EUR", "not as many fields"),
    (b"reference;amount;currency;date\nA;1;EUR;2026-11-24;5", "not as many fields"),
    (b"reference;amount;currency;date\nA;1.234,5;EUR;2026-11-24", "no amount"),
    (b"reference;amount;currency;date\nA;1;EUR;24.11.2026", "no date"),
    (b"reference;amount;currency;date\nA;1;;2026-11-24", "no currency"),
    (b"reference;reference;amount;currency;date\n", "one name"),
    ("reference;amount;currency;date\nÄ;1;EUR;2026-11-24".encode("cp1252"), "--encoding"),
    (b'reference;amount;currency;date\n"A;1;EUR;2026-11-24', "no CSV"),
]


@pytest.mark.parametrize(("raw", "why"), BAD, ids=[f"{n}-{why}" for n, (_, why) in enumerate(BAD)])
def test_what_cannot_be_read_is_said(raw: bytes, why: str, tmp_path: Path) -> None:
    file = tmp_path / "statement"
    file.write_bytes(raw)
    with pytest.raises(StatementError, match=why):
        read_statement(file, 2, Layout())


def test_huge_files_are_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "LARGEST_BYTES", 1000)
    file = tmp_path / "statement"
    file.write_bytes(b"x" * 1001)
    with pytest.raises(StatementError, match="above"):
        read_statement(file, 2, Layout())
    with pytest.raises(StatementError, match="cannot read"):
        read_statement(tmp_path / "none", 2, Layout())


def test_tables_as_banks_export_them(tmp_path: Path) -> None:
    file = tmp_path / "export.csv"
    text = 'Zweck;Betrag;Tag\r\n"Müller; A-1";1234,50;24.11.2026\r\nX;-1,00;23.11.2026\r\n'
    file.write_bytes(text.encode("cp1252"))
    columns = {"reference": "Zweck", "amount": "Betrag", "date": "Tag", "currency": "currency"}
    layout = Layout(columns, True, "%d.%m.%Y", "cp1252", "EUR")
    first, second = read_statement(file, 2, layout).payments
    assert first == Payment(("Müller; A-1",), 123450, "EUR", DAY, "line 2")
    assert (second.is_credit, second.amount, second.booked) == (False, 100, BEFORE)
    file.write_bytes(b"\xef\xbb\xbfreference,amount,currency,date\nA,1,EUR,2026-11-24\n")
    assert read_statement(file, 2, Layout()).payments[0].amount == 100
    assert minor_units("12.500", 2, "x") == 1250
    with pytest.raises(StatementError, match="EUR, USD"):
        currency_of([paid("A"), paid("B", currency="USD")], None)
    assert currency_of([], None) is None


@dataclass
class _Message:
    offset: int
    value: bytes


class _Log:
    def __init__(self, *lives: Any) -> None:
        self.facts = [fact for life in lives for fact in life]

    async def replay(
        self, topic: Any, starts: Mapping[int, int]
    ) -> AsyncIterator[tuple[int, list[Any]]]:
        if 0 in starts:
            values = [encode_value(Record(fact, instant(1_795_521_599))) for fact in self.facts]
            yield 0, [_Message(at, value) for at, value in enumerate([*values, b"{"])]


def test_mints_come_from_the_log_and_the_report_says_it_all() -> None:
    facts = [fact for fact in whole_life("m-1", fiat_ref="<b>A</b>") if fact.kind in REQUESTS.kinds]
    log: Any = _Log(facts, [received("m-2", fiat_ref="B")])
    mints, unreadable = asyncio.run(read_mints(log, UTC, lambda *_: None))
    assert unreadable == 1
    done, waiting = mints
    assert (done.completed, done.status, done.fiat_ref) == (DAY, "COMPLETED", "<b>A</b>")
    assert (waiting.completed, waiting.status) == (None, "PENDING")
    payments = [paid("<b>A</b>", cents=5), paid("B"), paid("<script>")]
    closing = closed(DAY, payments, mints, SCALES)
    assert groups(closing) == {"amount_differs": 1, "money_without_mint": 2}
    about = {
        "statement": "<s>.xml",
        "sha256": "00",
        "form": "CSV",
        "payments": 3,
        "mints": 2,
        "timezone": "UTC",
        "currency": "EUR",
        "currencyDecimals": 2,
        "tokenDecimals": 18,
        "problems": [],
    }
    body = json.loads(json.dumps(report.as_json(closing, about)))
    assert body["clean"] is False and body["counts"]["money_without_mint"] == 2
    page, text = report.as_html(body), report.as_text(body)
    assert "DIFFERENCES" in page and text.endswith("DIFFERENCES")
    assert "<script" not in page and "http" not in page and "&lt;b&gt;A" in page
    assert "0.05 EUR" in text and "not completed" in text
    body["problems"] = ["3 records"]
    assert report.as_text(body).endswith("COULD NOT TELL")
