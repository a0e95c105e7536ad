"""What `orchestrator watch` draws: exactly as high and as wide as the terminal.

Nothing scrolls away: facts get the lines that the sums leave, and where there are more chains or
lanes than fit, those that need somebody stay and the others are counted.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, TypeVar

from rich import box
from rich.console import Console, JustifyMethod, RenderableType
from rich.table import Table
from rich.text import Text

from orchestrator.commands.reading import COLOURS
from orchestrator.commands.showing import plain

if TYPE_CHECKING:
    from orchestrator.client import FeedItem, models

NEWEST = 200
"""Facts that are remembered; as many as fit are shown."""
LAG_SECONDS = 30.0
"""A chain that was last seen longer ago is shown in red."""
FEWEST_FACTS = 3
ROWS_AT_LEAST = 3
WIDE, NARROW = 100, 78
"""Columns from which wallets are shown whole, and below which less is shown."""

Row = TypeVar("Row")


@dataclass(slots=True)
class View:
    """What is known now. `problem` says why it may be old."""

    overview: models.Overview | None = None
    lanes: list[models.LaneSummary] = field(default_factory=list)
    newest: deque[FeedItem] = field(default_factory=lambda: deque(maxlen=NEWEST))
    problem: str | None = None


def screen(view: View, console: Console) -> Table:
    """The whole picture, line by line."""
    width, height = console.width, console.height
    chains = list(view.overview.chains) if view.overview else []
    lines: list[RenderableType] = [*_problems(view)]
    if view.overview is not None:
        lines += [_queues(view.overview, width), Text("")]
    # Two heads, an empty line behind each table, a head and as few facts as are of use.
    room = height - _heights(lines, console) - 4 - 1 - FEWEST_FACTS
    for_chains = max(ROWS_AT_LEAST, room - max(ROWS_AT_LEAST, len(view.lanes) or 1))
    shown = _chosen(chains, for_chains, _needs_somebody)
    lines += [_chains(shown, len(chains), _decimals(view)), Text("")]
    left = max(ROWS_AT_LEAST, height - _heights(lines, console) - 2 - 1 - FEWEST_FACTS)
    lines += [_lanes(_chosen(view.lanes, left, _stands), len(view.lanes), width), Text("")]
    rest = max(1, height - _heights(lines, console) - 1)
    lines += [Text("newest facts (Ctrl-C ends)", style="dim"), *_facts(view, rest)]
    whole = Table.grid(expand=True)
    for line in lines:
        whole.add_row(line)
    return whole


def _heights(lines: Sequence[RenderableType], console: Console) -> int:
    return sum(len(console.render_lines(line)) for line in lines)


def _problems(view: View) -> list[Text]:
    """What needs somebody, each on a line of its own."""
    texts = [] if view.problem is None else [f"what stands here is old: {view.problem}"]
    for lane in view.lanes:
        stop, word = lane.halted or lane.set_aside, "HALTED" if lane.halted else "SET ASIDE"
        if stop:
            texts.append(f"{word} {lane.chain_id} {lane.wallet}: {plain(stop.reason)}")
    for chain in view.overview.chains if view.overview else []:
        if chain.halted:
            texts.append(f"HALTED {chain.chain_id}: {plain(chain.halted.reason)}")
    if view.overview is not None and view.overview.dead_letters:
        counts = view.overview.dead_letters.items()
        texts.append("dead letters: " + ", ".join(f"{count} {reason}" for reason, count in counts))
    return [Text(text, style="bold red", no_wrap=True, overflow="ellipsis") for text in texts]


def _chosen(rows: Sequence[Row], room: int, first: Callable[[Row], bool]) -> list[Row]:
    """As many as fit, in their order: first those that need somebody. One line says of the rest."""
    if len(rows) <= room:
        return list(rows)
    kept = [n for n, row in enumerate(rows) if first(row)]
    kept += [n for n, row in enumerate(rows) if not first(row)]
    return [rows[n] for n in sorted(kept[: room - 1])]


def _table(*columns: str, numbers: int) -> Table:
    """Narrow: without lines between columns. The last `numbers` columns stand to the right."""
    table = Table(box=box.HORIZONTALS, show_edge=False, pad_edge=False, header_style="bold")
    for place, column in enumerate(columns):
        right = place >= len(columns) - numbers
        justify: JustifyMethod = "right" if right else "left"
        table.add_column(column, no_wrap=True, justify=justify, min_width=len(column))
    return table


def _queues(seen: models.Overview, width: int) -> Table:
    table = _table("", "waiting", "active", "completed", "failed", "oldest", numbers=5)
    if width >= NARROW:
        table.add_column("open", no_wrap=True, overflow="ellipsis", ratio=1)
    for name, queue in (("mint", seen.queues.mint), ("redeem", seen.queues.redeem)):
        rows = [row for row in seen.stages if row.type.lower() == name]
        rows = [row for row in rows if row.oldest_seconds is not None]
        oldest = max((row.oldest_seconds or 0.0 for row in rows), default=None)
        table.add_row(
            name,
            *(str(count) for count in (queue.waiting, queue.active, queue.completed)),
            Text(str(queue.failed), style="bold red" if queue.failed else ""),
            "" if oldest is None else f"{oldest:.0f} s",
            *([", ".join(f"{row.count} {row.stage}" for row in rows)] if width >= NARROW else []),
        )
    return table


def _decimals(view: View) -> int:
    """Of the token, as the API is configured."""
    told = (view.overview.model_extra or {}) if view.overview else {}
    return int(told.get("tokenDecimals", 18))


def _needs_somebody(chain: models.ChainShown) -> bool:
    late = chain.age_seconds is not None and chain.age_seconds > LAG_SECONDS
    return late or chain.halted is not None


def _chains(rows: Sequence[models.ChainShown], count: int, decimals: int) -> Table:
    table = _table("chain", "block", "age", "supply", "", numbers=4)
    for chain in rows:
        age = "" if chain.age_seconds is None else f"{chain.age_seconds:.0f} s"
        table.add_row(
            str(chain.chain_id),
            "" if chain.followed_block is None else str(chain.followed_block),
            Text(age, style="bold red" if _needs_somebody(chain) else ""),
            _tokens(int(chain.supply), decimals),
            Text("HALTED" if chain.halted else "", style="bold red"),
        )
    if len(rows) < count:
        table.add_row("…", f"{count - len(rows)} more", "", "", "")
    return table


def _tokens(units: int, decimals: int) -> str:
    """Base units as whole tokens, exactly; more burnt than minted is below zero."""
    whole, part = divmod(abs(units), 10**decimals)
    text = f"{whole}.{part:0{decimals}d}".rstrip("0").rstrip(".") if decimals else str(whole)
    return f"-{text}" if units < 0 else text


def _stands(lane: models.LaneSummary) -> bool:
    return bool(lane.halted or lane.set_aside or lane.stuck)


def _lanes(rows: Sequence[models.LaneSummary], count: int, width: int) -> RenderableType:
    if not count:
        return Text("no lanes yet", style="dim")
    numbers = ("next nonce", "in flight", "waiting") if width >= NARROW else ("next", "out", "wait")
    table = _table("chain", "wallet", *numbers, "stuck", "", numbers=5)
    for lane in rows:
        word = "HALTED" if lane.halted else "SET ASIDE" if lane.set_aside else ""
        table.add_row(
            str(lane.chain_id),
            lane.wallet if width >= WIDE else f"{lane.wallet[:6]}…{lane.wallet[-4:]}",
            "" if lane.next_nonce is None else str(lane.next_nonce),
            str(lane.in_flight),
            str(lane.waiting),
            Text(str(lane.stuck), style="bold red" if lane.stuck else ""),
            Text(word, style="bold red"),
        )
    if len(rows) < count:
        table.add_row("…", f"{count - len(rows)} more", "", "", "", "", "")
    return table


def _facts(view: View, room: int) -> list[Text]:
    lines = [line_of(item) for item in list(view.newest)[-room:]]
    for line in lines:
        line.no_wrap, line.overflow = True, "ellipsis"
    return lines or [Text("none since the start", style="dim")]


def line_of(item: FeedItem) -> Text:
    event = item.event
    line = Text(f"{event.at:%H:%M:%S.%f}"[:12], style="dim")
    line.append(f" {event.topic}/{event.partition}/{event.offset}", style="dim")
    line.append(f" {plain(event.kind)}", style="not dim bold")
    line.append(f" {plain(event.request_key or event.chain_id)}", style="not dim")
    if event.status is not None:
        line.append(f" -> {event.status.to}", style=f"not dim {COLOURS[event.status.to]}")
    return line
