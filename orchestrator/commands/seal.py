"""`orchestrator seal` and `orchestrator verify --chain`: the log sealed by days, and compared."""

from __future__ import annotations

import asyncio
import re
import time
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from orchestrator.commands.progressing import Tell, progress
from orchestrator.commands.showing import show_json
from orchestrator.config import Config, Need, load
from orchestrator.core.sealing.seals import UnusableSealKey, key_hash, seal_keys
from orchestrator.errors import ConfigurationError, OrchestratorError, SealRefused
from orchestrator.logs import set_up
from orchestrator.ports import SealableLog, SealAnchor, SealKey
from orchestrator.sealing.settings import FORMS, bucket_of, checked_anchors, file_of

if TYPE_CHECKING:
    from orchestrator.sealing.running import Done
    from orchestrator.sealing.verifying import Compared
    from orchestrator.sealing.watching import SealWatch

SAME, DIFFERENT, UNKNOWN = 0, 1, 2
SHOWN = 100

seal_app = typer.Typer(help="Seal the log's days: hash chain, signed root, anchors outside.")

Json = Annotated[bool, typer.Option("--json", help="One JSON document; progress as JSON lines.")]


@dataclass(frozen=True, slots=True)
class Chosen:
    """What `verify --chain` was asked for; None and () leave it to the settings."""

    archive: Path | None = None
    seals: Sequence[str] = ()
    keys: Sequence[Path] = field(default_factory=tuple)
    since: str | None = None
    until: str | None = None


