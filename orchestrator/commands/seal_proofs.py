"""`orchestrator seal prove` and `orchestrator seal check-proof`."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.commands.progressing import Tell, progress
from orchestrator.commands.showing import show_json
from orchestrator.config import Config, Need, load
from orchestrator.core.sealing.proving import (
    LARGEST_PROOF_BYTES,
    CannotProve,
    Checked,
    Proof,
    UnreadableProof,
    check,
    read_proof,
)
from orchestrator.core.sealing.seals import Seal, UnreadableSeal, read_seal
from orchestrator.errors import ConfigurationError, OrchestratorError, SealRefused
from orchestrator.logs import set_up
from orchestrator.ports import SealAnchor

if TYPE_CHECKING:
    from orchestrator.sealing.proving import Place

VOID, UNKNOWN = 1, 2
_PLACE = re.compile(r"([a-z.-]+)/(\d{1,9})/(\d{1,18})")

Json = Annotated[bool, typer.Option("--json", help="One JSON document.")]
Keys = Annotated[
    list[Path] | None,
    typer.Option("--key", help="PEM of public keys to trust; default: what the settings name."),
]
Seals = Annotated[
    list[str] | None, typer.Option("--seals", help="An anchor, as in SEAL_ANCHORS; repeatable.")
]


def register(app: typer.Typer) -> None:
    app.command("prove")(prove)
    app.command("check-proof")(check_proof)


def prove(
    place: Annotated[
        str | None, typer.Argument(help="topic/partition/offset, as a certificate names it.")
    ] = None,
    fact: Annotated[str | None, typer.Option(help="Instead: every record of this fact.")] = None,
    request: Annotated[
        str | None, typer.Option(help="Instead: Kuro's word on a request and its whole life.")
    ] = None,
    archive: Annotated[
        Path | None, typer.Option(help="An archive of `topics export` instead of Kafka.")
    ] = None,
    seals: Seals = None,
    keys: Keys = None,
    out: Annotated[Path | None, typer.Option("--out", help="A file instead of output.")] = None,
) -> None:
    """Prove that a record stood on the log when its day was sealed, to anybody with the seals'
    public key; a proof a line. It holds nothing of other records but hashes.

    Exit code 0 written, 1 there is no proof (and why), 2 could not tell.
    """
    if sum(given is not None for given in (place, fact, request)) != 1:
        raise typer.BadParameter("give one of: a place, --fact, --request")
    at = None if place is None else _place(place)
    config = load([Need.KAFKA] if archive is None else [])
    set_up("ERROR")
    with progress(False) as tell:
        try:
            wanted = {"fact": fact, "request": request}
            found = asyncio.run(_prove(config, at, wanted, archive, (seals, keys), tell))
        except (CannotProve, SealRefused) as error:
            typer.echo(f"no proof: {error}", err=True)
            raise typer.Exit(VOID) from None
        except ConfigurationError:
            raise
        except OrchestratorError as error:
            typer.echo(f"could not tell: {error}", err=True)
            raise typer.Exit(UNKNOWN) from None
    body = b"".join(proof.document() + b"\n" for proof in found)
    if out is None:
        typer.echo(body.decode(), nl=False)
        return
    try:
        out.write_bytes(body)
    except OSError as error:
        raise OrchestratorError(f"cannot write {out}: {error.strerror}") from None
    typer.echo(f"{out}: {len(found)} proofs, {len(body)} bytes", err=True)


def _place(text: str) -> Place:
    found = _PLACE.fullmatch(text)
    if found is None:
        raise typer.BadParameter(f"{text[:80]!r} is no place; for example requests/3/1234")
    return found[1], int(found[2]), int(found[3])


async def _prove(
    config: Config,
    place: Place | None,
    wanted: dict[str, str | None],
    archive: Path | None,
    trust: tuple[Sequence[str] | None, Sequence[Path] | None],
    tell: Tell,
) -> list[Proof]:
    from orchestrator.adapters.kafka_sealing import ArchivedLog, KafkaSealableLog
    from orchestrator.commands.seal import anchors_of, places_given, trusted_keys
    from orchestrator.sealing.proving import believed, places_of
    from orchestrator.sealing.proving import prove as proof_of

    anchors = anchors_of(config, places_given(config, trust[0] or ()))
    keys = await trusted_keys(config, trust[1] or ())
    source: Any = KafkaSealableLog(config.kafka) if archive is None else ArchivedLog(archive)
    async with AsyncExitStack() as stack:
        for part in (source, *anchors):
            stack.push_async_callback(part.close)
        made = await believed(config.settings.kafka_prefix, anchors, keys)
        if place is not None:
            return [await proof_of(source, made, place)]
        places = await places_of(source, made, **wanted, tell=tell)
        if not places:
            raise CannotProve("no sealed record is of it; what came after the last seal has none")
        return [await proof_of(source, made, one) for one in places]


def check_proof(
    file: Annotated[Path, typer.Argument(help="Proofs, one a line; - reads standard input.")],
    keys: Keys = None,
    seals: Seals = None,
    as_json: Json = False,
) -> None:
    """Check proofs of `seal prove`, offline: nothing of the log is asked.

    Exit code 0 when all of all holds, 1 when anything does not (named by its field), 2 when it
    could not be told: an unreadable file or anchor, or no public key to trust.
    """
    config = load([])
    set_up("ERROR")
    try:
        proofs = _read(file)
        trusted, anchored = asyncio.run(_known(config, keys or (), seals or ()))
    except ConfigurationError:
        raise
    except OrchestratorError as error:
        typer.echo(f"could not tell: {error}", err=True)
        raise typer.Exit(UNKNOWN) from None
    checked = [(proof, check(proof, trusted, anchored)) for proof in proofs]
    valid = all(one.holds for _, checks in checked for one in checks)
    _show(checked, valid, anchored is not None, as_json)
    raise typer.Exit(0 if valid else VOID)


def _read(file: Path) -> list[Proof]:
    """Raises OrchestratorError."""
    try:
        if str(file) == "-":
            raw = typer.get_binary_stream("stdin").read(LARGEST_PROOF_BYTES + 1)
        else:
            with file.open("rb") as opened:
                raw = opened.read(LARGEST_PROOF_BYTES + 1)
    except OSError as error:
        raise OrchestratorError(f"cannot read {file}: {error.strerror}") from None
    if len(raw) > LARGEST_PROOF_BYTES:
        raise OrchestratorError(f"{file} is above {LARGEST_PROOF_BYTES} bytes")
    lines = [line for line in raw.split(b"\n") if line.strip()]
    if not lines:
        raise OrchestratorError(f"{file} holds no proof")
    try:
        return [read_proof(line) for line in lines]
    except UnreadableProof as error:
        raise OrchestratorError(f"{file}: {error}") from None


async def _known(
    config: Config, keys: Sequence[Path], seals: Sequence[str]
) -> tuple[dict[str, bytes], dict[str, Seal] | None]:
    """The keys to trust, and the seals of the anchors by day. The first anchor decides."""
    from orchestrator.commands.seal import anchors_of, places_given, trusted_keys
    from orchestrator.sealing.verifying import CannotTell

    trusted = await trusted_keys(config, keys)
    if not trusted:
        raise CannotTell("no public key to trust: give --key seals.pem")
    if not seals:
        return trusted, None
    anchors: list[SealAnchor] = anchors_of(config, places_given(config, seals))
    anchored: dict[str, Seal] = {}
    async with AsyncExitStack() as stack:
        for anchor in anchors:
            stack.push_async_callback(anchor.close)
        for anchor in anchors:
            for where, document in await anchor.everything():
                try:
                    seal = read_seal(document)
                except UnreadableSeal as error:
                    raise CannotTell(f"{anchor.name}, {where}: {error}") from None
                anchored.setdefault(seal.day, seal)
    return trusted, anchored


def _show(
    checked: Sequence[tuple[Proof, list[Checked]]], valid: bool, anchored: bool, as_json: bool
) -> None:
    verdict = "VALID" if valid else "VOID"
    if as_json:
        show_json(
            {
                "verdict": verdict,
                "anchored": anchored,
                "proofs": [
                    {
                        "place": proof.place,
                        "day": proof.statement.day,
                        "sealedAt": proof.statement.sealed_at,
                        "log": proof.statement.log,
                        "checks": [
                            {"part": one.part, "holds": one.holds, "detail": one.detail}
                            for one in checks
                        ],
                    }
                    for proof, checks in checked
                ],
            }
        )
        return
    for proof, checks in checked:
        statement = proof.statement
        about = f"{proof.place} of {statement.log}, sealed with {statement.day}"
        failed = [f"{one.part}: {one.detail}" for one in checks if not one.holds]
        typer.echo(f"{about} at {statement.sealed_at}: {'; '.join(failed) or 'all holds'}")
    typer.echo(verdict)
    if valid and not anchored:
        typer.echo("Whether an anchor holds this very seal was not asked (--seals).")
