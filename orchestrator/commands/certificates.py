"""`orchestrator certify` and `orchestrator verify-certificate`."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import orjson
import typer

from orchestrator.commands.showing import console, show_json
from orchestrator.config import Config, Need, load
from orchestrator.core.certificates import CannotCertify, evidence_of
from orchestrator.core.certificates_checks import Check, verify
from orchestrator.core.policy import address_or_none
from orchestrator.errors import OrchestratorError
from orchestrator.logs import set_up
from schemas.base import Position, Record, UnreadableRecord
from schemas.certificates import (
    LARGEST_CERTIFICATE_BYTES,
    MintCertificate,
    UnreadableCertificate,
    read_certificate,
)
from schemas.kuro import MintOk
from schemas.topics import KURO_EVENTS, REQUESTS, Topic

if TYPE_CHECKING:
    from orchestrator.adapters.kafka_log import KafkaLog
    from orchestrator.certifying import Certifier

VOID, UNKNOWN = 1, 2
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")


def register(app: typer.Typer) -> None:
    app.command()(certify)
    app.command("verify-certificate")(verify_certificate)


def certifier_of(config: Config) -> Certifier | None:
    """None when no chain has a node in this process's settings."""
    from orchestrator.adapters.evm_blocks import BlockNode
    from orchestrator.certifying import Certifier

    known = {number: chain for number, chain in config.chains.items() if chain.rpc_urls}
    if not known:
        return None
    nodes = {number: BlockNode(number, chain.rpc_urls) for number, chain in known.items()}
    return Certifier(nodes, {number: chain.profile for number, chain in known.items()})


def certify(
    key: Annotated[str, typer.Argument(help="The mint's request key, which is Kuro's requestId.")],
    out: Annotated[Path | None, typer.Option("--out", help="A file instead of output.")] = None,
) -> None:
    """Write a completed mint's certificate: Kuro's fact, approval, signature, transaction, receipt
    with its Merkle proof, block header. It can be checked without us; see docs/certificates.md.

    Exit code 0 written, 1 there is none (and why), 2 could not tell.
    """
    config = load([Need.KAFKA, Need.NODES])
    set_up("ERROR")
    try:
        found = asyncio.run(_certified(config, key))
    except CannotCertify as error:
        typer.echo(f"{key}: no certificate: {error}", err=True)
        raise typer.Exit(VOID) from None
    body = orjson.dumps(found.model_dump(mode="json"), option=orjson.OPT_INDENT_2) + b"\n"
    if out is None:
        typer.echo(body.decode(), nl=False)
        return
    try:
        out.write_bytes(body)
    except OSError as error:
        raise OrchestratorError(f"cannot write {out}: {error.strerror}") from None
    typer.echo(f"{out}: {len(body)} bytes, block {found.block.number} {found.block.hash}", err=True)


async def _certified(config: Config, key: str) -> MintCertificate:
    from orchestrator.adapters.kafka_log import KafkaLog

    log = KafkaLog(config.kafka, "orchestrator-certify")
    allowed = [r for r in await _of_key(log, KURO_EVENTS, key) if isinstance(r.fact, MintOk)]
    evidence = evidence_of(next(iter(allowed), None), await _of_key(log, REQUESTS, key))
    certifier = certifier_of(config)
    assert certifier is not None
    try:
        return await certifier.certify(evidence)
    finally:
        await certifier.close()


async def _of_key(log: KafkaLog, topic: Topic, key: str) -> list[Record]:
    """Every readable record of a key, in the order of the log. Raises LogUnavailable."""
    from orchestrator.adapters.kafka_log import partition_of

    found: list[Record] = []
    number = partition_of(topic, key)
    async for _, messages in log.replay(topic, {number: 0}):
        for message in messages:
            if message.key != key.encode():
                continue
            try:
                found.append(
                    topic.decode(message.value, Position(topic.name, number, message.offset))
                )
            except UnreadableRecord:
                continue
    return found


