"""`orchestrator audit`: the log against itself and against the chains."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from orchestrator.auditing import kms as kms_report
from orchestrator.auditing import report
from orchestrator.auditing.reading import FAILURES, ChainToAudit, Run, Tell, read_chains, read_log
from orchestrator.commands.progressing import progress
from orchestrator.config import Config, Need, load
from orchestrator.core.auditing.cloudtrail import KmsFindings, compare, of_key, sign_events
from orchestrator.core.auditing.profile import Ways
from orchestrator.core.policy import address_or_none
from orchestrator.errors import ConfigurationError, GuardUnavailable
from orchestrator.logs import set_up

INCOMPLETE = report.INCOMPLETE

KmsFiles = Annotated[
    list[Path] | None,
    typer.Option(
        "--kms",
        help="CloudTrail's records, JSON, also gzipped; may be given repeatedly. Their Sign events "
        "are compared with the facts and the guard's record.",
    ),
]
KmsPrincipals = Annotated[
    list[str] | None,
    typer.Option("--kms-principal", help="ARN of a user or role that may sign; repeatedly."),
]
KmsTolerance = Annotated[
    int, typer.Option("--kms-tolerance", min=0, help="Seconds between an event and its fact.")
]


def audit(
    chain: Annotated[
        list[int] | None, typer.Option("--chain", help="Only this chain; may be given repeatedly.")
    ] = None,
    at_block: Annotated[
        list[str] | None,
        typer.Option(
            "--at-block",
            help="Judge a chain at this block, <chain>=<block>; by default at the newest block "
            "that the log has followed.",
        ),
    ] = None,
    offline: Annotated[
        bool, typer.Option("--offline", help="The log alone: no chain is asked.")
    ] = False,
    signer: Annotated[
        list[str] | None,
        typer.Option(
            "--signer",
            help="An address whose signatures are ours; repeatedly after a change of keys. By "
            "default the key of KMS_KEY_ID, where that is set.",
        ),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", help="A folder for audit.txt, audit.json and audit.html."),
    ] = None,
    kms: KmsFiles = None,
    kms_principal: KmsPrincipals = None,
    kms_tolerance: KmsTolerance = 60,
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document; progress as JSON lines.")
    ] = False,
) -> None:
    """Replay the log from zero and prove it, per chain, at a final block.

    Each Minted has its one Kuro fact, each fiatRef backs one mint, supply = minted - redeemed =
    facts, each nonce has one owner, each signature its draft, each event is on the log.
    Exit code 0 clean, 1 discrepancies, 2 could not complete."""
    needs = [Need.KAFKA, Need.CONTRACTS] if offline else [Need.KAFKA, Need.CONTRACTS, Need.NODES]
    config = load(needs)
    set_up("ERROR")
    blocks, signers = _blocks(at_block or []), _signers(signer or [])
    unknown = sorted((set(chain or []) | set(blocks)) - set(config.chains))
    if unknown:
        raise typer.BadParameter(f"chain {unknown[0]} is not among CHAIN_IDS")
    trail = _Trail(config, kms or [], frozenset(kms_principal or []), kms_tolerance)
    begun = time.monotonic()
    with progress(as_json) as tell:
        try:
            found, run = asyncio.run(
                _audit(config, set(chain or config.chains), blocks, signers, offline, tell)
            )
            asyncio.run(trail.compare(found))
        except ConfigurationError:
            raise
        except FAILURES as error:
            typer.echo(f"The audit could not complete: {error}", err=True)
            raise typer.Exit(INCOMPLETE) from None
    seconds = max(time.monotonic() - begun, 1e-9)
    body = report.as_json(found, run, datetime.now(UTC), seconds, offline)
    _tell(body, trail.add_to(body), out, as_json)


def _tell(body: dict[str, Any], text: str, out: Path | None, as_json: bool) -> None:
    if out is not None:
        _write(out, body, text)
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() if as_json else text)
    raise typer.Exit(body["exitCode"])


class _Trail:
    """What CloudTrail says, where its files are given. Raises Exit for files that cannot be read,
    before anything else is."""

    def __init__(
        self, config: Config, paths: list[Path], principals: frozenset[str], tolerance: int
    ) -> None:
        self._config = config
        self._principals = principals
        self._tolerance = tolerance
        self._given = bool(paths)
        self._problem: str | None = None
        self._guard: str | None = None
        self._found = KmsFindings()
        try:
            every, self._refused = sign_events(kms_report.read_records(paths))
        except ValueError as error:
            typer.echo(f"The audit could not complete: {error}", err=True)
            raise typer.Exit(INCOMPLETE) from None
        self._events = of_key(every, config.settings.kms_key_id)
        self._others = len(every) - len(self._events)

    async def compare(self, found: kms_report.ListeningAudit) -> None:
        if not self._given:
            return
        if not self._events:
            self._problem = "KMS: no Sign event of the key is among the records"
        self._found = compare(
            self._events,
            found.signed,
            tolerance_seconds=self._tolerance,
            principals=self._principals,
            claimed=await self._claimed(),
        )
        self._found.refused_by_kms, self._found.other_keys = self._refused, self._others

    async def _claimed(self) -> set[str] | None:
        """The digests of the guard's record; None, with the reason, where there is none."""
        from orchestrator.adapters.postgres_guard import PostgresGuard

        url, _ = self._config.signing_guard
        if url is None:
            self._guard = "SIGNING_GUARD_URL is not set"
            return None
        guard = PostgresGuard(url, self._config.settings.signing_guard_margin_seconds)
        try:
            return {entry.digest for entry in await guard.entries()}
        except GuardUnavailable as error:
            self._guard = str(error)
            return None
        finally:
            await guard.close()

    def add_to(self, body: dict[str, Any]) -> str:
        """The whole report as text; `body` with what was found, and the verdict of both."""
        if not self._given:
            return report.as_text(body)
        body["kms"] = told = kms_report.as_json(self._found, self._tolerance, self._guard)
        body["problems"] += [self._problem] if self._problem else []
        if told["discrepancies"]:
            body["verdict"], body["exitCode"] = "DISCREPANCIES", report.DISCREPANCIES
        elif body["problems"] and body["exitCode"] == report.CLEAN:
            body["verdict"], body["exitCode"] = "INCOMPLETE", INCOMPLETE
        return report.as_text(body) + "\n" + kms_report.as_text(told)


