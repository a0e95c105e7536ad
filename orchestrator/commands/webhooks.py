"""`orchestrator webhooks list|show|redeliver|skip`: how deliveries stand, and operators' orders."""

from __future__ import annotations

import asyncio
import getpass
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from orchestrator.commands.showing import console, show_json
from orchestrator.config import Need, load
from orchestrator.errors import OrchestratorError

if TYPE_CHECKING:
    from projections.store import Store

Name = Annotated[str, typer.Argument(help="The endpoint's name in WEBHOOKS_FILE.")]
Json = Annotated[bool, typer.Option("--json", help="As JSON, for machines.")]
Who = Annotated[str, typer.Option(help="Who orders it; kept with the order.")]


class NothingToDo(OrchestratorError):
    """The order fits nothing that there is."""


def add_commands(app: typer.Typer) -> None:
    app.command("list")(list_endpoints)
    app.command()(show)
    app.command()(redeliver)
    app.command()(skip)


def _reading(read: Callable[[Store], Awaitable[Any]]) -> Any:
    from orchestrator.postgres_troubles import refuse_if_not_admitted
    from projections.store import Store

    config = load([Need.DATABASE])

    async def run() -> Any:
        await refuse_if_not_admitted(config.database_url)
        store = Store(config.database_url)
        await store.open()
        try:
            return await read(store)
        finally:
            await store.close()

    return asyncio.run(run())


def list_endpoints(as_json: Json = False) -> None:
    """Each endpoint: whether it is served, what fails, how many dead letters wait."""
    from projections.webhooks.reporting import endpoint_object, read_endpoints

    items = [endpoint_object(row, {}) for row in _reading(read_endpoints)]
    if as_json:
        return show_json(items)
    if not items:
        console.print("No endpoint has been served yet.")
    for item in items:
        turn = item["inTurn"]
        console.print(
            f"{item['name']}  {item['state']}  delivered {item['delivered']}  "
            f"dead letters {item['deadLetters']}  {item['url']}"
        )
        if turn is not None:
            console.print(
                f"  in turn: {turn['topic']}/{turn['partition']}/{turn['offset']}, "
                f"{turn['attempts']} attempts since {turn['since']}, next at "
                f"{turn['nextAttemptAt']}: {item['problem']}"
            )
    return None


def show(name: Name, as_json: Json = False) -> None:
    """The dead letters of an endpoint that nobody has redelivered."""
    from projections.webhooks.reporting import letter_object, read_letters

    items = [letter_object(row) for row in _reading(lambda store: read_letters(store, name))]
    if as_json:
        return show_json(items)
    if not items:
        console.print(f"No dead letters of {name}.")
    for item in items:
        ordered = f", ordered again by {item['orderedBy']}" if item["orderedAt"] else ""
        console.print(
            f"{item['number']}  {item['at']}  {item['kind']}  "
            f"{item['topic']}/{item['partition']}/{item['offset']}  {item['reason']}{ordered}"
        )
    return None


def redeliver(
    name: Name,
    numbers: Annotated[list[int] | None, typer.Argument(help="Numbers that `show` gives.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters of it.")] = False,
    who: Who = "",
) -> None:
    """Have dead letters delivered again, each once for each order; the deliverer does it."""
    from projections.webhooks.orders import order_redelivery

    if bool(numbers) == everything:
        raise typer.BadParameter("give numbers, or --all")
    config = load([Need.DATABASE])
    chosen = None if everything else list(numbers or [])
    count = asyncio.run(order_redelivery(config.database_url, name, chosen, _who(who)))
    if not count:
        raise NothingToDo(f"{name} has no such open dead letters")
    console.print(f"{count} ordered; `orchestrator webhooks show {name}` tells what is left")


def skip(
    name: Name,
    why: Annotated[str, typer.Option(help="Kept with the dead letter.")],
    who: Who = "",
) -> None:
    """Give up on the event that an endpoint keeps refusing: it becomes a dead letter, and the
    endpoint goes on with the next."""
    from projections.webhooks.orders import order_skip

    config = load([Need.DATABASE])
    place = asyncio.run(order_skip(config.database_url, name, _who(who), why))
    if place is None:
        raise NothingToDo(f"nothing of {name} is failing now")
    console.print(f"{place} is given up; it can be redelivered later")


def _who(given: str) -> str:
    return given or getpass.getuser()
