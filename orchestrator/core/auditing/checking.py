"""The audit: fed with the topics one after the other and with what the chains show, it concludes.

The order matters, because the topics are still written meanwhile: `requests` first, then
`evm.events`, `kuro.events`, `lanes`, `dead-letters`. So each effect is read before the end of the
topic that holds its cause is looked up, and nothing is missed for being too new. Before them comes
`controls`: a policy binds only what is signed well after it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from orchestrator.core.auditing.books import (
    GONE,
    SEEN,
    ChainBook,
    Claim,
    Event,
    Supply,
    account_bytes,
    amount_bytes,
    content_of,
    digest,
    pack_position,
    seat_of,
    show_position,
)
from orchestrator.core.auditing.findings import Findings, Kind, Note
from orchestrator.core.auditing.lanes import LaneBook
from orchestrator.core.auditing.matching import match_events, match_requests
from orchestrator.core.auditing.profile import BURNS, MINTS, Ways
from orchestrator.core.auditing.requests import RequestBook
from schemas.base import Record
from schemas.dead_letters import DeadLetter
from schemas.evm import BlocksFollowed, ChainHalted, ContractEvent, EventRetracted
from schemas.kuro import MintOk
from schemas.policies import PolicyApplied

GRACE_SECONDS = 120
"""An event whose fact is no older than that, by the newest fact read, may still be uncompleted."""

NEEDED = {
    "controls": {"PolicyApplied"},
    "requests": {
        "RequestReceived",
        "ClearanceReported",
        "ApprovalDrafted",
        "DraftRecalled",
        "ApprovalSigned",
        "RequestCompleted",
    },
    "evm.events": {"ContractEvent", "EventRetracted", "BlocksFollowed", "ChainHalted"},
    "kuro.events": {"MintOk"},
    "lanes": {
        "LaneOpened",
        "TransactionPrepared",
        "TransactionBroadcast",
        "TransactionIncluded",
        "TransactionFinal",
        "NonceTaken",
    },
    "dead-letters": {"DeadLetter"},
}
"""Kinds that matter, by topic, in reading order; what else a topic holds need not be decoded."""


class Audit:
    """`feed` in the order of `NEEDED`, then `match`, then per chain `see` and `judge_supply`."""

    def __init__(
        self,
        ways: Mapping[int, Ways],
        *,
        at_blocks: Mapping[int, int] | None = None,
        signers: frozenset[str] = frozenset(),
        only: frozenset[int] | None = None,
    ) -> None:
        self.findings = Findings(only)
        self.ways = ways
        self.chains: dict[int, ChainBook] = {}
        self.requests = RequestBook(ways, signers, self.findings)
        self.lanes = LaneBook(self.findings)
        self.kuro: dict[str, bytes] = {}
        self.kuro_facts = 0
        self.supplies: dict[int, Supply] = {}
        self.letters: dict[str, int] = {}
        self.records = 0
        self._at_blocks = dict(at_blocks or {})
        self._other_kuro: dict[str, list[bytes]] = {}
        self._unreadable: dict[str, str] = {}
        self._newest = ""

    def chain(self, chain_id: int) -> ChainBook:
        book = self.chains.get(chain_id)
        if book is None:
            book = self.chains[chain_id] = ChainBook(wanted=self._at_blocks.get(chain_id))
        return book

    def feed(self, record: Record) -> None:
        """One record of the topics, of a kind of `NEEDED`."""
        fact = record.fact
        self.records += 1
        self._newest = max(self._newest, record.at)
        match fact:
            case MintOk():
                self._kuro(fact, record)
            case ContractEvent():
                self._event(fact, record)
            case EventRetracted():
                self._retraction(fact, record)
            case BlocksFollowed():
                self._follow(fact, record)
            case ChainHalted():
                self._halt(fact)
            case PolicyApplied():
                self.requests.clearances.apply(record)
            case DeadLetter():
                self.letters[fact.reason] = self.letters.get(fact.reason, 0) + 1
                self._unreadable.pop(fact.origin, None)
            case _:
                self.requests.feed(record)
                self.lanes.feed(record)

    def unreadable(self, position: str, why: str) -> None:
        """A record that the topic cannot hold; all is well when it is among the dead letters."""
        self._unreadable[position] = why

    def _kuro(self, fact: MintOk, record: Record) -> None:
        self.kuro_facts += 1
        claim = Claim(
            pack_position(record.position),
            fact.chain_id,
            account_bytes(fact.user),
            int.from_bytes(amount_bytes(fact.amount), "big"),
            digest(fact.fiat_ref) if fact.fiat_ref.strip() else b"\x00" * 12,
        )
        known = self.kuro.get(fact.request_id)
        if known is None:
            self.kuro[fact.request_id] = claim.pack()
            return
        first = Claim.unpack(known)
        if not first.same(claim) or first.fiat_ref != claim.fiat_ref:
            self._other_kuro.setdefault(fact.request_id, []).append(claim.pack())
            self.findings.add(
                Note.KURO_TOLD_OTHERWISE,
                fact.chain_id,
                fact.request_id,
                f"first {first}, then {claim}",
                show_position(first.position),
                str(record.position),
            )

    def _event(self, fact: ContractEvent, record: Record) -> None:
        book = self.chain(fact.chain_id)
        if book.wanted is not None and fact.block_number > book.wanted:
            book.later += 1
            return
        seat = seat_of(fact.block_hash, fact.log_index)
        content = content_of(
            fact.event.value,
            fact.request_id,
            fact.account,
            fact.amount,
            fact.tx_hash,
            fact.block_number,
        )
        index = book.events.by_seat.get(seat)
        if index is not None:
            book.events.flags[index] &= ~GONE & 0xFF
            if book.events.event(index).content != content:
                self._differs(fact.chain_id, fact.seat, book.events.event(index), record)
            return
        book.events.add(
            seat,
            Event(
                fact.event.value,
                pack_position(record.position),
                fact.block_number,
                record.at_seconds,
                account_bytes(fact.account),
                fact.amount,
                digest(fact.request_id),
                content,
            ),
        )

    def _differs(self, chain_id: int, seat: str, first: Event, record: Record) -> None:
        self.findings.add(
            Kind.EVENT_DIFFERS,
            chain_id,
            seat,
            "two facts of one event tell different things",
            show_position(first.position),
            str(record.position),
        )

    def _retraction(self, fact: EventRetracted, record: Record) -> None:
        events = self.chain(fact.chain_id).events
        index = events.by_seat.get(seat_of(fact.block_hash, fact.log_index))
        if index is not None:
            events.flags[index] |= GONE
            self.findings.add(
                Note.EVENT_RETRACTED, fact.chain_id, fact.seat, fact.reason, str(record.position)
            )

    def _follow(self, fact: BlocksFollowed, record: Record) -> None:
        book = self.chain(fact.chain_id)
        if book.cursor is not None and fact.from_block > book.cursor + 1:
            self.findings.add(
                Kind.RANGE_GAP,
                fact.chain_id,
                f"{book.cursor + 1} to {fact.from_block - 1}",
                "these blocks were not followed",
                str(record.position),
            )
        if book.first_block is None:
            book.first_block = fact.from_block
        book.cursor, book.cursor_hash = fact.to_block, fact.to_hash

    def _halt(self, fact: ChainHalted) -> None:
        """What was followed beyond the fork is void; following goes on after it."""
        book = self.chain(fact.chain_id)
        book.cursor, book.cursor_hash = fact.fork_block, fact.fork_hash or ""

    def final_block(self, chain_id: int) -> int | None:
        """The block this chain is judged at; None where the log has nothing, or not so much."""
        book = self.chains.get(chain_id)
        if book is None or book.cursor is None:
            return None
        if book.wanted is None:
            return book.cursor
        return book.wanted if book.wanted <= book.cursor else None

    def match(self) -> None:
        """After the last topic: mints, redemptions and requests against what allows them."""
        for position, why in self._unreadable.items():
            self.findings.add(
                Kind.UNREADABLE_RECORD, None, position, f"not among the dead letters: {why}"
            )
        match_requests(self, self._other_kuro)
        newest = int(datetime.fromisoformat(self._newest).timestamp()) if self._newest else 0
        match_events(self, newest - GRACE_SECONDS)

    def see(
        self,
        chain_id: int,
        block: tuple[int, str],
        tx_hash: str,
        log_index: int,
        told: tuple[str, str, str, int],
    ) -> None:
        """An event as the chain shows it: `told` is event, the contract's id, account, amount."""
        number, block_hash = block
        name, request_id, account, amount = told
        supply = self.supplies.setdefault(chain_id, Supply())
        supply.minted_on_chain = supply.minted_on_chain or 0
        supply.burnt_on_chain = supply.burnt_on_chain or 0
        if name == MINTS:
            supply.minted_on_chain += amount
        elif name in BURNS:
            supply.burnt_on_chain += amount
        events = self.chain(chain_id).events
        index = events.by_seat.get(seat_of(block_hash, log_index))
        subject = f"{chain_id}:{block_hash}:{log_index}"
        if index is None or events.flags[index] & GONE:
            state = "was taken back there" if index is not None else "is not there"
            self.findings.add(
                Kind.EVENT_NOT_ON_LOG,
                chain_id,
                subject,
                f"{name} of {request_id}, {amount} of {account}, in block {number}, transaction "
                f"{tx_hash}: {state}",
            )
            return
        events.flags[index] |= SEEN
        if events.event(index).content != content_of(*told, tx_hash, number):
            self.findings.add(
                Kind.EVENT_DIFFERS,
                chain_id,
                subject,
                f"the chain shows {name} of {request_id}, {amount} of {account}, transaction "
                f"{tx_hash}, block {number}",
                show_position(events.event(index).position),
            )

    def unseen(self, chain_id: int) -> list[Event]:
        """Events of the log that `see` was not told of."""
        events = self.chain(chain_id).events
        return [events.event(i) for i in events.standing() if not events.flags[i] & SEEN]

    def judge_unseen(self, chain_id: int) -> None:
        for event in self.unseen(chain_id):
            self.findings.add(
                Kind.EVENT_NOT_ON_CHAIN,
                chain_id,
                f"{event.name} in block {event.block_number}",
                f"{event.amount} of 0x{event.account.hex()}: the chain has no such event",
                show_position(event.position),
            )

    def judge_block(self, chain_id: int, number: int, block_hash: str | None) -> None:
        """The chain's own block at the final number, against the log's cursor."""
        book = self.chain(chain_id)
        if number == book.cursor and block_hash != book.cursor_hash:
            self.findings.add(
                Kind.BLOCK_DIFFERS,
                chain_id,
                f"block {number}",
                f"{book.cursor_hash} on the log, {block_hash} on the chain",
            )

    def judge_supply(self, chain_id: int, total_supply: int | None) -> None:
        """`total_supply` at the final block; None when the chain is not asked."""
        supply = self.supplies.setdefault(chain_id, Supply())
        supply.total_supply = total_supply
        told = {"minted - redeemed on the log": supply.on_log, "facts": supply.by_facts}
        if supply.minted_on_chain is not None and supply.burnt_on_chain is not None:
            told["minted - redeemed on the chain"] = supply.minted_on_chain - supply.burnt_on_chain
        if total_supply is not None:
            told["totalSupply"] = total_supply
        if len(set(told.values())) > 1:
            shown = ", ".join(f"{name} {value}" for name, value in told.items())
            self.findings.add(Kind.SUPPLY_DIFFERS, chain_id, f"chain {chain_id}", shown)
