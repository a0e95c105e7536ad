"""`orchestrator status|explain|lanes`: what the API tells, as tables and sentences."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from orchestrator.commands.asking import At, ChainOf, Json, asked, moment_of
from orchestrator.commands.showing import console, plain, show_field, show_json

if TYPE_CHECKING:
    from orchestrator.client import Client, models
    from orchestrator.client.api import Filters

COLOURS = {"PENDING": "yellow", "PROCESSING": "cyan", "COMPLETED": "green", "FAILED": "bold red"}

Chain = Annotated[int | None, typer.Option("--chain", help="Only this chain.")]


def status(
    key: Annotated[
        str | None, typer.Argument(help="One request: its key or id. Without it, a list.")
    ] = None,
    type_: Annotated[str | None, typer.Option("--type", help="MINT or REDEEM.")] = None,
    status_: Annotated[
        str | None, typer.Option("--status", help="PENDING, PROCESSING, COMPLETED or FAILED.")
    ] = None,
    stage: Annotated[str | None, typer.Option(help="A stage, e.g. SUBMITTED.")] = None,
    chain: Chain = None,
    user: Annotated[str | None, typer.Option(help="Only of this address.")] = None,
    fiat_ref: Annotated[str | None, typer.Option(help="Only with this fiatRef.")] = None,
    tx_hash: Annotated[str | None, typer.Option(help="Only with this transaction.")] = None,
    search: Annotated[
        str | None, typer.Option(help="An id, address, hash or fiatRef, or how one begins.")
    ] = None,
    since: Annotated[
        str | None, typer.Option(help="Created later than this: an age (10m, 2h) or a time.")
    ] = None,
    at: At = None,
    limit: Annotated[int, typer.Option(min=1, max=100_000, help="At most so many.")] = 20,
    as_json: Json = False,
) -> None:
    """Show one request and its timeline, or list requests, newest first.

    For example: orchestrator status --status FAILED --since 2h
    """
    from orchestrator.client.api import Filters

    if key is not None:
        if any((type_, status_, stage, user, fiat_ref, tx_hash, search, since)):
            raise typer.BadParameter("one request takes --chain and --at only")
        one = key
        _show_one(asked(lambda api: api.status(one, chain_id=chain, at=moment_of(at))), as_json)
        return
    filters = Filters(
        type=type_.upper() if type_ else None,  # type: ignore[arg-type]  # the API judges it
        status=status_.upper() if status_ else None,  # type: ignore[arg-type]
        stage=stage.upper() if stage else None,
        chain_id=chain,
        user=user,
        fiat_ref=fiat_ref,
        tx_hash=tx_hash,
        search=search,
        created_from=moment_of(since),
        at=moment_of(at),
    )
    items = asked(lambda api: _some(api, filters, limit + 1))
    _show_list(items[:limit], len(items) > limit, as_json)


async def _some(api: Client, filters: Filters, count: int) -> list[models.Status]:
    found: list[models.Status] = []
    async for item in api.requests(filters, limit=min(count, 200)):
        found.append(item)
        if len(found) == count:
            break
    return found


def _show_list(items: list[models.Status], more: bool, as_json: bool) -> None:
    if as_json:
        shown = [item.model_dump(mode="json", by_alias=True) for item in items]
        show_json({"items": shown, "more": more})
        return
    if not items:
        console.print("no request fits")
        return
    table = Table("created", "request", "type", "chain", "stage", "reason", show_edge=False)
    table.columns[1].overflow = "fold"
    for item in items:
        table.add_row(
            f"{item.created_at:%Y-%m-%d %H:%M:%S}",
            Text(plain(item.request_key)),
            item.type,
            str(item.chain_id or ""),
            Text(item.stage, style=COLOURS[item.status]),
            Text(plain(item.reason)),
        )
    console.print(table, soft_wrap=False)
    if more:
        console.print(f"the newest {len(items)}; there are more (--limit)")


def _show_one(item: models.StatusWithTimeline, as_json: bool) -> None:
    if as_json:
        show_json(item.model_dump(mode="json", by_alias=True))
        return
    console.print(
        Text(plain(item.request_key), style="bold").append(
            f"  {item.type} {item.status} ({item.stage})", style=COLOURS[item.status]
        )
    )
    for name, value in (
        ("amount", item.amount),
        ("user", item.user_address),
        ("chain", item.chain_id),
        ("fiatRef", item.fiat_ref),
        ("transaction", item.tx_hash),
        ("attempt", item.attempt),
        ("reason", item.reason),
        ("error", item.error_message),
    ):
        if value not in (None, ""):
            show_field(name, plain(value), 12)
    for fact in item.timeline:
        line = Text(f"  {fact.at:%Y-%m-%d %H:%M:%S.%f}"[:25], style="dim")
        line.append(f" {fact.kind}", style="bold")
        line.append(f" {fact.topic}/{fact.partition}/{fact.offset}")
        if fact.block_number is not None:
            line.append(f" block {fact.block_number}")
        if fact.tx_hash is not None:
            line.append(f" {fact.tx_hash}")
        if fact.verdict not in (None, "APPLIED"):
            line.append(f" {fact.verdict}", style="yellow")
        console.print(line)


def explain(
    key: Annotated[str, typer.Argument(help="The request's key or id.")],
    chain: ChainOf = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Say why a request is where it is: whose turn it is, since when, and what you can do."""
    found = asked(lambda api: api.explain(key, chain_id=chain, at=moment_of(at)))
    if as_json:
        show_json(found.model_dump(mode="json", by_alias=True))
        return
    head = Text(plain(found.request_key), style="bold")
    console.print(head.append(f"  {found.status} ({found.stage})", style=COLOURS[found.status]))
    console.print(plain(found.summary), markup=False, soft_wrap=not console.is_terminal)
    for name, value in (
        ("code", found.code),
        ("turn", found.turn),
        ("waits for", found.waiting_for),
        ("since", f"{found.since:%Y-%m-%d %H:%M:%S} UTC"),
        ("usual", found.usual.text),
        ("next attempt", found.next_attempt_at and f"{found.next_attempt_at:%H:%M:%S} UTC"),
        (
            "approval until",
            found.approval_deadline and f"{found.approval_deadline:%Y-%m-%d %H:%M:%S} UTC",
        ),
    ):
        if value:
            show_field(name, plain(value), 15)
    for action in found.operator_can:
        show_field("you can", plain(action.text), 15)
        console.print(Text(" " * 17).append(plain(action.command), "bold"))
    for fact in found.evidence:
        where = f"{fact.topic}/{fact.partition}/{fact.offset} {fact.kind}"
        show_field("evidence", where, 15)


