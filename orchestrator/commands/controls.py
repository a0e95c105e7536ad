"""`orchestrator pause|resume|retry|cancel|release|controls`: operators' orders, each a fact with
who and why, and what is paused now."""

from __future__ import annotations

import asyncio
import getpass
import secrets
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from orchestrator.commands.showing import console, show_json
from orchestrator.config import Config, Need, load
from orchestrator.core.policy import address_or_none
from orchestrator.errors import OrderRefused
from schemas import controls as orders
from schemas.base import Fact
from schemas.requests import CancelReported, RetryReported
from schemas.topics import LANES

if TYPE_CHECKING:
    from orchestrator.adapters.kafka_orders import Outcome, Place

Made = TypeVar("Made", bound=Fact)

Why = Annotated[str, typer.Option(help="The reason, for whoever reads it later.")]
Who = Annotated[
    str | None, typer.Option(help="Who gives the order; by default the user of the system.")
]
Order = Annotated[
    str | None,
    typer.Option(help="The order's id; give the same again when an answer was lost."),
]
Wait = Annotated[float, typer.Option(min=0, max=600, help="Seconds to wait for what comes of it.")]
Json = Annotated[bool, typer.Option("--json", help="The result as JSON.")]
Everything = Annotated[bool, typer.Option("--all", help="Everything.")]
Chain = Annotated[int | None, typer.Option(help="A chain's id.")]
Wallet = Annotated[str | None, typer.Option(help="A wallet of a chain, as 5920:0x….")]
Request = Annotated[str | None, typer.Option(help="A request's key (redeems: redeem:5920:<id>).")]
Supply = Annotated[
    int | None, typer.Option(help="A chain's id: settle what the conservation gate doubts.")
]
OneRequest = Annotated[str, typer.Option(help="The request's key (redeems: redeem:5920:<id>).")]


def signed_off(who: str | None, why: str, order: str | None) -> dict[str, str]:
    """Who, why and the order's id, or BadParameter."""
    if who is None:
        try:
            who = getpass.getuser()
        except (KeyError, OSError):
            raise typer.BadParameter("the system names no user: say who with --who") from None
    if not why.strip() or len(why) > 2000 or not who.strip() or len(who) > 200:
        raise typer.BadParameter("--why is 1 to 2000 characters, --who 1 to 200")
    return {"who": who.strip(), "why": why.strip(), "order": order or secrets.token_hex(8)}


def made(model: type[Made], **fields: Any) -> Made:
    try:
        return model.model_validate(fields)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None


def place_of(config: Config) -> Place:
    from orchestrator.adapters.kafka_orders import Place

    return Place(config.kafka, config.settings.kafka_prefix)


def _chain_of(config: Config, chain_id: int) -> int:
    if chain_id not in config.chains:
        known = ", ".join(str(known) for known in sorted(config.chains))
        raise OrderRefused(f"chain {chain_id} is not served here; configured: {known}")
    return chain_id


def _wallet_of(config: Config, text: str) -> tuple[int, str]:
    """Chain and checksummed address; must be configured, or have a lane on the log."""
    from orchestrator.adapters.kafka_orders import halted_lane

    chain, _, given = text.partition(":")
    address = address_or_none(given)
    if not chain.isdigit() or address is None:
        raise typer.BadParameter(f"--wallet {text!r}: give the chain and the address, 5920:0x…")
    chain_id = _chain_of(config, int(chain))
    if address in config.chains[chain_id].wallets:
        return chain_id, address
    if asyncio.run(halted_lane(place_of(config), f"{chain_id}:{address}")) is None:
        raise OrderRefused(f"wallet {address} is not configured for chain {chain_id}, nor known")
    return chain_id, address


def _scope(
    config: Config, everything: bool, chain: int | None, wallet: str | None, request: str | None
) -> str:
    given = [everything or None, chain, wallet, request]
    if sum(item is not None for item in given) != 1:
        raise typer.BadParameter("give exactly one of --all, --chain, --wallet, --request")
    if chain is not None:
        return orders.chain_scope(_chain_of(config, chain))
    if wallet is not None:
        return orders.wallet_scope(*_wallet_of(config, wallet))
    return orders.EVERYTHING if request is None else orders.request_scope(request)


