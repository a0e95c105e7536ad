"""`orchestrator guard`: the record of every digest that was ever sent for signing."""

from __future__ import annotations

import asyncio
import hashlib
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import orjson
import typer

from orchestrator.config import Config, load
from orchestrator.core.guarding import Entry, as_line, from_line
from orchestrator.errors import ConfigurationError
from orchestrator.logs import set_up

if TYPE_CHECKING:
    from orchestrator.adapters.postgres_guard import PostgresGuard

CONFLICTS, UNREADABLE = 1, 2
T = TypeVar("T")

guard_app = typer.Typer(
    help="The signing guard's record: every digest ever sent for signing.", no_args_is_help=True
)


async def prepare_guard(config: Config) -> None:
    """Create the guard's tables where `init` is told of a database for them."""
    await _with(config, lambda guard: guard.prepare())


@guard_app.command()
def show(
    request_key: Annotated[str, typer.Argument(help="The request.")],
) -> None:
    """What was ever claimed for a request, as JSON lines. Exit code 1 when that is nothing."""
    found = _run(lambda guard: guard.of_request(request_key))
    for entry in found:
        typer.echo(orjson.dumps(as_line(entry)).decode())
    if not found:
        typer.echo("nothing was ever claimed for it", err=True)
        raise typer.Exit(1)


@guard_app.command()
def export(
    to: Annotated[
        Path | None, typer.Option("--to", help="A file; it is replaced at once. Default: stdout.")
    ] = None,
) -> None:
    """The whole record as JSON lines; the last one holds the count and their SHA-256."""
    text = written(_run(lambda guard: guard.entries()))
    if to is None:
        sys.stdout.buffer.write(text)
        return
    part = to.with_name(to.name + ".part")
    try:
        part.write_bytes(text)
        part.replace(to)
    except OSError as error:
        typer.echo(f"{to} cannot be written: {error.strerror}", err=True)
        raise typer.Exit(UNREADABLE) from None


@guard_app.command("import")
def import_(
    file: Annotated[Path, typer.Argument(help="What `guard export` wrote.")],
) -> None:
    """Take in another record: before a restored replica may sign, and after a change of database.

    All of it, or nothing where entries conflict: each conflict is told, and the exit code is 1.
    Exit code 2 for a file that is cut or changed. Safe to repeat.
    """
    try:
        entries = read(file.read_bytes())
    except (OSError, ValueError) as error:
        typer.echo(f"{file}: {getattr(error, 'strerror', None) or error}", err=True)
        raise typer.Exit(UNREADABLE) from None
    conflicts = _run(lambda guard: guard.merge(entries))
    for told in conflicts:
        typer.echo(f"conflict: {told}", err=True)
    if conflicts:
        typer.echo("nothing was imported", err=True)
        raise typer.Exit(CONFLICTS)
    typer.echo(f"{len(entries)} entries are on the record")


def written(entries: list[Entry]) -> bytes:
    lines = b"".join(orjson.dumps(as_line(entry)) + b"\n" for entry in entries)
    end = {"entries": len(entries), "sha256": hashlib.sha256(lines).hexdigest()}
    return lines + orjson.dumps(end) + b"\n"


def read(content: bytes) -> list[Entry]:
    """Raises ValueError when it is not whole, byte for byte."""
    lines, _, last = content.rstrip(b"\n").rpartition(b"\n")
    lines += b"\n" if lines else b""
    try:
        end: Any = orjson.loads(last)
        count, digest = end["entries"], end["sha256"]
    except (orjson.JSONDecodeError, KeyError, TypeError):
        raise ValueError("its last line is not that of an export: it is cut") from None
    entries = [from_line(orjson.loads(line)) for line in lines.splitlines()]
    if count != len(entries) or digest != hashlib.sha256(lines).hexdigest():
        raise ValueError("it is not what was exported: count or SHA-256 differ")
    return entries


def _run(ask: Callable[[PostgresGuard], Awaitable[T]]) -> T:
    config = load([])
    set_up("ERROR")
    if config.signing_guard[0] is None:
        raise ConfigurationError(["SIGNING_GUARD_URL: missing; give the guard's database"])
    found = asyncio.run(_with(config, ask))
    assert found is not None
    return found


async def _with(config: Config, ask: Callable[[PostgresGuard], Awaitable[T]]) -> T | None:
    """None where no guard is configured."""
    from orchestrator.adapters.postgres_guard import PostgresGuard

    url, _ = config.signing_guard
    if url is None:
        return None
    guard = PostgresGuard(url, config.settings.signing_guard_margin_seconds)
    try:
        return await ask(guard)
    finally:
        await guard.close()
