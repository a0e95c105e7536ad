"""Signing: every drafted approval gets its signature from KMS.

The intent (the digest) is on the log before KMS is asked. A kill after KMS answered and before the
append leaves the request DRAFTED: the next owner asks again for the same digest.

Nothing is signed that the policy in force has not cleared, as of a look at the end of `controls`
that began together with the question to KMS: what an order of meanwhile forbids is thrown away. Its
decider recalls it, and the order of the two facts on the log decides.

Before that, the conservation gate looks for the fact that the approval rests on, in a fold of its
own. Where there is a guard, it has the digest on its record before KMS is asked, and its refusal
stands against everything else: it judges by that record, not by the log.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from orchestrator.core.asking import unjudged
from orchestrator.core.guarding import Entry
from orchestrator.core.lifecycle import Stage
from orchestrator.core.objections import Objection
from orchestrator.core.owing import Sign, pending
from orchestrator.core.terms import Terms
from orchestrator.errors import GuardUnavailable, LogUnavailable, SigningError
from orchestrator.metrics import GATE_REFUSALS, GUARD_REFUSALS
from orchestrator.ports import ApprovalSigner, LogWriter, Message, SigningGuard
from schemas.base import RequestType
from schemas.controls import OrderFact, RetryOrdered, WorkResumed
from schemas.requests import ApprovalSigned
from schemas.topics import REQUESTS
from streams.books import Book
from streams.conserving import Gate
from streams.controls import Controls, heard
from streams.retrying import Backoff, awoken

log = structlog.get_logger(__name__)

REFUSED_SECONDS = 10.0
"""Between two questions about a digest that the guard refused; an operator's retry asks at once."""