def verify_certificate(
    file: Annotated[Path, typer.Argument(help="The certificate; - reads standard input.")],
    block_hash: Annotated[
        str | None, typer.Option(help="The block's hash as you know it from elsewhere, 0x hex.")
    ] = None,
    rpc: Annotated[
        str | None, typer.Option(help="URL of a node that you trust: it is asked for the hash.")
    ] = None,
    contract: Annotated[
        str | None, typer.Option(help="The stablecoin contract that you know.")
    ] = None,
    signer: Annotated[str | None, typer.Option(help="The issuer's address that you know.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON document.")] = False,
) -> None:
    """Check a mint certificate. Without --rpc no network is used, and no configuration is read.

    Exit code 0 when all holds and the block is one that you trust, 1 when anything does not hold,
    2 when it could not be told: an unreadable file, or no block to trust was given.
    """
    certificate = _read(file)
    if block_hash is not None and not _HASH.fullmatch(block_hash):
        raise typer.BadParameter(f"{block_hash[:80]!r} is no block hash (0x and 64 hex digits)")
    for given in (contract, signer):
        if given is not None and address_or_none(given) is None:
            raise typer.BadParameter(f"{given[:80]!r} is no address")
    if rpc is not None:
        asked = asyncio.run(_asked(rpc, certificate))
        if block_hash is not None and block_hash.lower() != asked:
            raise OrchestratorError(f"the node says {asked}, you say {block_hash}: whom to trust?")
        block_hash = asked
    checks = verify(certificate, trusted_hash=block_hash, contract=contract, signer=signer)
    holds = all(check.holds for check in checks)
    verdict = "VOID" if not holds else "VALID" if block_hash else "NOT ANCHORED"
    _show(certificate, checks, verdict, as_json)
    if verdict != "VALID":
        raise typer.Exit(UNKNOWN if holds else VOID)


def _read(file: Path) -> MintCertificate:
    """Raises OrchestratorError (exit code 2)."""
    try:
        if str(file) == "-":
            raw = typer.get_binary_stream("stdin").read(LARGEST_CERTIFICATE_BYTES + 1)
        else:
            with file.open("rb") as opened:
                raw = opened.read(LARGEST_CERTIFICATE_BYTES + 1)
    except OSError as error:
        raise OrchestratorError(f"cannot read {file}: {error.strerror}") from None
    if len(raw) > LARGEST_CERTIFICATE_BYTES:
        raise OrchestratorError(
            f"{file} is no certificate: above {LARGEST_CERTIFICATE_BYTES} bytes"
        )
    try:
        return read_certificate(orjson.loads(raw))
    except orjson.JSONDecodeError as error:
        raise OrchestratorError(f"{file} is no certificate: not JSON: {error}") from None
    except UnreadableCertificate as error:
        raise OrchestratorError(f"{file} is no certificate: {error}") from None


async def _asked(rpc: str, certificate: MintCertificate) -> str:
    """The hash that a node has at the block's height. Raises StartRefused for another chain."""
    from orchestrator.adapters.evm_blocks import BlockNode

    if not rpc.startswith(("http://", "https://")):
        raise typer.BadParameter("--rpc does not begin with http:// or https://")
    set_up("ERROR")
    node = BlockNode(certificate.block.chain_id, [rpc])
    try:
        await node.check_chain()
        found = await node.block_hash(certificate.block.number)
    finally:
        await node.close()
    if found is None:
        raise OrchestratorError(f"the node has no block {certificate.block.number}")
    return found


def _show(certificate: MintCertificate, checks: list[Check], verdict: str, as_json: bool) -> None:
    if as_json:
        show_json(
            {
                "verdict": verdict,
                "requestKey": certificate.request_key,
                "chainId": certificate.block.chain_id,
                "blockNumber": certificate.block.number,
                "blockHash": certificate.block.hash,
                "checks": [
                    {"name": check.name, "holds": check.holds, "detail": check.detail}
                    for check in checks
                ],
            }
        )
        return
    for check in checks:
        mark, style = ("ok  ", "green") if check.holds else ("FAIL", "red")
        console.print(f"{mark} {check.name:18}", style=style, end="")
        console.print(f" {check.detail}", markup=False)
    console.print(f"{verdict}: {certificate.request_key}", style="bold", markup=False)
    if verdict == "NOT ANCHORED":
        console.print(
            f"Everything follows from block {certificate.block.hash} of chain "
            f"{certificate.block.chain_id}; give --block-hash or --rpc to say whether that is real."
        )