def report(fact: Fact, outcome: Outcome, as_json: bool) -> None:
    """Exit code 1 for an order that was refused."""
    if as_json:
        told = {"kind": fact.kind, "id": fact.id, **fact.model_dump(mode="json")}
        show_json(
            {
                **told,
                "position": asdict(outcome.position),
                "takenIn": outcome.taken_in,
                "detail": outcome.detail,
            }
        )
    else:
        words = {True: "taken in", False: "REFUSED", None: "not taken in yet"}[outcome.taken_in]
        console.print(f"{fact.kind} {fact.id} at {outcome.position}", markup=False)
        console.print(f"{words}: {outcome.detail}", markup=False)
    if outcome.taken_in is False:
        raise typer.Exit(1)


def pause(
    why: Why,
    everything: Everything = False,
    chain: Chain = None,
    wallet: Wallet = None,
    request: Request = None,
    who: Who = None,
    order: Order = None,
    wait: Wait = 10.0,
    as_json: Json = False,
) -> None:
    """Let nothing new begin: no draft, no signature, no transaction with a request's call.

    What nodes have already may still be mined; it is followed to its end. Listening to Kuro,
    following the chains and completing by evidence go on.
    """
    from orchestrator.adapters.kafka_orders import order_pause

    config = load([Need.KAFKA])
    signed = signed_off(who, why, order)
    scope = _scope(config, everything, chain, wallet, request)
    fact = made(orders.WorkPaused, **signed, scope=scope)
    report(fact, asyncio.run(order_pause(place_of(config), fact, wait)), as_json)


def resume(
    why: Why,
    everything: Everything = False,
    chain: Chain = None,
    wallet: Wallet = None,
    request: Request = None,
    supply: Supply = None,
    who: Who = None,
    order: Order = None,
    wait: Wait = 10.0,
    as_json: Json = False,
) -> None:
    """End the pause of exactly this scope. Other pauses stay: see `orchestrator controls`.

    With --supply, what the conservation gate doubts about a chain is settled, up to now: what it
    comes to doubt later pauses the chain again. For a chain or a lane that halted by itself, see
    `orchestrator release`.
    """
    from orchestrator.adapters.kafka_orders import controls_now, order_pause
    from orchestrator.core.controls import canonical

    config = load([Need.KAFKA])
    signed = signed_off(who, why, order)
    if supply is not None and any((everything, chain, wallet, request, order)):
        raise typer.BadParameter("--supply stands alone: it names its order by what it settles")
    scope = (
        _scope(config, everything, chain, wallet, request)
        if supply is None
        else orders.supply_scope(supply)
    )
    now = asyncio.run(controls_now(place_of(config)))
    doubts = now.unsettled.get(scope)
    if doubts:
        signed["order"] = orders.settling(doubts[-1].order)
        for doubt in () if as_json else doubts:
            console.print(f"settles: {doubt.why}", markup=False)
    if canonical(scope) not in now.pauses and signed["order"] not in now.orders:
        paused = ", ".join(item.scope for item in now.pauses.values()) or "nothing"
        raise OrderRefused(f"{scope} is not paused; paused now: {paused}")
    fact = made(orders.WorkResumed, **signed, scope=scope)
    report(fact, asyncio.run(order_pause(place_of(config), fact, wait)), as_json)


def retry(
    request: OneRequest,
    why: Why,
    who: Who = None,
    order: Order = None,
    wait: Wait = 10.0,
    as_json: Json = False,
) -> None:
    """Try a request again: a FAILED one anew, one that waits in a backoff at once.

    Under the same approval while that may still execute; a fresh one follows only after its chain
    has proved that the old one expired unprocessed.
    """
    _about(orders.RetryOrdered, RetryReported, request, signed_off(who, why, order), wait, as_json)


