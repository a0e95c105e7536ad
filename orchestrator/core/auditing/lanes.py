"""The topic `lanes`: one owner for each nonce, and its bytes on the log before it was sent."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

from orchestrator.core.auditing.findings import Findings, Kind, Note
from orchestrator.core.hashing import keccak
from schemas.base import Record
from schemas.lanes import (
    LaneFact,
    LaneOpened,
    NonceTaken,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionPrepared,
)


@dataclass(slots=True)
class Nonce:
    """Hashes of the versions prepared for it, whose work it is, and what became final on it."""

    versions: tuple[str, ...] = ()
    relay: str | None = None
    final: str | None = None
    final_block: str | None = None
    final_number: int = 0


@dataclass(frozen=True, slots=True)
class Mined:
    """A transaction as the chain shows it."""

    tx_hash: str
    sender: str
    nonce: int
    block_number: int
    block_hash: str


@dataclass(slots=True)
class LaneBook:
    """By (chain, wallet): the first nonce, and every nonce of the log."""

    findings: Findings
    first: dict[tuple[int, str], int] = field(default_factory=dict)
    nonces: dict[tuple[int, str], dict[int, Nonce]] = field(default_factory=dict)

    def feed(self, record: Record) -> None:
        fact, position = record.fact, str(record.position)
        if not isinstance(fact, LaneFact):
            return
        lane = (fact.chain_id, fact.wallet)
        match fact:
            case LaneOpened():
                self.first.setdefault(lane, fact.first_nonce)
            case TransactionPrepared():
                self._prepare(fact, position)
            case TransactionBroadcast() | TransactionIncluded() | TransactionFinal():
                self._progress(fact, position)
            case NonceTaken():
                self.findings.add(
                    Kind.NONCE_OUTSIDE,
                    fact.chain_id,
                    f"{fact.key}:{fact.nonce}",
                    "the lane found this nonce spent by a transaction that is not on the log",
                    position,
                )

    def _slot(self, lane: tuple[int, str], nonce: int) -> Nonce:
        return self.nonces.setdefault(lane, {}).setdefault(nonce, Nonce())

    def _prepare(self, fact: TransactionPrepared, position: str) -> None:
        slot = self._slot((fact.chain_id, fact.wallet), fact.nonce)
        subject = f"{fact.key}:{fact.nonce}"
        if "0x" + keccak(bytes.fromhex(fact.raw[2:])).hex() != fact.tx_hash:
            self.findings.add(
                Kind.TRANSACTION_UNPREPARED,
                fact.chain_id,
                subject,
                f"the bytes on the log are not those of {fact.tx_hash}",
                position,
            )
            return
        if fact.tx_hash in slot.versions:
            return
        slot.versions += (fact.tx_hash,)
        if fact.relay is None:
            return
        if slot.relay is not None and slot.relay != fact.relay:
            self.findings.add(
                Kind.NONCE_TWO_OWNERS,
                fact.chain_id,
                subject,
                f"prepared for {slot.relay} and for {fact.relay}",
                position,
            )
        slot.relay = slot.relay or fact.relay

    def _progress(
        self, fact: TransactionBroadcast | TransactionIncluded | TransactionFinal, position: str
    ) -> None:
        slot = self._slot((fact.chain_id, fact.wallet), fact.nonce)
        subject = f"{fact.key}:{fact.nonce}"
        if fact.tx_hash not in slot.versions:
            self.findings.add(
                Kind.TRANSACTION_UNPREPARED,
                fact.chain_id,
                subject,
                f"{fact.kind} of {fact.tx_hash}, which was not prepared on the log before",
                position,
            )
        if not isinstance(fact, TransactionFinal):
            return
        if slot.final is not None and slot.final != fact.tx_hash:
            self.findings.add(
                Kind.NONCE_TWO_OWNERS,
                fact.chain_id,
                subject,
                f"final with {slot.final} and with {fact.tx_hash}",
                position,
            )
            return
        slot.final, slot.final_block = fact.tx_hash, fact.block_hash
        slot.final_number = fact.block_number

    def spent(self, lane: tuple[int, str], count: int) -> Iterator[tuple[int, Nonce | None]]:
        """Each nonce that the chain has spent since the lane began, below the account's `count`."""
        known = self.nonces.get(lane, {})
        for nonce in range(self.first.get(lane, count), count):
            yield nonce, known.get(nonce)

    def judge(
        self, lane: tuple[int, str], nonce: int, slot: Nonce | None, mined: list[Mined | None]
    ) -> None:
        """`mined`: what the chain has of the slot's versions, in their order. The chain spent the
        nonce: so exactly one of them must be it, from this wallet, with this nonce."""
        chain_id, wallet = lane
        subject = f"{chain_id}:{wallet}:{nonce}"
        fitting = [
            found
            for found in mined
            if found is not None and (found.sender.lower(), found.nonce) == (wallet.lower(), nonce)
        ]
        if not fitting:
            told = "nothing" if slot is None or not slot.versions else ", ".join(slot.versions)
            self.findings.add(
                Kind.NONCE_OUTSIDE,
                chain_id,
                subject,
                f"the chain spent this nonce on a transaction that is not on the log, which has "
                f"{told} for it",
            )
            return
        if slot is None or slot.final is None:
            self.findings.add(
                Note.NONCE_UNSETTLED, chain_id, subject, f"{fitting[0].tx_hash} is mined"
            )
        elif (slot.final, slot.final_block) != (fitting[0].tx_hash, fitting[0].block_hash):
            self.findings.add(
                Kind.TRANSACTION_DIFFERS,
                chain_id,
                subject,
                f"final on the log is {slot.final} in block {slot.final_block}; the chain has "
                f"{fitting[0].tx_hash} in block {fitting[0].block_hash}",
            )

    def judge_unspent(self, lane: tuple[int, str], count: int, final_block: int) -> None:
        """Nonces that the log calls final at a block where the chain has not spent them."""
        for nonce, slot in self.nonces.get(lane, {}).items():
            if nonce >= count and slot.final is not None and slot.final_number <= final_block:
                self.findings.add(
                    Kind.TRANSACTION_DIFFERS,
                    lane[0],
                    f"{lane[0]}:{lane[1]}:{nonce}",
                    f"final on the log with {slot.final}; the chain has spent {count} nonces",
                )

    def unused(self, chain_id: int, wallet: str, count: int) -> None:
        """A wallet of the configuration, and how many transactions it has at the final block."""
        first = self.first.get((chain_id, wallet), count)
        if min(first, count) > 0:
            self.findings.add(
                Note.WALLET_USED_BEFORE,
                chain_id,
                f"{chain_id}:{wallet}",
                f"{min(first, count)} transactions of before this lane began",
            )
