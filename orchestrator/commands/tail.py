"""`orchestrator tail`: the log as a person reads it, with filters. kcat shows the same, raw."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.text import Text

from orchestrator.commands.showing import console, moment_ms, show_json
from orchestrator.config import Need, load
from orchestrator.kafka_access import KafkaAccess
from schemas.base import Position, Record, UnreadableRecord, instant
from schemas.topics import TOPICS, Topic

if TYPE_CHECKING:
    from orchestrator.adapters.kafka_tail import Since

_COLOURS = {
    "kuro.events": "magenta",
    "evm.events": "blue",
    "requests": "green",
    "lanes": "cyan",
    "controls": "yellow",
    "dead-letters": "red",
}
_SAID_ELSEWHERE = {
    "kind",
    "id",
    "at",
    "request_key",
    "chain_id",
    "wallet",
    "raw",
    "data",
    "signature",
}
_LONGEST_VALUE = 120


@dataclass(frozen=True, slots=True)
class Filters:
    """What is shown: everything that agrees with all that are given."""

    request: str | None = None
    kind: str | None = None
    chain: int | None = None
    text: str | None = None

    def admit(self, record: Record, raw: bytes) -> bool:
        fact = record.fact
        if self.kind is not None and fact.kind.lower() != self.kind.lower():
            return False
        if self.chain is not None and getattr(fact, "chain_id", None) != self.chain:
            return False
        if self.request is not None and self.request not in _requests_of(fact):
            return False
        return self.text is None or self.text.encode() in raw

    @property
    def any(self) -> bool:
        return self != Filters()


def _requests_of(fact: Any) -> set[str]:
    """Every name that a request may go by in this fact: its key, and its id."""
    relay = getattr(fact, "relay", None)
    names = {getattr(fact, "request_key", None), getattr(fact, "request_id", None)}
    if isinstance(relay, str):
        names.add(relay.rpartition(":")[0])
    return {name for name in names if name}


def chosen(names: Sequence[str]) -> list[Topic]:
    """Topics by name; all when none is named. Raises BadParameter."""
    unknown = [name for name in names if name not in TOPICS]
    if unknown:
        raise typer.BadParameter(f"{', '.join(unknown)}: the topics are {', '.join(TOPICS)}")
    return [TOPICS[name] for name in dict.fromkeys(names)] or list(TOPICS.values())


def since_of(text: str) -> Since:
    from orchestrator.adapters.kafka_tail import Since

    if text == "beginning":
        return Since(beginning=True)
    return Since() if text == "end" else Since(at_ms=moment_ms(text))


def tail(
    topics: Annotated[list[str] | None, typer.Argument(help="Topics; all by default.")] = None,
    since: Annotated[
        str, typer.Option(help="beginning, end, an age (10m, 2h) or a time with its zone.")
    ] = "end",
    follow: Annotated[
        bool, typer.Option(help="Go on as the log grows; otherwise stop at its end.")
    ] = True,
    request: Annotated[str | None, typer.Option(help="Only this request: key or id.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only this kind, e.g. RequestFailed.")] = None,
    chain: Annotated[int | None, typer.Option(help="Only facts that name this chain.")] = None,
    contains: Annotated[str | None, typer.Option(help="Only records with this text.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Show the log as it grows, one fact a line, readable and filtered.

    For example: orchestrator tail requests --since 10m --kind RequestFailed
    """
    config = load([Need.KAFKA])
    place, filters = since_of(since), Filters(request, kind, chain, contains)
    try:
        asyncio.run(_tail(config.kafka, chosen(topics or []), place, follow, filters, as_json))
    except KeyboardInterrupt:
        return


async def _tail(
    kafka: KafkaAccess,
    topics: list[Topic],
    since: Since,
    follow: bool,
    filters: Filters,
    as_json: bool,
) -> None:
    from orchestrator.adapters import kafka_tail

    async for batch in kafka_tail.tail(kafka, topics, since, follow=follow):
        for message in batch:
            position = Position(message.topic, message.partition, message.offset)
            try:
                record = TOPICS[message.topic].decode(message.value, position)
            except UnreadableRecord as error:
                if not filters.any:
                    _show_unreadable(message, position, str(error), as_json)
                continue
            if filters.admit(record, message.value or b""):
                show(record, as_json)


def show(record: Record, as_json: bool) -> None:
    if as_json:
        body = record.fact.model_dump(mode="json", exclude_none=True)
        about = {"position": str(record.position), "at": record.at, "kind": record.fact.kind}
        show_json({**about, "id": record.fact.id, **body})
        return
    console.print(line_of(record))


def line_of(record: Record) -> Text:
    """Time, place, kind, key, and what else the fact says, shortened."""
    fact, position = record.fact, record.position
    assert position is not None
    colour = _COLOURS.get(position.topic, "white")
    line = Text(record.at[11:23], style="dim")
    line.append(f" {position.topic}/{position.partition}/{position.offset}", style=colour)
    line.append(f" {fact.kind}", style="bold red" if _alarming(fact.kind) else "bold")
    line.append(f" {fact.key}")
    for name, value in fact.model_dump(mode="json", exclude_none=True).items():
        if name not in _SAID_ELSEWHERE and str(value) != fact.key:
            text = str(value)
            shown = text if len(text) <= _LONGEST_VALUE else text[:_LONGEST_VALUE] + "…"
            line.append(f" {name}=", style="dim").append(shown)
    return line


def _alarming(kind: str) -> bool:
    return kind.endswith(("Failed", "Rejected", "Halted", "Taken", "Retracted", "Letter"))


def _show_unreadable(message: Any, position: Position, reason: str, as_json: bool) -> None:
    if as_json:
        show_json({"position": str(position), "unreadable": reason})
        return
    line = Text(instant(message.timestamp / 1000)[11:23], style="dim")
    console.print(line.append(f" {position} unreadable: {reason}", style="bold red"))
