"""`orchestrator decisions`: the log replayed through the code and settings at hand."""

from __future__ import annotations

import asyncio
from typing import Annotated, Any

import typer

from orchestrator.commands.showing import console, show_json
from orchestrator.config import Config, Need, load
from orchestrator.core.comparing import Comparison, Difference
from schemas.base import UnreadableRecord
from schemas.topics import REQUESTS

DIFFERENT = 1


def decisions(
    diff: Annotated[
        bool,
        typer.Option("--diff", help="Print each decision that differs, not their count."),
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="As JSON.")] = False,
) -> None:
    """Replay every request through the code and the settings at hand; compare their decisions.

    Run it with a new version, or with changed settings, on the log that they shall work on: what
    differs from what the log holds would have been decided otherwise. Changes nothing. Exit code 1
    when something differs.
    """
    config = load([Need.KAFKA, Need.CONTRACTS, Need.WALLETS])
    comparison, unreadable = asyncio.run(_compared(config))
    differences = [_shown(difference) for difference in comparison.differences]
    if as_json:
        show_json(
            {
                "decisions": comparison.decisions,
                "requests": len(comparison.states),
                "differences": differences if diff else len(differences),
                "unreadable": unreadable,
                "owedNext": len(comparison.unmade),
            }
        )
    else:
        _print(differences if diff else [])
        console.print(
            f"{comparison.decisions} decisions on {len(comparison.states)} requests: "
            f"{len(differences)} differ; {unreadable} records unreadable; "
            f"{len(comparison.unmade)} decisions would come next"
        )
    if differences or unreadable:
        raise typer.Exit(DIFFERENT)


async def _compared(config: Config) -> tuple[Comparison, int]:
    from orchestrator.adapters.kafka_log import KafkaLog
    from schemas.base import Position

    comparison, unreadable = Comparison(config.terms), 0
    log = KafkaLog(config.kafka, "orchestrator-decisions")
    starts = dict.fromkeys(range(REQUESTS.partitions), 0)
    async for number, messages in log.replay(REQUESTS, starts):
        for message in messages:
            position = Position(REQUESTS.name, number, message.offset)
            try:
                comparison.read(REQUESTS.decode(message.value, position))
            except UnreadableRecord:
                unreadable += 1
    return comparison, unreadable


def _shown(difference: Difference) -> dict[str, Any]:
    record = difference.record
    return {
        "position": str(record.position),
        "at": record.at,
        "request": record.fact.key,
        "log": _plain(record.fact),
        "code": [_plain(fact) for fact in difference.owed],
        "verdict": difference.verdict,
    }


def _plain(fact: Any) -> dict[str, Any]:
    return {"kind": fact.kind, **fact.model_dump(mode="json", exclude_none=True)}


def _print(differences: list[dict[str, Any]]) -> None:
    for found in differences:
        console.print(f"{found['position']}  {found['request']}", style="bold")
        console.print(f"  log   {found['log']}", style="red", markup=False)
        for owed in found["code"] or ["nothing"]:
            console.print(f"  code  {owed}", style="green", markup=False)
        if found["verdict"] != "APPLIED":
            console.print(f"  the fold refuses it now: {found['verdict']}", markup=False)
