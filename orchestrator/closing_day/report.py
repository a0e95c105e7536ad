"""A closed day as JSON, text, and a page that needs nothing beside itself."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from orchestrator.core.day_close import Closing, Line, Mint, Payment

TITLES = {
    "matched": "Matched",
    "amount_differs": "Amount differs",
    "ambiguous": "Ambiguous: several mints fit",
    "paid_twice": "Several payments for one mint",
    "minted_twice": "Several mints with one fiatRef",
    "reversed": "Money that went back",
    "completed_without_money": "Completed without money",
    "money_without_mint": "Money without a completed mint",
}
SHOWN = 500
_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:75rem;padding:0 1rem;"
    "color-scheme:light dark}table{border-collapse:collapse;width:100%}"
    "td,th{border-bottom:1px solid #8886;padding:.3rem .6rem;text-align:left;"
    "overflow-wrap:anywhere}.bad{color:#c33}.good{color:#2a2}"
)


def decimal(amount: int | None, decimals: int) -> str:
    """Exactly, without needless zeros."""
    if amount is None:
        return "no amount"
    if decimals == 0:
        return str(amount)
    whole, part = divmod(amount, 10**decimals)
    return f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".")


def as_json(closing: Closing, about: dict[str, Any]) -> dict[str, Any]:
    """`about` says what it was made from; see the command. Every line is in it."""
    return {
        **about,
        "day": closing.day.isoformat(),
        "clean": closing.differences == 0,
        "counts": {name: len(lines) for name, lines in closing.groups()},
        "setAside": dict(sorted(closing.set_aside.items())),
        "lines": {name: [_line(line, about) for line in lines] for name, lines in closing.groups()},
    }


def _line(line: Line, about: dict[str, Any]) -> dict[str, Any]:
    return {
        "detail": line.detail,
        "payments": [_payment(one, about["currencyDecimals"]) for one in line.payments],
        "mints": [_mint(one, about["tokenDecimals"]) for one in line.mints],
    }


def _payment(one: Payment, decimals: int) -> dict[str, Any]:
    return {
        "references": list(one.references),
        "amount": decimal(one.amount, decimals),
        "currency": one.currency,
        "booked": one.booked.isoformat() if one.booked else None,
        "place": one.place,
    }


def _mint(one: Mint, decimals: int) -> dict[str, Any]:
    return {
        "requestKey": one.key,
        "fiatRef": one.fiat_ref,
        "amount": decimal(one.amount, decimals),
        "chainId": one.chain_id,
        "status": one.status,
        "stage": one.stage,
        "completed": one.completed.isoformat() if one.completed else None,
        "txHash": one.tx_hash,
    }


def _words(line: dict[str, Any]) -> tuple[str, str, str]:
    money = "; ".join(
        f"{one['amount']} {one['currency']} ({one['place']}, "
        f"{', '.join(one['references']) or 'no reference'})"
        for one in line["payments"]
    )
    mints = "; ".join(
        f"{one['requestKey']}: {one['amount']} on {one['chainId']}, "
        f"{one['fiatRef'] or 'no fiatRef'}"
        for one in line["mints"]
    )
    return money or "-", mints or "-", line["detail"]


def as_text(body: dict[str, Any]) -> str:
    """Counts, then each difference; what matched is only counted."""
    lines = [f"Day close {body['day']} of {body['statement']} ({body['form']})"]
    for name, title in TITLES.items():
        lines.append(f"  {title:34} {body['counts'][name]}")
    lines += [f"  set aside: {count} {name}" for name, count in body["setAside"].items()]
    for name, title in TITLES.items():
        found = body["lines"][name]
        if name == "matched" or not found:
            continue
        lines.append(f"{title}:")
        for line in found[:SHOWN]:
            lines.append("  " + " | ".join(_words(line)))
        if len(found) > SHOWN:
            lines.append(f"  and {len(found) - SHOWN} more: --json holds all")
    lines += [f"PROBLEM {problem}" for problem in body["problems"]]
    lines.append(_verdict(body))
    return "\n".join(lines)


def _verdict(body: dict[str, Any]) -> str:
    if body["problems"]:
        return "COULD NOT TELL"
    return "CLEAN" if body["clean"] else "DIFFERENCES"


def as_html(body: dict[str, Any]) -> str:
    """No script, no other host; everything that came from outside is escaped."""
    verdict = _verdict(body)
    style = "good" if verdict == "CLEAN" else "bad"
    parts = [
        "<!doctype html><html lang=en><meta charset=utf-8>"
        '<meta name=viewport content="width=device-width">'
        f"<title>Day close {escape(body['day'])}</title><style>{_STYLE}</style>",
        f"<h1>Day close {escape(body['day'])}: <span class={style}>{verdict}</span></h1>",
        f"<p>{escape(body['statement'])} ({escape(body['form'])}), sha256 "
        f"<code>{escape(body['sha256'])}</code>; {body['payments']} payments, {body['mints']} "
        f"mints on the log; days are of {escape(body['timezone'])}.</p>",
        _table(
            ("what", "count"),
            [(title, str(body["counts"][name])) for name, title in TITLES.items()]
            + [(f"set aside: {name}", str(count)) for name, count in body["setAside"].items()],
        ),
    ]
    parts += [f"<p class=bad>{escape(problem)}</p>" for problem in body["problems"]]
    for name, title in sorted(TITLES.items(), key=lambda item: item[0] == "matched"):
        found = body["lines"][name]
        if found:
            parts.append(f"<h2>{escape(title)}</h2>")
            parts.append(_table(("money", "mints", "why"), [_words(one) for one in found[:SHOWN]]))
            if len(found) > SHOWN:
                parts.append(f"<p>and {len(found) - SHOWN} more: --json holds all.</p>")
    return "\n".join([*parts, "</html>"]) + "\n"


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    cells = "".join(f"<th>{escape(name)}</th>" for name in head)
    body = "".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return f"<table><tr>{cells}</tr>{body}</table>"
