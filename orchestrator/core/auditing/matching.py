"""Joining what the topics told: what allowed a mint, a burn, a request, a completion."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from orchestrator.core.auditing.books import (
    COMPLETED,
    Claim,
    Event,
    Supply,
    digest,
    seat_of,
    show_position,
)
from orchestrator.core.auditing.findings import Kind, Note
from orchestrator.core.auditing.profile import ASKS, BURNS, BURNS_WHAT_WAS_ASKED, MINTS
from orchestrator.core.keys import REDEEM_PREFIX

if TYPE_CHECKING:
    from orchestrator.core.auditing.checking import Audit

NO_FIAT_REF = b"\x00" * 12


def match_requests(audit: Audit, other_kuro: Mapping[str, list[bytes]]) -> None:
    """Every request against the fact that it came from; every completion against its event."""
    for key in audit.requests.received:
        if key.startswith(REDEEM_PREFIX):
            _match_redeem(audit, key)
        else:
            _match_mint(audit, key, other_kuro.get(key, []))
    for key, completions in audit.requests.completed.items():
        for completion in completions:
            _match_completion(audit, key, completion.seat, completion.position)


def _match_mint(audit: Audit, key: str, others: list[bytes]) -> None:
    known = audit.kuro.get(key)
    received = [audit.requests.received[key], *audit.requests.more.get(key, [])]
    for claim in map(Claim.unpack, received):
        position = show_position(claim.position)
        if known is None:
            audit.findings.add(
                Kind.REQUEST_WITHOUT_ORIGIN,
                claim.chain_id,
                key,
                f"{claim}: no Kuro fact allows it",
                position,
            )
        elif not any(claim.same(Claim.unpack(told)) for told in (known, *others)):
            origin = Claim.unpack(known)
            audit.findings.add(
                Kind.REQUEST_DIFFERS,
                claim.chain_id,
                key,
                f"{claim}; Kuro allowed {origin}",
                position,
                show_position(origin.position),
            )


def _match_redeem(audit: Audit, key: str) -> None:
    claim = audit.requests.claim(key)
    assert claim is not None
    seat = audit.requests.origins.get(key, "")
    found = _event_at(audit, seat)
    book = audit.chains.get(claim.chain_id)
    if found is None:
        if book is None or book.later == 0:
            audit.findings.add(
                Kind.REQUEST_WITHOUT_ORIGIN,
                claim.chain_id,
                key,
                f"{claim}: no event {seat or 'is named'} on the log",
                show_position(claim.position),
            )
        return
    event, _ = found
    if (event.account, event.amount) != (claim.account, claim.amount):
        audit.findings.add(
            Kind.REQUEST_DIFFERS,
            claim.chain_id,
            key,
            f"{claim}; its event says {event.amount} of 0x{event.account.hex()}",
            show_position(claim.position),
            show_position(event.position),
        )


def _event_at(audit: Audit, seat: str) -> tuple[Event, int] | None:
    """The event behind `chain:block hash:index`, and its place in the chain's book."""
    chain, _, rest = seat.partition(":")
    block_hash, _, index = rest.partition(":")
    if not (chain.isdigit() and index.isdigit()) or int(chain) not in audit.chains:
        return None
    events = audit.chains[int(chain)].events
    at = events.by_seat.get(seat_of(block_hash, int(index)))
    return None if at is None else (events.event(at), at)


def _match_completion(audit: Audit, key: str, seat: str, position: int) -> None:
    found = _event_at(audit, seat)
    claim = audit.requests.claim(key)
    chain_id = claim.chain_id if claim else None
    if found is None:
        book = audit.chains.get(chain_id or 0)
        if book is None or book.later == 0:
            audit.findings.add(
                Kind.COMPLETED_WITHOUT_EVENT,
                chain_id,
                key,
                f"completed by {seat}, which is not on the log",
                show_position(position),
            )
        return
    event, index = found
    if chain_id is None:
        chain_id = int(seat.partition(":")[0])
    expected = BURNS if key.startswith(REDEEM_PREFIX) else (MINTS,)
    if event.name not in expected or event.request != digest(_contract_id(audit, chain_id, key)):
        audit.findings.add(
            Kind.COMPLETED_WITHOUT_EVENT,
            chain_id,
            key,
            f"completed by {seat}, which is {event.name} of another request",
            show_position(position),
            show_position(event.position),
        )
        return
    audit.chains[chain_id].events.flags[index] |= COMPLETED


def _contract_id(audit: Audit, chain_id: int, key: str) -> str:
    name = key.removeprefix(f"{REDEEM_PREFIX}{chain_id}:")
    ways = audit.ways.get(chain_id)
    return name if ways is None or name != key else ways.contract_id(name)