def lanes(
    chain: Annotated[int | None, typer.Argument(help="Only this chain.")] = None,
    wallet: Annotated[
        str | None, typer.Argument(help="One wallet of it: every open nonce and who owns it.")
    ] = None,
    at: At = None,
    as_json: Json = False,
) -> None:
    """Show the wallets' lanes, or one lane nonce by nonce, and what blocks it.

    For example: orchestrator lanes 5920 0x8617E340B3D01FA5F11F306F4090FD50E238070D
    """
    if chain is not None and wallet is not None:
        number, address = chain, wallet
        _show_lane(asked(lambda api: api.lane(number, address, at=moment_of(at))), as_json)
        return
    if at is not None:
        raise typer.BadParameter("--at wants one lane: give CHAIN and WALLET")
    found = [
        lane
        for lane in asked(lambda api: api.lanes()).items
        if chain is None or lane.chain_id == chain
    ]
    if as_json:
        show_json({"items": [lane.model_dump(mode="json", by_alias=True) for lane in found]})
    elif found:
        _show_lanes(found)
    else:
        console.print("no lane is known" if chain is None else f"no lane is known on {chain}")


def _show_lanes(found: list[models.LaneSummary]) -> None:
    """With whole addresses on 80 columns; why one stands is a line below."""
    names = ("chain", "wallet", "next", "out", "wait", "stuck", "")
    table = Table(*names, box=None, padding=(0, 1, 0, 0), pad_edge=False)
    for column in table.columns:
        column.no_wrap = True
    table.columns[1].min_width = len("0x") + 40
    for lane in found:
        word = "HALTED" if lane.halted else "SET ASIDE" if lane.set_aside else ""
        table.add_row(
            str(lane.chain_id),
            lane.wallet,
            "" if lane.next_nonce is None else str(lane.next_nonce),
            str(lane.in_flight),
            str(lane.waiting),
            Text(str(lane.stuck), style="bold red" if lane.stuck else "default"),
            Text(word, style="bold red"),
        )
    console.print(table, soft_wrap=False)
    for lane in found:
        for word, stop in (("halted", lane.halted), ("set aside", lane.set_aside)):
            if stop is not None:
                said = f"{lane.chain_id}:{lane.wallet} {word}: {plain(stop.reason)}"
                console.print(Text(said, style="bold red"))


def _show_lane(lane: models.Lane, as_json: bool) -> None:
    if as_json:
        show_json(lane.model_dump(mode="json", by_alias=True))
        return
    _show_lanes([lane])
    if lane.blocked_by is not None:
        blocked = lane.blocked_by
        where = "" if blocked.nonce is None else f" at nonce {blocked.nonce}"
        words = f"blocked{where} ({blocked.code}): {plain(blocked.reason)}"
        console.print(Text(words, style="bold red"))
    if lane.slots:
        table = Table("nonce", "state", "blocks", "request", "transaction", show_edge=False)
        table.columns[3].overflow = table.columns[4].overflow = "fold"
        for slot in lane.slots:
            table.add_row(
                str(slot.nonce),
                slot.state,
                "" if slot.blocks is None else str(slot.blocks),
                Text(plain(slot.request_key) if slot.request_key else "(no-op)"),
                slot.tx_hash + (f" (version {len(slot.versions)})" if slot.versions[1:] else ""),
            )
        console.print(table, soft_wrap=False)
    shown = list(islice(lane.waiting_requests, 50))
    for key in shown:
        console.print(Text("waits for a nonce: ", style="dim").append(plain(key), "default"))
    if len(lane.waiting_requests) > len(shown):
        console.print(f"and {len(lane.waiting_requests) - len(shown)} more wait")
