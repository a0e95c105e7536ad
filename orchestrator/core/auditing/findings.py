"""What an audit can find: a closed set, each with the sentence that it disproves."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from enum import StrEnum

SHOWN_PER_KIND = 200
"""All are counted; so many of a kind are kept with their details."""


class Kind(StrEnum):
    """Discrepancies. `MEANING` says what each disproves."""

    MINT_WITHOUT_KURO = "MINT_WITHOUT_KURO"
    MINT_DIFFERS = "MINT_DIFFERS"
    MINTED_TWICE = "MINTED_TWICE"
    FIAT_REF_REUSED = "FIAT_REF_REUSED"
    REDEEM_WITHOUT_REQUEST = "REDEEM_WITHOUT_REQUEST"
    REDEEM_DIFFERS = "REDEEM_DIFFERS"
    REDEEMED_TWICE = "REDEEMED_TWICE"
    SUPPLY_DIFFERS = "SUPPLY_DIFFERS"
    NONCE_TWO_OWNERS = "NONCE_TWO_OWNERS"
    NONCE_OUTSIDE = "NONCE_OUTSIDE"
    TRANSACTION_UNPREPARED = "TRANSACTION_UNPREPARED"
    TRANSACTION_DIFFERS = "TRANSACTION_DIFFERS"
    SIGNATURE_WITHOUT_DRAFT = "SIGNATURE_WITHOUT_DRAFT"
    SIGNATURE_UNSOUND = "SIGNATURE_UNSOUND"
    SIGNER_UNKNOWN = "SIGNER_UNKNOWN"
    DRAFT_DIFFERS = "DRAFT_DIFFERS"
    SIGNATURE_UNCLEARED = "SIGNATURE_UNCLEARED"
    REQUEST_WITHOUT_ORIGIN = "REQUEST_WITHOUT_ORIGIN"
    REQUEST_DIFFERS = "REQUEST_DIFFERS"
    COMPLETED_WITHOUT_EVENT = "COMPLETED_WITHOUT_EVENT"
    EVENT_NOT_COMPLETED = "EVENT_NOT_COMPLETED"
    EVENT_NOT_ON_LOG = "EVENT_NOT_ON_LOG"
    EVENT_NOT_ON_CHAIN = "EVENT_NOT_ON_CHAIN"
    EVENT_DIFFERS = "EVENT_DIFFERS"
    BLOCK_DIFFERS = "BLOCK_DIFFERS"
    RANGE_GAP = "RANGE_GAP"
    UNREADABLE_RECORD = "UNREADABLE_RECORD"


MEANING = {
    Kind.MINT_WITHOUT_KURO: "every Minted has a Kuro fact",
    Kind.MINT_DIFFERS: "every Minted has the recipient, amount and chain of its Kuro fact",
    Kind.MINTED_TWICE: "every request is minted at most once, on one chain",
    Kind.FIAT_REF_REUSED: "every fiatRef backs at most one mint",
    Kind.REDEEM_WITHOUT_REQUEST: "every Redeemed has its RedeemRequested",
    Kind.REDEEM_DIFFERS: "every Redeemed has the holder and amount of its RedeemRequested",
    Kind.REDEEMED_TWICE: "every redemption is finalised at most once",
    Kind.SUPPLY_DIFFERS: "supply = minted - redeemed = facts = totalSupply of the contract",
    Kind.NONCE_TWO_OWNERS: "every nonce has one owner",
    Kind.NONCE_OUTSIDE: "every transaction of our wallets is on the log",
    Kind.TRANSACTION_UNPREPARED: "every transaction's bytes were on the log before it was sent",
    Kind.TRANSACTION_DIFFERS: "every final transaction is on its chain as the log says",
    Kind.SIGNATURE_WITHOUT_DRAFT: "every KMS signature has its drafted approval before it",
    Kind.SIGNATURE_UNSOUND: "every KMS signature recovers to the address that it names",
    Kind.SIGNER_UNKNOWN: "every KMS signature is by the key, or by one that was named",
    Kind.DRAFT_DIFFERS: "every drafted digest is that of the request's recipient and amount",
    Kind.SIGNATURE_UNCLEARED: "every mint signed under a policy had been cleared by it",
    Kind.REQUEST_WITHOUT_ORIGIN: "every request has the Kuro fact or the event it came from",
    Kind.REQUEST_DIFFERS: "every request says what its origin says",
    Kind.COMPLETED_WITHOUT_EVENT: "every completed request has its event on the log",
    Kind.EVENT_NOT_COMPLETED: "every backed event completed its request",
    Kind.EVENT_NOT_ON_LOG: "every event of the chain is on the log",
    Kind.EVENT_NOT_ON_CHAIN: "every event of the log is on the chain",
    Kind.EVENT_DIFFERS: "every event is on the log as the chain shows it",
    Kind.BLOCK_DIFFERS: "the log's newest block is a block of the chain",
    Kind.RANGE_GAP: "the log followed the chain without a gap",
    Kind.UNREADABLE_RECORD: "every record can be read, or stands among the dead letters",
}


class Note(StrEnum):
    """Worth knowing, and no discrepancy."""

    KURO_TOLD_OTHERWISE = "KURO_TOLD_OTHERWISE"
    """Kuro repeated an id with other content; the first counts."""
    MINT_WITHOUT_FIAT_REF = "MINT_WITHOUT_FIAT_REF"
    EVENT_PENDING = "EVENT_PENDING"
    """So new that its request may not have been completed yet."""
    EVENT_RETRACTED = "EVENT_RETRACTED"
    RECORD_SET_ASIDE = "RECORD_SET_ASIDE"
    """Unreadable, and whole among the dead letters."""
    WALLET_USED_BEFORE = "WALLET_USED_BEFORE"
    """Transactions of before this service's first, or of a wallet it never used."""
    NONCE_UNSETTLED = "NONCE_UNSETTLED"
    """Mined, and the lane's fact of it is still to come."""


@dataclass(frozen=True, slots=True)
class Finding:
    """One case. `subject` names it (a request, a seat, a nonce); `positions` where the log says."""

    kind: Kind | Note
    chain_id: int | None
    subject: str
    detail: str
    positions: tuple[str, ...] = ()


@dataclass(slots=True)
class Findings:
    """Counts all, keeps the first ones of each kind. `only` leaves out what is of other chains."""

    only: frozenset[int] | None = None
    counts: Counter[Kind | Note] = field(default_factory=Counter)
    shown: list[Finding] = field(default_factory=list)

    def add(
        self,
        kind: Kind | Note,
        chain_id: int | None,
        subject: str,
        detail: str,
        *positions: str,
    ) -> None:
        if self.only is not None and chain_id is not None and chain_id not in self.only:
            return
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN_PER_KIND:
            self.shown.append(Finding(kind, chain_id, subject, detail, positions))

    @property
    def discrepancies(self) -> int:
        return sum(count for kind, count in self.counts.items() if isinstance(kind, Kind))
