"""What commands share in showing things: a console, JSON for machines, times as people write."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

console = Console(highlight=False, soft_wrap=True)
"""Standard output. Colours on a terminal only, by NO_COLOR never."""


def show_field(name: str, value: str, width: int) -> None:
    """A name and a value behind it: on a terminal its words are wrapped below each other, elsewhere
    it is one line, for whoever searches it."""
    if not console.is_terminal:
        console.print(Text(f"  {name:<{width}}", style="dim").append(value, "default"))
        return
    row = Table.grid()
    row.add_column(width=width + 2, no_wrap=True)
    row.add_column(overflow="fold")
    row.add_row(Text(f"  {name}", style="dim"), Text(value))
    console.print(row, soft_wrap=False)


_AGO = re.compile(r"(\d{1,6})\s*(s|m|h|d)")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days"}


def show_json(value: Any) -> None:
    """One line of JSON on standard output."""
    typer.echo(orjson.dumps(value, default=str).decode())


def moment_ms(text: str, now: datetime | None = None) -> int:
    """Unix milliseconds from `90s`, `10m`, `2h`, `3d` (so long ago) or an RFC 3339 time with zone.

    Raises BadParameter.
    """
    ago = _AGO.fullmatch(text.strip())
    if ago is not None:
        moment = (now or datetime.now(UTC)) - timedelta(**{_UNITS[ago[2]]: int(ago[1])})
        return int(moment.timestamp() * 1000)
    try:
        moment = datetime.fromisoformat(text)
        if moment.tzinfo is not None:
            return int(moment.timestamp() * 1000)
    except ValueError:
        pass
    raise typer.BadParameter(
        f"{text!r}: give beginning, end, an age such as 10m or 2h, or a time with its zone such as "
        "2026-01-31T12:00:00Z"
    )


def ether(wei: int) -> str:
    """Wei as whole units of 18 decimals, exactly, without needless zeros."""
    whole, part = divmod(wei, 10**18)
    return f"{whole}.{part:018d}".rstrip("0").rstrip(".")


def plain(text: object) -> str:
    """A value that came from outside, as one line that cannot steer a terminal: what does not print
    (escape sequences, line breaks) is shown by its code."""
    value = "" if text is None else str(text)
    return "".join(
        letter if letter.isprintable() else letter.encode("unicode_escape").decode()
        for letter in value
    )
