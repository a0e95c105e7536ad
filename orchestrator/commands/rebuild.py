"""`orchestrator rebuild` and `orchestrator verify`: the tables against the log."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import orjson
import typer

from orchestrator.commands.progressing import progress
from orchestrator.commands.seal import Chosen, verify_chain
from orchestrator.config import Need, load
from orchestrator.errors import ConfigurationError
from orchestrator.logs import set_up

if TYPE_CHECKING:
    from projections.rebuilding.run import Rebuilt, Verified

Json = Annotated[bool, typer.Option("--json", help="One JSON document; progress as JSON lines.")]

SAME, DIFFERENT, UNKNOWN = 0, 1, 2


def register(app: typer.Typer) -> None:
    app.command()(rebuild)
    app.command()(verify)


def rebuild(
    as_json: Json = False,
    shorter_log: Annotated[
        bool,
        typer.Option("--shorter-log", help="The log was made anew and ends before the tables do."),
    ] = False,
) -> None:
    """Make the tables anew from the log, beside the live ones, and swap them in without downtime.

    The projection's writer may run. Exit code 0 when the new tables are live, 2 when nothing was
    changed, with the reason.
    """
    from projections.rebuilding.run import rebuild as run

    with progress(as_json) as tell:
        figures = _done(lambda url, kafka: run(url, kafka, tell, shorter_log=shorter_log), as_json)
    _show(as_json, {"rebuilt": True, **asdict(figures)}, _rebuilt(figures))


def verify(
    as_json: Json = False,
    chain: Annotated[
        bool, typer.Option("--chain", help="Compare the log with its seals instead.")
    ] = False,
    archive: Annotated[
        Path | None,
        typer.Option("--archive", help="With --chain: an archive (topics export) for the log."),
    ] = None,
    seals: Annotated[
        list[str] | None,
        typer.Option("--seals", help="With --chain: an anchor instead of SEAL_ANCHORS; repeatable"),
    ] = None,
    key: Annotated[
        list[Path] | None,
        typer.Option("--key", help="With --chain: PEM of a public key to trust; repeatable."),
    ] = None,
    since: Annotated[
        str | None, typer.Option("--since", help="With --chain: the first day, YYYY-MM-DD.")
    ] = None,
    until: Annotated[
        str | None, typer.Option("--until", help="With --chain: the last day, YYYY-MM-DD.")
    ] = None,
) -> None:
    """Replay the log and compare every row of the live tables with it, as of the same offsets.

    With --chain: compute the log's hash chain anew and compare it with every seal of every anchor;
    the first difference names day, partition and offsets. See docs/seals.md.

    Nothing is changed. Exit code 0 when all are the same, 1 when not (the first difference is
    shown: table, key, column, both values), 2 when it could not be told.
    """
    chosen = Chosen(archive, seals or (), key or (), since, until)
    if chain:
        verify_chain(chosen, as_json)
    if chosen != Chosen():
        raise typer.BadParameter("--archive, --seals, --key, --since and --until need --chain")
    from projections.rebuilding.run import verify as run

    with progress(as_json) as tell:
        found = _done(lambda url, kafka: run(url, kafka, tell), as_json)
    comparison = found.comparison
    body = {
        "same": comparison.clean,
        "first": None if comparison.first is None else asdict(comparison.first),
        "tables": [asdict(tally) for tally in comparison.tallies],
        "facts": found.facts,
        "seconds": round(found.seconds, 1),
        "offsets": {f"{topic}/{number}": at for (topic, number), at in found.offsets.items()},
    }
    _show(as_json, body, _verified(found))
    raise typer.Exit(SAME if comparison.clean else DIFFERENT)


def _done(start: Any, as_json: bool) -> Any:
    """Run it, or say why it could not be done, with exit code 2."""
    from projections.database import describe
    from projections.rebuilding.run import FAILURES

    config = load([Need.KAFKA, Need.DATABASE])
    set_up(config.settings.log_level if as_json else "WARNING")
    try:
        return asyncio.run(start(config.database_url, config.kafka))
    except ConfigurationError:
        raise
    except FAILURES as error:
        reason = describe(error)
    if as_json:
        typer.echo(orjson.dumps({"error": reason}).decode())
    else:
        typer.echo(reason, err=True)
    raise typer.Exit(UNKNOWN)


def _show(as_json: bool, body: dict[str, Any], text: str) -> None:
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() if as_json else text)


def _rebuilt(figures: Rebuilt) -> str:
    lines = [
        f"{figures.facts} facts of {figures.requests} requests replayed and indexed at "
        f"{figures.rate:.0f} facts/s; live after {figures.seconds:.1f} s",
        f"the writer was held for {figures.writer_held_seconds * 1000:.0f} ms, readers for "
        f"{figures.readers_held_seconds * 1000:.0f} ms",
    ]
    if figures.slow_partitions:
        lines.append(f"not by the fast path: {', '.join(figures.slow_partitions)}")
    if figures.leftovers:
        lines.append(figures.leftovers)
    return "\n".join(lines)


def _verified(found: Verified) -> str:
    lines = [f"{found.facts} facts replayed and compared in {found.seconds:.1f} s"]
    for tally in found.comparison.tallies:
        wrong = f", {tally.different} differ, {tally.missing} missing, {tally.surplus} too many"
        wrong = "" if tally.clean else wrong
        lines.append(f"  {tally.table}: {tally.same} the same{wrong}")
    if found.comparison.first is None:
        lines.append("The tables are what the log says.")
    else:
        lines.append(f"The first difference: {found.comparison.first}")
    return "\n".join(lines)