def cancel(
    request: OneRequest,
    why: Why,
    who: Who = None,
    order: Order = None,
    wait: Wait = 10.0,
    as_json: Json = False,
) -> None:
    """Give a request up. What is out is replaced by a no-op first; what was mined completes.

    An approval that was signed may still be executed by whoever holds it, until its deadline; the
    evidence of that completes the request all the same.
    """
    kinds = (orders.CancelOrdered, CancelReported)
    _about(*kinds, request, signed_off(who, why, order), wait, as_json)


def _about(
    model: type[orders.RetryOrdered] | type[orders.CancelOrdered],
    reported: type[RetryReported] | type[CancelReported],
    request: str,
    signed: dict[str, str],
    wait: float,
    as_json: bool,
) -> None:
    from orchestrator.adapters.kafka_orders import order_about

    config = load([Need.KAFKA])
    fact = made(model, **signed, request_key=request)
    told = reported(request_key=request, **signed)
    report(fact, asyncio.run(order_about(place_of(config), fact, told, wait)), as_json)


def release(
    why: Why,
    chain: Chain = None,
    wallet: Wallet = None,
    who: Who = None,
    order: Order = None,
    as_json: Json = False,
) -> None:
    """Let a chain's follower or a lane that halted go on, after you have looked why it halted.

    A follower goes on after the fork that it named. A lane compares itself with its chain: what the
    chain shows now counts, and where that cannot be safe it halts again and says why.
    """
    config = load([Need.KAFKA])
    signed = signed_off(who, why, order)
    if (chain is None) == (wallet is None):
        raise typer.BadParameter("give exactly one of --chain, --wallet")
    if chain is not None:
        _release_chain(config, _chain_of(config, chain), signed, as_json)
    else:
        assert wallet is not None
        _release_lane(config, *_wallet_of(config, wallet), signed, as_json)


def _release_chain(config: Config, chain_id: int, signed: dict[str, str], as_json: bool) -> None:
    from orchestrator.adapters.kafka_orders import Outcome, append, halted_chain
    from schemas.evm import ChainResumed
    from schemas.topics import EVM_EVENTS

    halted = asyncio.run(halted_chain(place_of(config), chain_id))
    if halted is None:
        raise OrderRefused(f"chain {chain_id} is not halted")
    who, why = signed["who"], signed["why"]
    fact = ChainResumed(chain_id=chain_id, halt=halted.id, who=who, why=why)
    position = asyncio.run(append(place_of(config), EVM_EVENTS, fact))
    report(fact, Outcome(position, None, f"settles the halt: {halted.reason}"), as_json)


def _release_lane(
    config: Config, chain_id: int, wallet: str, signed: dict[str, str], as_json: bool
) -> None:
    from orchestrator.adapters.kafka_orders import Outcome, append, halted_lane
    from schemas.lanes import LaneResumed

    state = asyncio.run(halted_lane(place_of(config), f"{chain_id}:{wallet}"))
    if state is None or state.halted is None:
        raise OrderRefused(f"lane {chain_id}:{wallet} is not halted")
    halt = state.halted
    fact = LaneResumed(chain_id=chain_id, wallet=wallet, halt=halt.id, **signed)
    position = asyncio.run(append(place_of(config), LANES, fact))
    report(fact, Outcome(position, None, f"settles the halt: {halt.reason}"), as_json)


def controls(as_json: Json = False) -> None:
    """Show what is paused now, since when, by whom and why."""
    from orchestrator.adapters.kafka_orders import controls_now

    state = asyncio.run(controls_now(place_of(load([Need.KAFKA]))))
    if as_json:
        show_json([asdict(item) for item in state.pauses.values()])
        return
    for item in state.pauses.values():
        console.print(f"{item.reason} (order {item.order})", markup=False)
    if not state.pauses:
        console.print("nothing is paused")


def register(app: typer.Typer) -> None:
    for command in (pause, resume, retry, cancel, release, controls):
        app.command()(command)
