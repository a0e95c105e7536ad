"""`orchestrator doctor` and `orchestrator keys show`."""

from __future__ import annotations

import asyncio
from dataclasses import asdict
from typing import Annotated, Any

import typer
from rich.table import Table
from rich.text import Text

from orchestrator.commands.showing import console, ether, show_json
from orchestrator.config import Config, Need, load
from orchestrator.errors import OrchestratorError
from orchestrator.logs import set_up

keys_app = typer.Typer(no_args_is_help=True, help="The keys at work: addresses, never secrets.")

_STYLES = {"well": "green", "warning": "yellow", "broken": "bold red"}
_MARKS = {"well": "✓", "warning": "!", "broken": "✗"}

Json = Annotated[bool, typer.Option("--json", help="As JSON.")]


def doctor(
    as_json: Json = False,
    roles: Annotated[
        str,
        typer.Option(
            help="Comma-separated: whether this principal may do on Kafka what these roles do. "
            "Without it, the role that bears the principal's name."
        ),
    ] = "",
) -> None:
    """Check every setting and every dependency; say what is wrong and how to mend it.

    Changes nothing and signs nothing. Exit code 1 when something is broken, 0 otherwise.
    """
    from orchestrator.commands.checks import examine
    from orchestrator.commands.findings import State
    from orchestrator.kafka_rights import RIGHTS

    names = [name.strip() for name in roles.split(",") if name.strip()]
    if unknown := [name for name in names if name not in RIGHTS]:
        raise typer.BadParameter(f"{', '.join(unknown)}: there are {', '.join(RIGHTS)}")
    set_up("CRITICAL")
    checks = asyncio.run(examine(names))
    if as_json:
        show_json([asdict(check) for check in checks])
    else:
        for check in checks:
            line = Text(f"{_MARKS[check.state]} {check.subject}", style=_STYLES[check.state])
            console.print(line.append(f"  {check.detail}", style="default"))
            if check.remedy:
                console.print(f"    {check.remedy}", style="yellow")
        counts = {state: sum(check.state is state for check in checks) for state in State}
        console.print(", ".join(f"{count} {state}" for state, count in counts.items() if count))
    if any(check.state is State.BROKEN for check in checks):
        raise typer.Exit(1)


@keys_app.command("show")
def show_keys(as_json: Json = False) -> None:
    """The issuer's address in KMS, and each chain's wallets with balance and nonce."""
    config = load([Need.KMS, Need.NODES, Need.WALLETS])
    set_up("CRITICAL")
    found = asyncio.run(_keys(config))
    if as_json:
        show_json(found)
        return
    console.print(f"Approvals are signed by {found['approver']} (KMS key {found['kmsKeyId']})")
    table = Table("chain", "wallet", "balance", "nonce", show_edge=False)
    for wallet in found["wallets"]:
        balance = wallet["problem"] or ether(int(wallet["balanceWei"]))
        table.add_row(
            str(wallet["chainId"]), wallet["address"], balance, str(wallet["nonce"] or "")
        )
    console.print(table, soft_wrap=False)


async def _keys(config: Config) -> dict[str, Any]:
    from orchestrator.adapters.evm_rpc import EvmNode
    from orchestrator.adapters.kms import KmsSigner

    settings = config.settings
    assert settings.kms_key_id is not None and settings.aws_region is not None
    signer = KmsSigner(
        settings.kms_key_id, settings.aws_region, endpoint_url=settings.aws_endpoint_url_kms
    )
    try:
        approver = await signer.address()
    except OrchestratorError as error:
        approver = f"unknown: {error}"
    finally:
        await signer.close()
    wallets = []
    for chain in config.chains.values():
        node = EvmNode(chain.chain_id, chain.rpc_urls)
        for address in chain.wallets:
            shown: dict[str, Any] = {"chainId": chain.chain_id, "address": address}
            shown |= {"balanceWei": None, "nonce": None, "problem": None}
            try:
                shown["balanceWei"] = str(await node.balance(address))
                shown["nonce"] = await node.transaction_count(address)
            except OrchestratorError as error:
                shown["problem"] = str(error)
            wallets.append(shown)
        await node.close()
    return {"approver": approver, "kmsKeyId": settings.kms_key_id, "wallets": wallets}