def match_events(audit: Audit, settled_before: int) -> None:
    """Every Minted against its Kuro fact, every burn against what was asked for. `settled_before`
    (Unix seconds): an event older than that must have completed its request."""
    mints, fiat_refs = _Once(), _Once()
    kuro = (
        {
            (chain_id, digest(ways.contract_id(key))): key
            for chain_id, ways in audit.ways.items()
            for key in audit.kuro
        }
        if audit.kuro and _renames(audit)
        else None
    )
    names = {digest(key): key for key in audit.kuro}
    for chain_id, book in sorted(audit.chains.items()):
        asked: dict[bytes, int] = {}
        burns = _Once()
        for index in book.events.standing():
            event = book.events.event(index)
            completed = bool(book.events.flags[index] & COMPLETED)
            if event.name == ASKS:
                asked.setdefault(event.request, index)
            elif event.name == MINTS:
                key = (
                    names.get(event.request)
                    if kuro is None
                    else kuro.get((chain_id, event.request))
                )
                backed = _judge_mint(audit, chain_id, event, key, (mints, fiat_refs))
                _count(audit, chain_id, event, (backed, completed), settled_before)
            elif event.name in BURNS:
                origin = asked.get(event.request)
                before = None if origin is None else book.events.event(origin)
                backed = _judge_burn(audit, chain_id, event, before, burns)
                _count(audit, chain_id, event, (backed, completed), settled_before)


def _renames(audit: Audit) -> bool:
    return any(ways.contract_id("x") != "x" for ways in audit.ways.values())


class _Once:
    """What may be there once, and where it was."""

    def __init__(self) -> None:
        self._seen: dict[bytes, int] = {}

    def again(self, name: bytes, position: int) -> str | None:
        """Where the first one is, when this is another."""
        first = self._seen.setdefault(name, position)
        return None if first == position else show_position(first)


def _judge_mint(
    audit: Audit, chain_id: int, event: Event, key: str | None, once: tuple[_Once, _Once]
) -> bool:
    """Whether exactly this was allowed."""
    position = show_position(event.position)
    account = f"0x{event.account.hex()}"
    if key is None:
        audit.findings.add(
            Kind.MINT_WITHOUT_KURO,
            chain_id,
            f"Minted in block {event.block_number}",
            f"{event.amount} to {account}: no Kuro fact has its request id",
            position,
        )
        return False
    mints, fiat_refs = once
    claim = Claim.unpack(audit.kuro[key])
    first = mints.again(digest(key), event.position)
    if first is not None:
        audit.findings.add(
            Kind.MINTED_TWICE, chain_id, key, "this request was minted before", first, position
        )
    if claim.fiat_ref == NO_FIAT_REF:
        audit.findings.add(Note.MINT_WITHOUT_FIAT_REF, chain_id, key, "Kuro named none", position)
    elif first is None:
        other = fiat_refs.again(claim.fiat_ref, claim.position)
        if other is not None:
            audit.findings.add(
                Kind.FIAT_REF_REUSED,
                chain_id,
                key,
                "its fiatRef backs another mint too",
                other,
                show_position(claim.position),
            )
    if (claim.chain_id, claim.account, claim.amount) == (chain_id, event.account, event.amount):
        return first is None
    audit.findings.add(
        Kind.MINT_DIFFERS,
        chain_id,
        key,
        f"minted {event.amount} to {account} on {chain_id}; Kuro allowed {claim}",
        position,
        show_position(claim.position),
    )
    return False


def _judge_burn(
    audit: Audit, chain_id: int, event: Event, asked: Event | None, burns: _Once
) -> bool:
    if event.name != BURNS_WHAT_WAS_ASKED:
        return True
    position, subject = show_position(event.position), f"Redeemed in block {event.block_number}"
    told = f"{event.amount} of 0x{event.account.hex()}"
    first = burns.again(event.request, event.position)
    if first is not None:
        audit.findings.add(
            Kind.REDEEMED_TWICE, chain_id, subject, f"{told}: finalised before", first, position
        )
        return False
    if asked is None:
        audit.findings.add(
            Kind.REDEEM_WITHOUT_REQUEST,
            chain_id,
            subject,
            f"{told}: no RedeemRequested stands before it",
            position,
        )
        return False
    if (asked.account, asked.amount) != (event.account, event.amount):
        audit.findings.add(
            Kind.REDEEM_DIFFERS,
            chain_id,
            subject,
            f"{told}; asked for was {asked.amount} of 0x{asked.account.hex()}",
            position,
            show_position(asked.position),
        )
        return False
    return True


def _count(
    audit: Audit, chain_id: int, event: Event, state: tuple[bool, bool], settled_before: int
) -> None:
    """Into the supply, on the log and by facts; and what was backed must be completed."""
    backed, completed = state
    supply = audit.supplies.setdefault(chain_id, Supply())
    minted = event.name == MINTS
    if minted:
        supply.minted_on_log += event.amount
        supply.minted_by_facts += event.amount if completed else 0
    else:
        supply.burnt_on_log += event.amount
        supply.burnt_by_facts += event.amount if completed else 0
    if completed or not backed:
        return
    pending = event.at_seconds >= settled_before
    if pending:
        supply.pending_minted += event.amount if minted else 0
        supply.pending_burnt += 0 if minted else event.amount
    audit.findings.add(
        Note.EVENT_PENDING if pending else Kind.EVENT_NOT_COMPLETED,
        chain_id,
        f"{event.name} in block {event.block_number}",
        f"{event.amount} of 0x{event.account.hex()}: its request is not completed by it",
        show_position(event.position),
    )
