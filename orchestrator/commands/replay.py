"""`orchestrator replay`: the log folded in memory, from zero, by the code at hand."""

from __future__ import annotations

import asyncio
import time
from typing import Annotated, Any

import typer
from rich.progress import Progress
from rich.table import Table
from rich.text import Text

from orchestrator.commands.showing import console, plain, show_json
from orchestrator.config import Need, load
from orchestrator.core.belonging import request_key_of
from orchestrator.core.folding import Folding, Step, lanes_object, requests_object
from orchestrator.kafka_access import KafkaAccess
from schemas.base import Position, UnreadableRecord
from schemas.topics import CONTROLS, EVM_EVENTS, KURO_EVENTS, LANES, REQUESTS, TOPICS

SURROUNDING = (KURO_EVENTS, EVM_EVENTS, LANES, CONTROLS)
"""Told beside a request's own facts, by their time; they do not move it themselves."""


def replay(
    request: Annotated[
        str | None,
        typer.Option(help="One request's key: print each of its facts, its verdict, the stage."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Fold the whole log in memory and print what it comes to; changes nothing, asks no database.

    Compare it with what the API tells: `orchestrator verify` does that row by row. A request's
    fold, fact by fact, shows which of them moved it and which were repetitions or refused.
    """
    config = load([Need.KAFKA])
    if request is None:
        _show(asyncio.run(_everything(config.kafka, as_json)), as_json)
        return
    steps = asyncio.run(_one(config.kafka, request))
    if not any(step.verdict is not None for step in steps):
        console.print(f"the log holds no request {plain(request)}", markup=False)
        raise typer.Exit(1)
    for step in steps:
        show_json(_step_object(step)) if as_json else console.print(_line(step))


async def _everything(kafka: KafkaAccess, quiet: bool) -> tuple[Folding, float]:
    from orchestrator.adapters.kafka_log import KafkaLog

    folding, log = Folding(), KafkaLog(kafka, "orchestrator-replay")
    started = time.monotonic()
    with Progress(console=console, disable=quiet or not console.is_terminal) as bar:
        task = bar.add_task("folding", total=None)
        for topic in TOPICS.values():
            starts = dict.fromkeys(range(topic.partitions), 0)
            async for number, messages in log.replay(topic, starts):
                for message in messages:
                    place = Position(topic.name, number, message.offset)
                    folding.read(place, message.value)
                bar.update(task, completed=folding.facts)
    return folding, time.monotonic() - started


async def _one(kafka: KafkaAccess, key: str) -> list[Step]:
    """The request's own facts as they were folded, and what else names it, by time."""
    from orchestrator.adapters.kafka_log import KafkaLog

    log, folding = KafkaLog(kafka, "orchestrator-replay"), Folding()
    steps: list[tuple[str, Step]] = []
    for topic in (REQUESTS, *SURROUNDING):
        starts, latest = dict.fromkeys(range(topic.partitions), 0), ""
        async for number, messages in log.replay(topic, starts):
            for message in messages:
                place = Position(topic.name, number, message.offset)
                try:
                    record = topic.decode(message.value, place)
                except UnreadableRecord:
                    continue
                if request_key_of(record.fact) != key:
                    continue
                # Its own facts stay in log order, whatever their writers' clocks say.
                latest = max(latest, record.at)
                own = topic is REQUESTS
                steps.append((latest, folding.take(record) if own else Step(record, None, None)))
    return [step for _, step in sorted(steps, key=lambda item: item[0])]


def _show(done: tuple[Folding, float], as_json: bool) -> None:
    folding, seconds = done
    rate = round(folding.facts / seconds) if seconds else 0
    if as_json:
        show_json(
            {
                "facts": folding.facts,
                "seconds": round(seconds, 3),
                "factsPerSecond": rate,
                "unreadable": folding.unreadable,
                "refused": folding.refused,
                "requests": [
                    {"type": type_, "status": status, "stage": stage, "count": count}
                    for (type_, status, stage), count in sorted(folding.counts().items())
                ],
                "lanes": lanes_object(folding),
            }
        )
        return
    table = Table("type", "status", "stage", "requests", show_edge=False)
    for (type_, status, stage), count in sorted(folding.counts().items()):
        table.add_row(type_, status, stage, str(count))
    console.print(table, soft_wrap=False)
    table = Table("lane", "next nonce", "open", "waiting", "settled", "halted", show_edge=False)
    for key, lane in lanes_object(folding).items():
        names = ("nextNonce", "open", "waiting", "settled", "halted")
        cells = [lane[name] for name in names]
        table.add_row(
            key, *(plain(len(cell) if isinstance(cell, list) else cell) for cell in cells)
        )
    console.print(table, soft_wrap=False)
    console.print(
        f"{folding.facts} facts of {len(requests_object(folding))} requests in {seconds:.1f} s "
        f"({rate} facts/s); {folding.unreadable} records unreadable, {folding.refused} refused"
    )


def _step_object(step: Step) -> dict[str, Any]:
    fact = step.record.fact
    return {
        "at": step.record.at,
        "position": str(step.record.position),
        "kind": fact.kind,
        "id": fact.id,
        "verdict": step.verdict,
        "stage": step.stage,
        "fact": fact.model_dump(mode="json", exclude_none=True),
    }


def _line(step: Step) -> Text:
    fact = step.record.fact
    line = Text(step.record.at[:23].replace("T", " "), style="dim")
    line.append(f" {step.record.position!s:<22}", style="dim")
    if step.verdict is None:
        return line.append(f" {fact.kind}", style="dim").append(f" {plain(fact.id)}", style="dim")
    line.append(f" {fact.kind}", style="bold")
    style = "green" if step.verdict == "APPLIED" else "yellow"
    line.append(f" {step.verdict}", style=style)
    return line.append(f" -> {step.stage or 'nothing'}", style="bold")
