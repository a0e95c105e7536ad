"""`orchestrator audit`: the log against itself and against the chains."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from orchestrator.auditing import report
from orchestrator.auditing.reading import FAILURES, ChainToAudit, Run, Tell, read_chains, read_log
from orchestrator.commands.progressing import progress
from orchestrator.config import Config, Need, load
from orchestrator.core.auditing.checking import Audit
from orchestrator.core.auditing.profile import Ways
from orchestrator.core.policy import address_or_none
from orchestrator.errors import ConfigurationError
from orchestrator.logs import set_up

INCOMPLETE = report.INCOMPLETE


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
    as_json: Annotated[
        bool, typer.Option("--json", help="One JSON document; progress as JSON lines.")
    ] = False,
) -> None:
    """Replay the log from zero and prove it, per chain, at a final block.

    Each Minted has its one Kuro fact, each fiatRef backs one mint, supply = minted - redeemed =
    facts, each nonce has one owner, each signature its draft, each event is on the log. Exit code
    0 clean, 1 discrepancies, 2 could not complete.
    """
    needs = [Need.KAFKA, Need.CONTRACTS] if offline else [Need.KAFKA, Need.CONTRACTS, Need.NODES]
    config = load(needs)
    set_up("ERROR")
    blocks, signers = _blocks(at_block or []), _signers(signer or [])
    unknown = sorted((set(chain or []) | set(blocks)) - set(config.chains))
    if unknown:
        raise typer.BadParameter(f"chain {unknown[0]} is not among CHAIN_IDS")
    begun = time.monotonic()
    with progress(as_json) as tell:
        try:
            found, run = asyncio.run(
                _audit(config, set(chain or config.chains), blocks, signers, offline, tell)
            )
        except ConfigurationError:
            raise
        except FAILURES as error:
            typer.echo(f"The audit could not complete: {error}", err=True)
            raise typer.Exit(INCOMPLETE) from None
    seconds = max(time.monotonic() - begun, 1e-9)
    body = report.as_json(found, run, datetime.now(UTC), seconds, offline)
    text = report.as_text(body)
    if out is not None:
        _write(out, body, text)
    typer.echo(orjson.dumps(body, option=orjson.OPT_INDENT_2).decode() if as_json else text)
    raise typer.Exit(report.verdict(found, run))


def _write(folder: Path, body: dict[str, Any], text: str) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "audit.txt").write_text(text + "\n", encoding="utf-8")
        (folder / "audit.html").write_text(report.as_html(body), encoding="utf-8")
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
) -> tuple[Audit, Run]:
    from orchestrator.adapters.evm_history import HistoryNode
    from orchestrator.adapters.kafka_log import KafkaLog

    if not signers and not offline:
        signers = await _key(config)
    ways = {number: Ways(chain.profile) for number, chain in config.chains.items()}
    only = frozenset(wanted) if wanted != set(config.chains) else None
    found = Audit(ways, at_blocks=blocks, signers=signers, only=only)
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
