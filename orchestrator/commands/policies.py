"""`orchestrator policy show|check|apply|history` and `orchestrator approve`."""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import ValidationError

from orchestrator.commands.controls import (
    Json,
    OneRequest,
    Order,
    Wait,
    Who,
    Why,
    made,
    place_of,
    report,
    signed_off,
)
from orchestrator.commands.showing import console, show_json
from orchestrator.config import Need, load
from orchestrator.errors import OrderRefused
from schemas.base import Record
from schemas.policies import ApproveOrdered, Policy, PolicyApplied
from schemas.requests import ApproveReported

policy_app = typer.Typer(
    name="policy",
    help="What may be minted without a person looking: show, check, apply, history.",
    no_args_is_help=True,
)

File = Annotated[
    Path | None,
    typer.Option(help="The policy as JSON; by default the file POLICY_FILE, else POLICY itself."),
]


def read_policy(file: Path | None) -> Policy:
    """Raises OrderRefused with everything that is wrong, and what to do."""
    named = file or (Path(given) if (given := os.environ.get("POLICY_FILE")) else None)
    if named is not None:
        try:
            text = named.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise OrderRefused(f"the policy {named} cannot be read: {error}") from None
    else:
        text = os.environ.get("POLICY", "")
        if not text:
            raise OrderRefused("no policy is given: name it by --file, POLICY_FILE or POLICY")
    return parsed(text)


def parsed(text: str) -> Policy:
    try:
        body = json.loads(text, parse_float=_no_float, object_pairs_hook=_once)
    except ValueError as error:
        raise OrderRefused(f"the policy is no JSON that can be taken: {error}") from None
    try:
        return Policy.model_validate_json(json.dumps(body))
    except ValidationError as error:
        faults = error.errors(include_url=False, include_input=False)
    told = [f"{'.'.join(map(str, fault['loc'])) or 'policy'}: {fault['msg']}" for fault in faults]
    raise OrderRefused("the policy is wrong: " + "; ".join(told))


def _no_float(text: str) -> float:
    raise ValueError(
        f"{text} is no whole number: give amounts as decimal strings of base units, times in "
        "whole seconds"
    )


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A rule that is given twice would count once, and nobody would know which."""
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"given twice: {', '.join(twice)}")
    return dict(pairs)


def as_json(policy: Policy) -> dict[str, Any]:
    """What it says, without what it does not."""
    return policy.model_dump(mode="json", exclude_defaults=True)


@policy_app.command()
def show(as_json_: Json = False) -> None:
    """Show the policy in force: every worker judges by it, and by no file."""
    from orchestrator.adapters.kafka_policies import applied

    records = asyncio.run(applied(place_of(load([Need.KAFKA]))))
    if as_json_:
        show_json(_told(records[-1]) if records else None)
        return
    if not records:
        console.print("no policy was ever applied: nothing is asked before a mint")
        return
    fact = _fact(records[-1])
    console.print(_line(records[-1]), markup=False)
    console.print_json(json.dumps(as_json(fact.policy)))


@policy_app.command()
def check(file: File = None, as_json_: Json = False) -> None:
    """Check a policy without applying it: what is wrong, or its version and what it says."""
    policy = read_policy(file)
    if as_json_:
        show_json({"version": policy.version, "policy": as_json(policy)})
        return
    console.print(f"valid, version {policy.version}", markup=False)
    if not policy.rules:
        console.print("it has no rules: under it nothing is asked before a mint")
    console.print_json(json.dumps(as_json(policy)))


@policy_app.command()
def apply(
    why: Why,
    file: File = None,
    who: Who = None,
    order: Order = None,
    wait: Wait = 10.0,
    as_json_: Json = False,
) -> None:
    """Put a policy in force, whole, in place of the one before. What is held is judged anew."""
    from orchestrator.adapters.kafka_orders import order_pause
    from orchestrator.adapters.kafka_policies import applied

    signed = signed_off(who, why, order)
    policy = read_policy(file)
    place = place_of(load([Need.KAFKA]))
    records = asyncio.run(applied(place))
    now = _fact(records[-1]) if records else None
    if now is not None and now.version == policy.version and now.order != signed["order"]:
        raise OrderRefused(f"this very policy is in force: {_line(records[-1])}")
    fact = made(PolicyApplied, **signed, version=policy.version, policy=policy)
    report(fact, asyncio.run(order_pause(place, fact, wait)), as_json_)


@policy_app.command()
def history(as_json_: Json = False) -> None:
    """Every policy that was applied, the newest last: when, by whom, why, and which version."""
    from orchestrator.adapters.kafka_policies import applied

    records = asyncio.run(applied(place_of(load([Need.KAFKA]))))
    if as_json_:
        show_json([_told(record) for record in records])
        return
    for record in records:
        console.print(_line(record), markup=False)
    if not records:
        console.print("no policy was ever applied")


def _fact(record: Record) -> PolicyApplied:
    assert isinstance(record.fact, PolicyApplied)
    return record.fact


def _told(record: Record) -> dict[str, Any]:
    fact = _fact(record)
    return {
        "version": fact.version,
        "at": record.at,
        "who": fact.who,
        "why": fact.why,
        "order": fact.order,
        "position": str(record.position),
        "policy": as_json(fact.policy),
    }


def _line(record: Record) -> str:
    fact = _fact(record)
    return f"{record.at} {fact.version} by {fact.who} (order {fact.order}): {fact.why}"


def approve(
    request: OneRequest,
    why: Why,
    who: Who = None,
    order: Order = None,
    wait: Wait = 10.0,
    as_json_: Json = False,
) -> None:
    """Let a request go that a policy holds. It takes as many distinct operators as its hold says.

    It counts for this hold alone: a request that is held anew is approved anew.
    """
    from orchestrator.adapters.kafka_orders import order_about
    from orchestrator.adapters.kafka_policies import request_now

    signed = signed_off(who, why, order)
    place = place_of(load([Need.KAFKA]))
    state = asyncio.run(request_now(place, request))
    held = state.standing_hold if state is not None else None
    ticket = held.ticket if held is not None else "1.0.0"
    fact = made(ApproveOrdered, **signed, request_key=request, ticket=ticket)
    told = made(ApproveReported, **signed, request_key=request, ticket=ticket)
    report(fact, asyncio.run(order_about(place, fact, told, wait)), as_json_)


def register(app: typer.Typer) -> None:
    app.command()(approve)
    app.add_typer(policy_app)