class SigningDesk:
    """Owns some partitions of `requests`; asks KMS for at most `concurrency` signatures at once."""

    def __init__(
        self,
        book: Book,
        writer: LogWriter,
        signer: ApprovalSigner,
        terms: Terms,
        concurrency: int,
        controls: Controls,
        guard: SigningGuard | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._book = book
        self._writer = writer
        self._signer = signer
        self._terms = terms
        self._controls = controls
        self._guard = guard
        self.refused: dict[str, str] = {}
        """Requests that the guard keeps from being signed, and why: each is an alarm."""
        self._overtaken: set[str] = set()
        self._gate = gate
        self.objected: dict[str, Objection] = {}
        """The same of the conservation gate."""
        self._slots = asyncio.Semaphore(concurrency)
        self._awake = asyncio.Event()
        self._underway: dict[str, asyncio.Task[None]] = {}
        self._delivered: dict[str, int] = {}
        self._held: set[str] = set()
        self._hurries: dict[str, asyncio.Event] = {}
        self.problem: str | None = None

    async def own(self, partitions: set[int]) -> None:
        """The gate hears of all that was signed here before anything else is."""
        await self._book.own(partitions, None if self._gate is None else self._gate.approved)
        self._delivered.clear()
        self._held.clear()
        self.refused.clear()
        self._overtaken.clear()
        self.objected.clear()
        self._awake.set()

    def hear(self, order: OrderFact | None) -> None:
        """An order came: a retry wakes its request's signature out of its backoff, and what was
        held is considered again."""
        if isinstance(order, RetryOrdered) and order.request_key in self._hurries:
            self._hurries[order.request_key].set()
        if isinstance(order, WorkResumed):
            for bell in self._hurries.values():
                bell.set()
        self._book.touched |= self._held
        self._held.clear()
        self._awake.set()

    async def read(self, messages: Sequence[Message]) -> None:
        """Fold a batch of `requests`. The deciding role dead-letters what the fold refuses."""
        await self._book.read(messages)
        self._awake.set()

    async def run(self) -> None:
        """Start a signature for whatever owes one; until cancelled. None while partitions are
        replayed: what is drafted there may be signed, or given up, in the part to come."""
        try:
            while True:
                await self._awake.wait()
                await self._book.ready()
                self._awake.clear()
                keys, self._book.touched = self._book.touched, set()
                for key in sorted(keys):
                    self._consider(key)
        finally:
            for task in self._underway.values():
                task.cancel()

    def _consider(self, key: str) -> None:
        owed = self._owed(key)
        if owed is None:
            self._delivered.pop(key, None)
            self._forgive(key)
            self.objected.pop(key, None)
            return
        if key in self._underway or self._delivered.get(key) == owed.attempt:
            return
        if not self._trustworthy(owed) or self._is_held(owed) or self._is_unjudged(owed):
            return
        task = asyncio.create_task(self._sign(owed), name=f"sign {key}")
        self._underway[key] = task
        task.add_done_callback(lambda done: self._ended(key, done))

    def _ended(self, key: str, task: asyncio.Task[None]) -> None:
        """What came to be owed meanwhile, such as the next attempt's signature, is considered."""
        self._underway.pop(key, None)
        self._hurries.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            self._book.touched.add(key)
            self._awake.set()

    def _owed(self, key: str) -> Sign | None:
        state = self._book.state(key)
        if state is None or state.stage is not Stage.DRAFTED:
            return None  # all else that may be owed is the deciding role's
        item = pending(state, self._terms)
        return item if isinstance(item, Sign) else None

    def _is_held(self, owed: Sign) -> bool:
        """Asked right before KMS is. What is held is considered again when an order comes."""
        key = owed.request_key
        if self._controls.holds(owed.approval.chain_id, request_key=key) is None:
            return False
        self._held.add(key)
        return True

    def _is_unjudged(self, owed: Sign) -> bool:
        """Another policy cleared it than the one in force, or none did. Considered again when the
        request has moved, and when an order comes."""
        state = self._book.state(owed.request_key)
        if state is None or not unjudged(state, self._controls.policy):
            return False
        self._held.add(owed.request_key)
        _about(owed).info("not to be signed", reason="the policy in force has not cleared it")
        return True

    def _trustworthy(self, owed: Sign) -> bool:
        """The digest on the log must be that of the approval on the log, for the contract that is
        configured: nothing else is ever sent to KMS."""
        terms = self._terms.chains.get(owed.approval.chain_id)
        problem = None
        if terms is None or terms.contract != owed.approval.contract:
            problem = "the draft names a contract that is not configured for its chain"
        elif terms.profile.digest(owed.approval) != owed.digest:
            problem = "the drafted digest is not the digest of the drafted approval"
        if problem:
            _about(owed).error("refusing to sign", reason=problem)
            self.problem = f"{owed.request_key}: {problem}"
        return problem is None

    async def _sign(self, owed: Sign) -> None:
        backoff = Backoff(longest_seconds=10)
        hurry = self._hurries.setdefault(owed.request_key, asyncio.Event())
        since = asyncio.get_running_loop().time()
        while True:
            await self._book.ready()
            if self._owed(owed.request_key) != owed:
                return
            try:
                if not self._conserved(owed, since, hurry):
                    await awoken(hurry, REFUSED_SECONDS)
                    continue
                if not await self._guarded(owed):
                    if self._owed(owed.request_key) == owed:
                        await awoken(hurry, REFUSED_SECONDS)
                    continue
                async with self._slots:
                    if not self._book.is_ready:
                        continue
                    if self._owed(owed.request_key) != owed or self._is_held(owed):
                        return
                    if self._is_unjudged(owed):
                        return
                    if not self._conserved(owed, since, hurry):
                        continue
                    signature, address = await self._signature(owed)
                if self._is_unjudged(owed):
                    _about(owed).warning("signature thrown away", digest=owed.digest)
                    return
                fact = ApprovalSigned(
                    request_key=owed.request_key,
                    attempt=owed.attempt,
                    digest=owed.digest,
                    signature=signature,
                    signer=address,
                )
                await self._writer.append(REQUESTS, [fact])
                _about(owed).debug("fact appended", fact=fact)
            except (SigningError, GuardUnavailable, LogUnavailable) as error:
                self.problem = str(error)
                _about(owed).warning("no signature yet", reason=str(error))
                await backoff.sleep(hurry)
                continue
            self.problem = None
            self._delivered[owed.request_key] = owed.attempt
            return

    async def _signature(self, owed: Sign) -> tuple[str, str]:
        """And its address. Of a mint, all is read meanwhile that operators had ordered when KMS was
        asked; and once more, where this process slept so long that what it read may be of long ago.
        Raises SigningError, LogUnavailable."""
        if owed.approval.type is not RequestType.MINT:
            return await self._signer.sign(owed.digest), await self._signer.address()
        looking = asyncio.create_task(self._controls.caught_up(), name="look at controls")
        looking.add_done_callback(heard)
        try:
            signature = await self._signer.sign(owed.digest)
            await looking
        finally:
            looking.cancel()
        if self._controls.stale() is not None:
            await self._controls.caught_up()
        return signature, await self._signer.address()

    def _conserved(self, owed: Sign, since: float, hurry: asyncio.Event) -> bool:
        """True when the gate lets it pass. What it objects to is asked again when more was read."""
        if self._gate is None:
            return True
        key = owed.request_key
        found = self._gate.judge(key, owed.approval, owed.digest, since)
        before = self.objected.pop(key, None)
        if found is None:
            return True
        if not found.alarming:
            self._gate.wakes(hurry)
            _about(owed).debug("not to be signed yet", reason=found.detail)
            return False
        self.objected[key] = found
        if before is None or before.kind is not found.kind:
            GATE_REFUSALS.labels(found.kind).inc()
            _about(owed).error(
                "the gate refuses a signature",
                attempt=owed.attempt,
                digest=owed.digest,
                kind=found.kind.value,
                reason=found.detail,
            )
        self.problem = f"{key}: the conservation gate refuses its signature: {found.detail}"
        return False

    async def _guarded(self, owed: Sign) -> bool:
        """True once the guard has the digest on its record. What it refuses is asked again now and
        then: the other digest dies with its deadline. Raises GuardUnavailable.

        No alarm is what is not owed any more when the answer comes, nor the first refusal of an
        attempt that others went past while this process slept: it reads on before it asks again."""
        if self._guard is None:
            return True
        refusal = await self._guard.claim(self._entry(owed))
        key = owed.request_key
        if refusal is None:
            self._forgive(key)
            return True
        if not self._book.is_ready or self._owed(key) != owed:
            _about(owed).info("not to be signed any more", reason=refusal.detail)
            return False
        if not refusal.alarming:
            _about(owed).info("not to be signed yet", reason=refusal.detail)
        elif refusal.overtaken and key not in self._overtaken:
            self._overtaken.add(key)
            _about(owed).warning("a later attempt is signed already", reason=refusal.detail)
        elif self.refused.get(key) != refusal.detail:
            self.refused[key] = refusal.detail
            GUARD_REFUSALS.labels(refusal.kind).inc()
            _about(owed).error(
                "the guard refuses a signature",
                attempt=owed.attempt,
                digest=owed.digest,
                kind=refusal.kind.value,
                reason=refusal.detail,
            )
        self.problem = f"{key}: the guard refuses its signature: {refusal.detail}"
        return False

    def _forgive(self, key: str) -> None:
        self.refused.pop(key, None)
        self._overtaken.discard(key)

    def _entry(self, owed: Sign) -> Entry:
        approval = owed.approval
        profile = self._terms.chains[approval.chain_id].profile
        return Entry(
            request_key=owed.request_key,
            digest=owed.digest,
            attempt=owed.attempt,
            chain_id=approval.chain_id,
            contract=approval.contract,
            contract_id=profile.contract_id(approval.request_id),
            account=approval.account,
            amount=approval.amount,
            nonce=approval.nonce,
            deadline=approval.deadline,
            proof=owed.proof if profile.sequential else None,
        )


def _about(owed: Sign) -> structlog.stdlib.BoundLogger:
    bound: structlog.stdlib.BoundLogger = log.bind(
        request=owed.request_key, chain_id=owed.approval.chain_id
    )
    return bound