def _write(folder: Path, body: dict[str, Any], text: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "audit.txt").write_text(text + "\n", encoding="utf-8")
        page = report.as_html(body) + (kms_report.as_html(body["kms"]) if "kms" in body else "")
        (folder / "audit.html").write_text(page, encoding="utf-8")
        (folder / "audit.json").write_bytes(orjson.dumps(body, option=orjson.OPT_INDENT_2))
    except OSError as error:
        typer.echo(f"the report cannot be written to {folder}: {error.strerror}", err=True)
        raise typer.Exit(INCOMPLETE) from None


def _blocks(texts: list[str]) -> dict[int, int]:
    blocks: dict[int, int] = {}
    for text in texts:
        chain, _, block = text.partition("=")
        if not (chain.isascii() and chain.isdigit() and block.isascii() and block.isdigit()):
            raise typer.BadParameter(f"{text!r}: give <chain>=<block>, for example 5920=1234")
        blocks[int(chain)] = int(block)
    return blocks


def _signers(texts: list[str]) -> frozenset[str]:
    addresses = [address_or_none(text) for text in texts]
    if None in addresses:
        raise typer.BadParameter(f"{texts[addresses.index(None)]!r} is no address")
    return frozenset(address for address in addresses if address is not None)


async def _audit(
    config: Config,
    wanted: set[int],
    blocks: dict[int, int],
    signers: frozenset[str],
    offline: bool,
    tell: Tell,
) -> tuple[kms_report.ListeningAudit, Run]:
    from orchestrator.adapters.evm_history import HistoryNode
    from orchestrator.adapters.kafka_log import KafkaLog

    if not signers and not offline:
        signers = await _key(config)
    ways = {number: Ways(chain.profile) for number, chain in config.chains.items()}
    only = frozenset(wanted) if wanted != set(config.chains) else None
    found = kms_report.ListeningAudit(ways, at_blocks=blocks, signers=signers, only=only)
    run = Run()
    await read_log(found, KafkaLog(config.kafka, "audit"), run, tell)
    chains = {
        number: ChainToAudit(
            number,
            item.contract,
            item.wallets,
            item.start_block,
            None if offline else HistoryNode(number, item.rpc_urls),
        )
        for number, item in config.chains.items()
        if number in wanted
    }
    try:
        await read_chains(found, chains, run, tell)
    finally:
        for item in chains.values():
            if item.node is not None:
                await item.node.close()
    return found, run


async def _key(config: Config) -> frozenset[str]:
    """The key's address where the settings name a key; without, signers are shown, not judged."""
    from orchestrator.adapters.kms import KmsSigner

    settings = config.settings
    if settings.kms_key_id is None or settings.aws_region is None:
        return frozenset()
    signer = KmsSigner(
        settings.kms_key_id, settings.aws_region, endpoint_url=settings.aws_endpoint_url_kms
    )
    try:
        return frozenset({await signer.address()})
    finally:
        await signer.close()
