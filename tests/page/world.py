"""A day at the service as records of its log: lives of requests, lanes in every state, chains.

Made from a seed and told through the projection's own writer, so that the page shows what the
tables really make of such facts.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from orchestrator.core.keys import mint_key, redeem_key
from projections.fold import RawRecord
from schemas.base import Fact, Record, RequestType, encode_value, instant
from schemas.controls import WorkPaused
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import BlocksFollowed, ContractEvent, EventName
from schemas.kuro import MintOk, Via
from schemas.lanes import (
    LaneOpened,
    RelayRequested,
    TransactionBroadcast,
    TransactionFinal,
    TransactionIncluded,
    TransactionPrepared,
    WalletSetAside,
)
from schemas.requests import (
    ApprovalDrafted,
    ApprovalSigned,
    EvidenceReported,
    InclusionReported,
    RelayAssigned,
    RequestCompleted,
    RequestReceived,
    RequestRejected,
    SubmissionReported,
)
from tests.projections.facts import CONTRACT, MemoryLog, digest, partition_of, topic_of

CHAINS = (5920, 5921, 5922)
EVIL = '<script>window.hacked=1</script><img src=x onerror="window.hacked=1">'
TOKEN = 10**18

Told = tuple[float, Fact]


def wallet_of(chain_id: int) -> str:
    return "0x" + digest("wallet", chain_id)[2:42]


def user_of(number: int) -> str:
    return "0x" + digest("user", number % 7)[2:42]


@dataclass
class Lane:
    """One wallet's nonces; `facts` so far."""

    chain_id: int
    nonce: int = 40
    facts: list[Told] = field(default_factory=list)

    @property
    def who(self) -> dict[str, object]:
        return {"chain_id": self.chain_id, "wallet": wallet_of(self.chain_id)}

    def open(self, at: float) -> None:
        self.facts.append((at, LaneOpened.model_validate({**self.who, "first_nonce": self.nonce})))

    def relay(self, key: str, at: float, block: int, steps: int) -> tuple[int, str]:
        """Asked for, prepared, broadcast, included, final: as many `steps` of these."""
        nonce, tx = self.nonce, digest(key, "tx")
        self.nonce += 1
        one = {**self.who, "nonce": nonce, "relay": f"{key}:1", "tx_hash": tx}
        mined = {"block_number": block, "block_hash": digest("b", self.chain_id, block)}
        asked = {"request_key": key, "request_id": key, "attempt": 1, "contract": CONTRACT}
        facts: list[Fact] = [
            RelayRequested.model_validate(
                {**self.who, **asked, "data": "0x", "deadline": int(at) + 86_400}
            ),
            TransactionPrepared.model_validate(
                {
                    **one,
                    "raw": "0x02",
                    "gas_limit": 90_000,
                    "max_fee_per_gas_wei": 2 * 10**9,
                    "max_priority_fee_per_gas_wei": 10**9,
                    "block_number": block - 1,
                }
            ),
            TransactionBroadcast.model_validate({**one, "block_number": block - 1}),
            TransactionIncluded.model_validate(
                {**one, **mined, "succeeded": True, "gas_used": 70_000}
            ),
            TransactionFinal.model_validate({**one, **mined, "succeeded": True}),
        ]
        self.facts += [(at + 0.4 * step, fact) for step, fact in enumerate(facts[:steps])]
        return nonce, tx


