"""`orchestrator topics`: the log as a file that is archived and read back, and who may use it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from orchestrator.commands.showing import console, show_json
from orchestrator.config import Need, load
from orchestrator.logs import set_up

topics_app = typer.Typer(no_args_is_help=True, help="Archive the log, restore it, compare the two.")

File = Annotated[Path, typer.Argument(help="The archive, gzip-compressed lines of JSON.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON.")]


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console, disable=not console.is_terminal)


def _report(done: dict[str, object], as_json: bool, words: str) -> None:
    if as_json:
        show_json(done)
    else:
        console.print(words)


@topics_app.command("export")
def export_topics(file: File, as_json: Json = False) -> None:
    """Write every committed record of every topic, with its place, time, key and headers.

    The archive ends at what is the end of the log when it begins; each record and the whole carry a
    digest. It holds no key and no secret, but all that the facts hold.
    """
    from orchestrator.adapters.kafka_archive import export_log

    config = load([Need.KAFKA])
    with _bar() as bar:
        task = bar.add_task("exporting", total=None)
        done = asyncio.run(
            export_log(
                config.kafka, file, lambda n, total: bar.update(task, completed=n, total=total)
            )
        )
    words = f"{done['records']} records in {file}, sha256 of the records {done['sha256']}"
    _report(done, as_json, words)


@topics_app.command("import")
def import_topics(file: File, as_json: Json = False) -> None:
    """Restore an archive into empty topics: every record at the very offset that it had.

    Topics that are missing are created; refused when one holds anything. Nothing else may write
    meanwhile: stop every role before. Afterwards what stands there is read back and compared with
    the archive.
    """
    from orchestrator.adapters.kafka_archive import import_log, verify_log
    from streams.topics import prepare_topics

    config = load([Need.KAFKA])
    set_up("ERROR")
    asyncio.run(prepare_topics(config.kafka, config.settings.kafka_replication_factor))
    with _bar() as bar:
        task = bar.add_task("importing", total=None)
        show = lambda n, total: bar.update(task, completed=n, total=total)  # noqa: E731
        asyncio.run(import_log(config.kafka, file, show))
        bar.update(task, description="verifying", completed=0)
        done = asyncio.run(verify_log(config.kafka, file, show))
    _report(done, as_json, f"{done['records']} records restored and compared")


@topics_app.command("verify")
def verify_topics(file: File, as_json: Json = False) -> None:
    """Compare an archive with the log: each record, byte for byte. Exit code 1 when they differ.

    What the log has beyond the archive's end is no difference.
    """
    from orchestrator.adapters.kafka_archive import verify_log

    config = load([Need.KAFKA])
    with _bar() as bar:
        task = bar.add_task("verifying", total=None)
        done = asyncio.run(
            verify_log(
                config.kafka, file, lambda n, total: bar.update(task, completed=n, total=total)
            )
        )
    words = f"{done['records']} records, all the same"
    if done["differences"]:
        words = f"{done['differences']} records differ; the first: {done['first']}"
    _report(done, as_json, words)
    if done["differences"]:
        raise typer.Exit(1)


@topics_app.command("acls")
def show_acls(
    prefix: Annotated[str, typer.Option(help="KAFKA_PREFIX of the deployment.")] = "orchestrator",
    as_script: Annotated[
        bool, typer.Option("--sh", help="As commands for Kafka's kafka-acls.sh.")
    ] = False,
) -> None:
    """What each role must be allowed on Kafka, one principal a role, as JSON. Changes nothing."""
    from orchestrator.kafka_rights import listed, script

    typer.echo(script(prefix) if as_script else listed(prefix), nl=False)
