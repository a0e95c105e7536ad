"""The conservation gate: what stands between a draft on the log and the guard and KMS.

It reads `kuro.events` and `evm.events` from their start into a ledger of its own
(`core.conserving`) and asks no database and no node. A view that is behind makes what is asked of
it wait, never pass. What the follower finds of a chain's own supply (`streams.supply`) counts as
soon as it is read; that nobody has compared it lately is told, and makes signatures wait only
where a setting demands comparisons. A doubt about a chain becomes a pause on `controls` that every
role obeys and a person settles; the gate keeps to the doubt itself, whatever became of the pause.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping

import structlog

from orchestrator.core.conserving import Ledger, NameOf
from orchestrator.core.contract import Approval
from orchestrator.core.objections import Doubt, Objection, ObjectionKind, exceeded, standing
from orchestrator.errors import LogUnavailable
from orchestrator.ports import LogWriter, Message, TopicsReader
from schemas.base import UnreadableRecord
from schemas.controls import WorkPaused, supply_scope
from schemas.evm import SupplyCompared
from schemas.topics import CONTROLS, EVM_EVENTS, KURO_EVENTS, TOPICS
from streams.controls import Controls
from streams.retrying import Backoff

log = structlog.get_logger(__name__)

WHO = "the conservation gate"
STALE_SECONDS = 5.0


def _now() -> float:
    return asyncio.get_running_loop().time()


class Gate:
    """`judge` is asked right before each signature; `run` reads until cancelled."""

    def __init__(
        self,
        reader: TopicsReader,
        writer: LogWriter,
        controls: Controls,
        names: Mapping[int, NameOf],
        compared_within_seconds: float = 0,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`compared_within_seconds`: nothing is signed for a chain whose supply was not compared
        for longer, by `clock` (Unix seconds) and the time of the comparison's append; 0 demands
        none."""
        self.chains = tuple(names)
        self.ledger = Ledger(names)
        self.read_facts = 0
        self._reader = reader
        self._writer = writer
        self._controls = controls
        self._places: dict[tuple[str, int], int] = {}
        self._begun_at: float | None = None
        self._complete_at: float | None = None
        """All that stood on the log at that time is folded."""
        self._compared_within_seconds = compared_within_seconds
        self._clock = clock
        self._began_at = clock()
        self._compared_at: dict[int, float] = {}
        self._held_back = False
        """It was told that signatures wait for the gate."""
        self._stale: set[int] = set()
        """Chains of which it was told that signatures wait for a comparison."""
        self._noticed: dict[str, float] = {}
        self._raised: dict[str, Doubt] = {}
        self._told: set[str] = set()
        self._bells: dict[asyncio.Event, None] = {}

    def judge(
        self, request_key: str, approval: Approval, digest: str, since: float
    ) -> Objection | None:
        """None when it may be signed: it counts as approved from now on. `since` is when it was
        first seen to be owed; what rests on facts that are missing is told when all that stood on
        the log then has been read."""
        complete_at = self._complete_at
        if complete_at is None or _now() - complete_at > STALE_SECONDS:
            return self._behind()
        doubt = standing(self.doubts, approval.chain_id, self._controls.state.settled)
        if doubt is not None:
            return Objection(ObjectionKind.IN_DOUBT, doubt.why)
        if self.awaits_comparison(approval.chain_id):
            return self._uncompared(approval.chain_id)
        self._stale.discard(approval.chain_id)
        found = self.ledger.judge(request_key, approval, self._controls.state.settled)
        if found is not None and found.kind is ObjectionKind.EXCEEDED_IN_TOTAL and self.unsettled:
            why = f"{self.unsettled[0].why}; with it, the total exceeds what facts cover"
            return Objection(ObjectionKind.IN_DOUBT, why)
        if found is None:
            self._raised.pop(digest, None)
            self.ledger.approve(approval)
        elif found.alarming and complete_at <= since:
            return Objection(ObjectionKind.NOT_READ, f"to be read again: {found.detail}")
        elif found.kind is ObjectionKind.EXCEEDED:
            self._raised.setdefault(digest, exceeded(request_key, approval, digest))
        return found

    def _behind(self) -> Objection:
        age = self.read_age_seconds
        since = "yet" if age is None else f"for {age:.0f} s"
        why = f"the conservation gate has not read the log to its end {since}"
        if not self._held_back:
            self._held_back = True
            log.warning("signatures wait", reason=why)
        return Objection(ObjectionKind.NOT_READ, why)

    def compared_age_seconds(self, chain_id: int) -> float | None:
        """None before the chain's supply was compared."""
        at = self._compared_at.get(chain_id)
        return None if at is None else max(0.0, self._clock() - at)

    def unproven_seconds(self, chain_id: int) -> float:
        """The same; before the first comparison, since this process began."""
        age = self.compared_age_seconds(chain_id)
        return max(0.0, self._clock() - self._began_at) if age is None else age

    def awaits_comparison(self, chain_id: int) -> bool:
        """Whether signatures for the chain wait until its supply is compared."""
        within, age = self._compared_within_seconds, self.compared_age_seconds(chain_id)
        return within > 0 and (age is None or age > within)

    def _uncompared(self, chain_id: int) -> Objection:
        age = self.compared_age_seconds(chain_id)
        since = "yet" if age is None else f"for {age:.0f} s"
        why = f"totalSupply of chain {chain_id} was not compared with the log {since}"
        if chain_id not in self._stale:
            self._stale.add(chain_id)
            log.warning("signatures wait", chain_id=chain_id, reason=why)
        return Objection(ObjectionKind.NOT_COMPARED, why)

    def approved(self, approvals: Iterable[Approval]) -> None:
        """Signed before this process came to own them."""
        for approval in approvals:
            self.ledger.approve(approval)

    @property
    def doubts(self) -> list[Doubt]:
        return [*self.ledger.doubts(), *self._raised.values()]

    @property
    def unsettled(self) -> list[Doubt]:
        settled = self._controls.state.settled
        return [doubt for doubt in self.doubts if doubt.order not in settled]

    @property
    def read_age_seconds(self) -> float | None:
        """None before the log was read to its end."""
        return None if self._complete_at is None else max(0.0, _now() - self._complete_at)

    @property
    def unread_seconds(self) -> float | None:
        """As `read_age_seconds`; before the first time, since it began to read."""
        since = self._begun_at if self._complete_at is None else self._complete_at
        return None if since is None else max(0.0, _now() - since)

    def wakes(self, bell: asyncio.Event) -> None:
        """Ring it once when more has been read."""
        self._bells[bell] = None

    async def run(self) -> None:
        backoff = Backoff(longest_seconds=2)
        self._begun_at = _now()
        while True:
            begun = _now()
            try:
                async for batch in self._reader.follow((KURO_EVENTS, EVM_EVENTS), self._places):
                    for message in batch:
                        self._fold(message)
                    await asyncio.sleep(0)
                    if not batch:
                        self._complete(begun)
                        await self._declare()
                        begun = _now()
                        backoff.reset()
                    self._ring()
            except LogUnavailable as error:
                log.warning("the conservation gate cannot read the log", reason=str(error))
            await backoff.sleep()

    def _fold(self, message: Message) -> None:
        place = (message.topic, message.partition)
        if message.offset < self._places.get(place, 0):
            return
        self._places[place] = message.offset + 1
        try:
            record = TOPICS[message.topic].decode(message.value)
        except UnreadableRecord:  # the deciding role dead-letters it
            return
        fact = record.fact
        if message.key != fact.key.encode():
            return
        self.ledger.fold(fact)
        self.read_facts += 1
        if isinstance(fact, SupplyCompared):
            counts = self.ledger.supplies[fact.chain_id].compared is fact
            if counts:
                self._compared_at[fact.chain_id] = record.at_seconds

    def _complete(self, asked_at: float) -> None:
        if self._complete_at is None:
            log.info("the conservation gate has read the log", facts=self.read_facts)
        self._complete_at = asked_at
        self._held_back = False

    def _ring(self) -> None:
        bells, self._bells = self._bells, {}
        for bell in bells:
            bell.set()

    async def _declare(self) -> None:
        """Pause what is in doubt. A doubt counts when all that stood on the log when it was noticed
        has been read: topics are not read at one pace, and its fact may come with the next look."""
        doubts = {doubt.order: doubt for doubt in self.doubts}
        self._noticed = {order: self._noticed.get(order, _now()) for order in doubts}
        assert self._complete_at is not None
        for order, doubt in doubts.items():
            late = self._noticed[order] < self._complete_at and doubt.settleable
            if not late or order in self._told or order in self._controls.state.orders:
                continue
            scope = supply_scope(doubt.chain_id)
            fact = WorkPaused(order=order, who=WHO, why=doubt.why, scope=scope)
            await self._writer.append(CONTROLS, [fact])
            self._told.add(order)
            log.error("signing is paused", chain_id=doubt.chain_id, reason=doubt.why)