def life(
    number: int, at: float, lane: Lane, block: int, stage: int, pace: float, fiat: str | None = None
) -> Iterator[Told]:
    """A mint or a redeem up to `stage`: 0 received … 7 completed. `pace`: seconds of a step."""
    chain_id, user, minted = lane.chain_id, user_of(number), number % 4 != 0
    name = f"{digest('request', number)[2:10]}-{number:05d}"
    key = mint_key(name) if minted else redeem_key(chain_id, name)
    amount = (100 + number % 50) * TOKEN + number * 10**14
    seat = {
        "chain_id": chain_id,
        "block_number": block,
        "block_hash": digest("b", chain_id, block),
        "tx_hash": digest(key, "tx"),
        "log_index": number,
    }
    origin = f"evm.events/{chain_id % 12}/{number}"
    if minted:
        origin = f"kuro.events/{number % 12}/{number}"
        yield (
            at - 0.05,
            MintOk(
                request_id=name,
                user=user,
                amount=str(amount),
                fiat_ref=fiat or f"SEPA-{number:06d}",
                chain_id=chain_id,
                timestamp_ms=int(at * 1000),
                via=Via.SOCKET,
            ),
        )
    sealed = digest(key, "digest")
    happened = EventName.MINTED if minted else EventName.REDEEMED
    shared = {"request_key": key, "attempt": 1}
    steps: list[Fact] = [
        RequestReceived(
            request_key=key,
            request_id=name,
            type=RequestType.MINT if minted else RequestType.REDEEM,
            chain_id=chain_id,
            user=user,
            amount=str(amount),
            fiat_ref=(fiat or f"SEPA-{number:06d}") if minted else None,
            origin=origin,
        ),
        ApprovalDrafted(
            **shared,
            contract=CONTRACT,
            approval_nonce=number,
            deadline=int(at) + 86_400,
            digest=sealed,
        ),
        ApprovalSigned(**shared, digest=sealed, signature="0x" + "ab" * 65, signer=user_of(0)),
        RelayAssigned(**shared, wallet=wallet_of(chain_id)),
    ]
    if stage >= 4:
        begin = at + pace * 3
        nonce, tx = lane.relay(key, begin, block, {4: 3, 5: 4}.get(stage, 5))
        steps += [
            SubmissionReported(**shared, wallet=wallet_of(chain_id), nonce=nonce, tx_hash=tx),
            InclusionReported(
                **shared, tx_hash=tx, succeeded=True, block_number=block,
                block_hash=digest("b", chain_id, block),
            ),
        ]  # fmt: skip
    proof = EvidenceReported(request_key=key, event=happened, account=user, amount=amount, **seat)
    if stage >= 6:
        event = ContractEvent(
            **seat,
            block_timestamp=int(at),
            contract=CONTRACT,
            event=happened,
            request_id=name,
            account=user,
            amount=amount,
        )
        yield at + pace * 5.5, event
        done = RequestCompleted(
            request_key=key, seat=proof.seat, tx_hash=proof.tx_hash, block_number=block
        )
        steps += [proof, done]
    yield from ((at + pace * step, fact) for step, fact in enumerate(steps[: stage + 1]))


def rejected(number: int, at: float, chain_id: int) -> Iterator[Told]:
    name = f"bad-{number:05d}"
    yield (
        at,
        RequestReceived(
            request_key=name,
            request_id=name,
            type=RequestType.MINT,
            chain_id=chain_id,
            user="nobody",
            amount="1000000000000000000",
            fiat_ref=EVIL,
            origin=f"kuro.events/0/{number}",
        ),
    )
    yield (
        at + 0.2,
        RequestRejected(
            request_key=name, reason="INVALID_ADDRESS", detail=f"'nobody' is no address {EVIL}"
        ),
    )


def day(now: float, requests: int = 160, seed: int = 7) -> list[Told]:
    """The last 50 minutes, ending with some requests in every stage."""
    chance = random.Random(seed)
    lanes = {chain_id: Lane(chain_id) for chain_id in CHAINS}
    facts: list[Told] = []
    for lane in lanes.values():
        lane.open(now - 3100)
    begin = now - 3000
    for number in range(requests):
        lane = lanes[CHAINS[number % len(CHAINS)]]
        left = requests - number
        at = begin + (now - 60 - begin) * (number / requests) ** 0.8 + chance.random() * 5
        stage = 7 if left > 24 else chance.choice([0, 1, 2, 4, 4, 5, 5])
        pace = chance.lognormvariate(0.1, 0.5)
        if left <= 24:
            at = now - 40 + chance.random() * 10
        facts += life(number, at, lane, 1000 + number, stage, pace)
    for number in range(4):
        facts += rejected(number, now - 900 + 200 * number, CHAINS[0])
    for chain_id in CHAINS:
        for back in range(3):
            block = 1000 + requests + 10 - back
            told = BlocksFollowed(
                chain_id=chain_id,
                from_block=block,
                to_block=block,
                to_hash=digest("b", chain_id, block),
                to_timestamp=int(now) - back,
            )
            facts.append((now - back, told))
    aside = {**lanes[CHAINS[2]].who, "number": 1, "reason": "the balance covers no transaction"}
    facts.append((now - 30, WalletSetAside.model_validate(aside)))
    pause = WorkPaused(
        order="o-1", who="night shift", why=f"bridge repair {EVIL}", scope=f"chain:{CHAINS[1]}"
    )
    facts.append((now - 300, pause))
    letter = DeadLetter.of(DeadLetterReason.MALFORMED, "not JSON", b"{", origin="kuro.events/1/9")
    facts.append((now - 500, letter))
    for lane in lanes.values():
        facts += lane.facts
    return sorted(facts, key=lambda told: told[0])


def records(log: MemoryLog, facts: Iterable[Told]) -> list[RawRecord]:
    return [
        log.raw(topic_of(fact), partition_of(fact), encode_value(Record(fact, instant(at))))
        for at, fact in facts
    ]