@seal_app.callback(invoke_without_command=True)
def seal(
    context: typer.Context,
    day: Annotated[
        str | None, typer.Option("--day", help="The last day to seal, YYYY-MM-DD, UTC.")
    ] = None,
    every: Annotated[
        float | None,
        typer.Option(min=1, help="Stay, and seal again after so many seconds; told by the log."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Seal every day that is over and has no seal yet, into every anchor of SEAL_ANCHORS.

    Safe to repeat and to run twice at once: a day has one seal. Exit code 0 when all is sealed, 1
    when the log or an anchor does not go with what was sealed before, 2 when it could not be done.
    """
    if context.invoked_subcommand is not None:
        return
    day = checked_day(day, "--day")
    config = _configured([Need.KAFKA], as_json or every is not None)
    if every is not None:
        _stay(config, day, every)
        return
    with progress(as_json) as tell:
        try:
            done = asyncio.run(_seal(config, day, tell))
        except SealRefused as error:
            _fail(str(error), as_json)
            raise typer.Exit(DIFFERENT) from None
        except ConfigurationError:
            raise
        except OrchestratorError as error:
            _fail(str(error), as_json)
            raise typer.Exit(UNKNOWN) from None
    _show_done(done, as_json)


def _stay(config: Config, day: str | None, every_seconds: float) -> None:
    from orchestrator.running import run, run_parts
    from orchestrator.sealing.repeating import seal_repeatedly

    if day is not None:
        raise typer.BadParameter("--day and --every exclude each other")

    async def once() -> Done:
        return await _seal(config, None, lambda step, done, total: None)

    run(run_parts({"seal": lambda stop: seal_repeatedly(once, every_seconds, stop)}))


@seal_app.command("key")
def key(
    out: Annotated[Path | None, typer.Option("--out", help="A file instead of output.")] = None,
) -> None:
    """The public key of seals as PEM, for those who verify: publish it where you publish others."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    from orchestrator.core.sealing.seals import checked_key

    config = _configured([], True)
    public_key = asyncio.run(_public_key(config))
    pem = checked_key(public_key).public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    if out is None:
        typer.echo(pem.decode(), nl=False)
        return
    try:
        out.write_bytes(pem)
    except OSError as error:
        raise OrchestratorError(f"cannot write {out}: {error.strerror}") from None
    typer.echo(f"{out}: the key {key_hash(public_key)}", err=True)


def verify_chain(chosen: Chosen, as_json: bool) -> NoReturn:
    """What `orchestrator verify --chain` does."""
    from orchestrator.sealing.verifying import Span

    span = Span(checked_day(chosen.since, "--since"), checked_day(chosen.until, "--until"))
    config = _configured([Need.KAFKA] if chosen.archive is None else [], as_json)
    with progress(as_json) as tell:
        try:
            compared = asyncio.run(_compare(config, chosen, span, tell))
        except ConfigurationError:
            raise
        except SealRefused as error:
            _fail(str(error), as_json)
            raise typer.Exit(DIFFERENT) from None
        except OrchestratorError as error:
            _fail(str(error), as_json)
            raise typer.Exit(UNKNOWN) from None
    _show_compared(compared, as_json)
    raise typer.Exit(SAME if compared.same else DIFFERENT)


def checked_day(text: str | None, option: str) -> str | None:
    """Raises BadParameter."""
    from datetime import date

    if text is None:
        return None
    try:
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", text):
            raise ValueError
        return date.fromisoformat(text).isoformat()
    except ValueError:
        raise typer.BadParameter(f"{option} {text!r}: give a day as YYYY-MM-DD") from None


def _configured(needs: list[Need], as_json: bool) -> Config:
    config = load(needs)
    set_up(config.settings.log_level if as_json else "WARNING")
    return config


async def _seal(config: Config, day: str | None, tell: Tell) -> Done:
    from orchestrator.adapters.kafka_sealing import KafkaSealableLog
    from orchestrator.sealing.running import Sealing

    places = config.settings.seal_anchors
    _refuse([*_anchor_problems(config, places), *_key_problems(config)])
    anchors = anchors_of(config, places)
    key = seal_key_of(config)
    source = KafkaSealableLog(config.kafka)
    async with _closing(key, source, *anchors):
        sealing = Sealing(
            config.settings.kafka_prefix,
            source,
            key,
            anchors,
            earlier_keys=_keys_of_files(_key_files(config)),
            tell=tell,
        )
        return await sealing.run(day)


async def _public_key(config: Config) -> bytes:
    key = seal_key_of(config)
    async with _closing(key):
        return await key.public_key()


async def _compare(config: Config, chosen: Chosen, span: Any, tell: Tell) -> Compared:
    from orchestrator.adapters.kafka_sealing import ArchivedLog, KafkaSealableLog
    from orchestrator.sealing.verifying import compare

    anchors = anchors_of(config, places_given(config, chosen.seals))
    keys = await trusted_keys(config, chosen.keys)
    source: SealableLog
    if chosen.archive is None:
        source = KafkaSealableLog(config.kafka)
    else:
        source = ArchivedLog(chosen.archive)
    async with _closing(source, *anchors):
        return await compare(
            config.settings.kafka_prefix,
            source,
            anchors,
            keys,
            span=span,
            tell=tell,
            now=time.time(),
        )


def places_given(config: Config, seals: Sequence[str]) -> Sequence[str]:
    """Anchors as they were given, else those of the settings. Raises BadParameter."""
    try:
        return checked_anchors(",".join(seals)) or config.settings.seal_anchors
    except ValueError as error:
        raise typer.BadParameter(f"--seals: {error}") from None


async def trusted_keys(config: Config, files: Sequence[Path]) -> dict[str, bytes]:
    """Of these files alone; without any, what the settings name: a file and the key in KMS."""
    keys = _keys_of_files(files or _key_files(config))
    if not files and config.settings.seal_kms_key_id:
        public_key = await _public_key(config)
        keys[key_hash(public_key)] = public_key
    return keys


def _closing(*parts: Any) -> AsyncExitStack:
    stack = AsyncExitStack()
    for part in parts:
        stack.push_async_callback(part.close)
    return stack


def seal_key_of(config: Config) -> SealKey:
    """Raises ConfigurationError, also where it is said to be the issuer's key."""
    from orchestrator.adapters.kms_seal import KmsSealKey

    _refuse(_key_problems(config))
    settings = config.settings
    assert settings.seal_kms_key_id is not None
    assert settings.aws_region is not None
    return KmsSealKey(
        settings.seal_kms_key_id,
        settings.aws_region,
        endpoint_url=settings.aws_endpoint_url_kms,
    )


def _key_problems(config: Config) -> list[str]:
    settings = config.settings
    problems = []
    if not settings.seal_kms_key_id:
        problems.append("SEAL_KMS_KEY_ID: missing; give an ECC_NIST_P256 key with SIGN_VERIFY")
    elif settings.seal_kms_key_id == settings.kms_key_id:
        problems.append("SEAL_KMS_KEY_ID: is the issuer's key (KMS_KEY_ID); seals need their own")
    if not settings.aws_region:
        problems.append("AWS_REGION: missing; give the region of the key and the bucket of seals")
    return problems


def _anchor_problems(config: Config, places: Sequence[str]) -> list[str]:
    if not places:
        return [f"SEAL_ANCHORS: missing; give {FORMS}"]
    if not config.settings.aws_region and any(bucket_of(place) for place in places):
        return ["AWS_REGION: missing; give the region of the key and the bucket of seals"]
    return []


def _refuse(problems: Sequence[str]) -> None:
    if problems:
        raise ConfigurationError(list(dict.fromkeys(problems)))


def anchors_of(config: Config, places: Sequence[str]) -> list[SealAnchor]:
    """Raises ConfigurationError."""
    from orchestrator.adapters.seal_file import FileAnchor
    from orchestrator.adapters.seal_s3 import S3Anchor

    _refuse(_anchor_problems(config, places))
    settings = config.settings
    anchors: list[SealAnchor] = []
    for place in places:
        path, bucket = file_of(place), bucket_of(place)
        if path is not None:
            anchors.append(FileAnchor(Path(path)))
        elif bucket is not None:
            assert settings.aws_region is not None
            endpoint = settings.aws_endpoint_url_s3
            anchors.append(S3Anchor(*bucket, settings.aws_region, endpoint_url=endpoint))
    return anchors


def seal_watch_of(config: Config) -> SealWatch | None:
    """None where no anchor is configured. Raises OrchestratorError, ConfigurationError too."""
    from orchestrator.sealing.watching import SealWatch

    places = config.settings.seal_anchors
    if not places:
        return None
    keys = _keys_of_files(_key_files(config))
    return SealWatch(config.settings.kafka_prefix, anchors_of(config, places), keys)


def _key_files(config: Config) -> list[Path]:
    file = config.settings.seal_public_keys_file
    return [] if file is None else [Path(file)]


def _keys_of_files(files: Sequence[Path]) -> dict[str, bytes]:
    """Raises OrchestratorError (exit code 2)."""
    found: dict[str, bytes] = {}
    for file in files:
        try:
            found |= seal_keys(file.read_bytes())
        except OSError as error:
            raise OrchestratorError(f"cannot read {file}: {error.strerror}") from None
        except UnusableSealKey as error:
            raise OrchestratorError(f"{file}: {error}") from None
    return found


def _fail(reason: str, as_json: bool) -> None:
    if as_json:
        show_json({"error": reason})
    else:
        typer.echo(reason, err=True)


def _show_done(done: Done, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "sealed": [
                    {
                        "day": item.seal.day,
                        "root": item.seal.statement.root,
                        "records": item.records,
                        "seconds": round(item.seconds, 1),
                    }
                    for item in done.sealed
                ],
                "copied": [{"day": day, "anchor": anchor} for day, anchor in done.copied],
                "newest": None if done.newest is None else asdict(done.newest.statement),
            }
        )
        return
    for day, anchor in done.copied:
        typer.echo(f"{day}: its seal was copied to {anchor}")
    for item in done.sealed:
        root = item.seal.statement.root
        typer.echo(f"{item.seal.day}: {item.records} records sealed, root {root}")
    if not done.sealed and done.newest is not None:
        typer.echo(f"nothing to seal: {done.newest.day} is the newest seal and stands")


def _show_compared(compared: Compared, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "same": compared.same,
                "differences": len(compared.found),
                "first": asdict(compared.found[0]) if compared.found else None,
                "found": [asdict(finding) for finding in compared.found[:SHOWN]],
                "days": compared.days,
                "from": compared.first_day,
                "to": compared.last_day,
                "records": compared.records,
                "newest": asdict(compared.newest.statement),
            }
        )
        return
    days = f"{compared.days} days sealed, {compared.first_day} to {compared.last_day}"
    typer.echo(f"{days}; {compared.records} records read")
    if compared.same:
        typer.echo("The log is what was sealed. What came after the last seal is not covered.")
        return
    for number, finding in enumerate(compared.found[:SHOWN]):
        typer.echo(f"{'The first difference: ' if not number else '  '}{_told(finding)}")
    if len(compared.found) > SHOWN:
        typer.echo(f"  and {len(compared.found) - SHOWN} more")


def _told(finding: Any) -> str:
    return f"{finding.kind} {finding.day} {finding.text}".replace("  ", " ")
