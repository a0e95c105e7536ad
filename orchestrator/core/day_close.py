"""The day's mints against the bank's money: which payment backs which mint, and what is left over.

A payment and a mint belong together by the mint's fiatRef: as it stands, else without case, spaces
and punctuation. Where more than one mint fits, nothing is guessed. Amounts are compared as whole
numbers, at the finer of the two scales.
"""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import date


@dataclass(frozen=True, slots=True)
class Payment:
    """Money on the account. `amount` in the currency's smallest unit, without sign. `references`
    are all texts that may name a mint. `place` says where it stands in the statement."""

    references: tuple[str, ...]
    amount: int
    currency: str
    booked: date | None
    place: str
    is_credit: bool = True
    is_reversal: bool = False


@dataclass(frozen=True, slots=True)
class Mint:
    """A mint of the log. `amount` in base units, None where what came was no amount. `completed` is
    the day on which it was, None for one that is not."""

    key: str
    fiat_ref: str
    amount: int | None
    chain_id: int
    status: str
    stage: str
    completed: date | None
    tx_hash: str | None = None


@dataclass(frozen=True, slots=True)
class Scales:
    """Digits behind the decimal point."""

    currency: str | None
    currency_decimals: int
    token_decimals: int

    def agree(self, payment: Payment, mint: Mint) -> bool:
        if mint.amount is None or (self.currency and payment.currency != self.currency):
            return False
        scale = max(self.currency_decimals, self.token_decimals)
        money = payment.amount * 10 ** (scale - self.currency_decimals)
        tokens = mint.amount * 10 ** (scale - self.token_decimals)
        return bool(money == tokens)


@dataclass(frozen=True, slots=True)
class Line:
    """One finding: who is concerned, and why in words."""

    payments: tuple[Payment, ...]
    mints: tuple[Mint, ...]
    detail: str


@dataclass(slots=True)
class Closing:
    """What a day came to. All but `matched` are differences."""

    day: date
    matched: list[Line] = field(default_factory=list)
    amount_differs: list[Line] = field(default_factory=list)
    ambiguous: list[Line] = field(default_factory=list)
    paid_twice: list[Line] = field(default_factory=list)
    minted_twice: list[Line] = field(default_factory=list)
    reversed: list[Line] = field(default_factory=list)
    completed_without_money: list[Line] = field(default_factory=list)
    money_without_mint: list[Line] = field(default_factory=list)
    set_aside: dict[str, int] = field(default_factory=dict)

    @property
    def differences(self) -> int:
        return sum(len(lines) for name, lines in self.groups() if name != "matched")

    def groups(self) -> list[tuple[str, list[Line]]]:
        names = (
            "matched",
            "amount_differs",
            "ambiguous",
            "paid_twice",
            "minted_twice",
            "reversed",
            "completed_without_money",
            "money_without_mint",
        )
        return [(name, getattr(self, name)) for name in names]


def normalised(text: str) -> str:
    """Letters and digits only, without case and compatibility forms; may be empty."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    return "".join(char for char in plain if char.isalnum())


class _Index:
    def __init__(self, mints: Iterable[Mint]) -> None:
        self.exact: dict[str, list[Mint]] = defaultdict(list)
        self.loose: dict[str, list[Mint]] = defaultdict(list)
        for mint in mints:
            if mint.fiat_ref:
                self.exact[mint.fiat_ref].append(mint)
                if normalised(mint.fiat_ref):
                    self.loose[normalised(mint.fiat_ref)].append(mint)

    def fitting(self, payment: Payment) -> list[Mint]:
        """By the exact text of any reference; else by the normalised one."""
        exact = [mint for text in payment.references for mint in self.exact.get(text, ())]
        loose = (
            mint for text in payment.references for mint in self.loose.get(normalised(text), ())
        )
        return list({mint.key: mint for mint in exact or loose}.values())


def closed(
    day: date, payments: Sequence[Payment], mints: Sequence[Mint], scales: Scales
) -> Closing:
    """`mints` are all of the log: money of today may be for a mint of another day, or for one that
    has not been completed. `payments` are all of the statement."""
    closing = Closing(day)
    index = _Index(mints)
    paid: dict[str, list[Payment]] = defaultdict(list)
    by_key = {mint.key: mint for mint in mints}
    told: set[str] = set()
    for payment in payments:
        fitting = index.fitting(payment)
        if not payment.is_credit:
            _debit(closing, payment, fitting)
        elif payment.is_reversal:
            _aside(closing, "credits that take back a debit")
        elif len(fitting) > 1:
            told.update(mint.key for mint in fitting)
            names = ", ".join(mint.key for mint in fitting)
            text = f"{len(fitting)} mints fit this payment: {names}"
            closing.ambiguous.append(Line((payment,), tuple(fitting), text))
        elif fitting:
            paid[fitting[0].key].append(payment)
        elif payment.booked in (None, day):
            closing.money_without_mint.append(Line((payment,), (), "no mint has this reference"))
        else:
            _aside(closing, "payments of other days without a mint")
    for key, backing in paid.items():
        _judge(closing, by_key[key], backing, scales)
    _unpaid(closing, mints, set(paid) | told)
    _twice(closing, index)
    return closing


def _aside(closing: Closing, name: str) -> None:
    closing.set_aside[name] = closing.set_aside.get(name, 0) + 1


def _debit(closing: Closing, payment: Payment, fitting: list[Mint]) -> None:
    if fitting:
        text = "money that backs a mint went back"
        closing.reversed.append(Line((payment,), tuple(fitting), text))
    else:
        _aside(closing, "debits")


def _judge(closing: Closing, mint: Mint, backing: list[Payment], scales: Scales) -> None:
    concerns = mint.completed == closing.day or any(
        payment.booked in (None, closing.day) for payment in backing
    )
    if not concerns:
        _aside(closing, "payments of other days for mints of other days")
        return
    line = (tuple(backing), (mint,))
    if len(backing) > 1:
        closing.paid_twice.append(Line(*line, f"{len(backing)} payments have this reference"))
    elif mint.completed is None:
        text = f"the mint is {mint.status} ({mint.stage}), not completed"
        closing.money_without_mint.append(Line(*line, text))
    elif not scales.agree(backing[0], mint):
        closing.amount_differs.append(Line(*line, "another amount, or another currency"))
    else:
        other = "" if mint.completed == closing.day else f"minted on {mint.completed}"
        closing.matched.append(Line(*line, other))


def _unpaid(closing: Closing, mints: Sequence[Mint], known: set[str]) -> None:
    for mint in mints:
        if mint.completed == closing.day and mint.key not in known:
            text = "no payment has its reference" if mint.fiat_ref else "it has no fiatRef"
            closing.completed_without_money.append(Line((), (mint,), text))


def _twice(closing: Closing, index: _Index) -> None:
    """One reference, several completed mints, one of them of the day."""
    for reference, mints in index.exact.items():
        done = [mint for mint in mints if mint.completed is not None]
        if len(done) > 1 and any(mint.completed == closing.day for mint in done):
            text = f"{len(done)} completed mints have the fiatRef {reference!r}"
            closing.minted_twice.append(Line((), tuple(done), text))
