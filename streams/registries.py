"""Asking the KYC registries, chain by chain, at a final block. Each chain is asked by a task of its
own: one that does not answer keeps nobody waiting but those whom it is about.

Level-triggered: who is to be asked about is given anew at each pass, and what was answered for
somebody who no longer waits is dropped. Why a registry cannot be asked is kept as long as it holds;
after `PATIENCE_SECONDS` it is no longer waited for, and those whom it is about are held.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

import structlog

from orchestrator.config import ChainConfig
from orchestrator.core.chain import Head
from orchestrator.core.clearing import Held
from orchestrator.core.registry import answer_of, calldata
from orchestrator.errors import RpcError, RpcProblem, StartRefused
from orchestrator.ports import Call, ChainNode
from schemas.policies import DETAIL_LENGTH, AccountVerified, ClearanceRequested

log = structlog.get_logger(__name__)

AT_ONCE = 64
"""Recipients that a registry is asked about in one look."""
LOOK_EVERY_SECONDS = 1.0
"""How soon a registry that could not be asked is asked again."""
LOOK_AGAIN_SECONDS = 15.0
"""How often a registry is asked once more about whom it does not verify."""
LONGEST_LOOK_SECONDS = 10.0
PATIENCE_SECONDS = 10.0
"""A registry that could not be asked for so long is no longer waited for."""

Chains = Mapping[int, tuple[ChainConfig, ChainNode]]


@dataclass(frozen=True, slots=True)
class Unasked:
    """`since`: the loop's time."""

    since: float
    reason: str


def _now() -> float:
    return asyncio.get_running_loop().time()


class Registries:
    """`newest`: by chain, the newest final block that stands on the log as one that a registry was
    asked at; no older one is taken. `ready` is called when a look is over."""

    def __init__(
        self, chains: Chains, newest: Callable[[int], int], ready: Callable[[], None]
    ) -> None:
        self.unasked: dict[int, Unasked] = {}
        """Chains whose registry cannot be asked, and why."""
        self._chains = chains
        self._newest = newest
        self._ready = ready
        self._looks: dict[int, asyncio.Task[None]] = {}
        self._looked: dict[int, float] = {}
        self._again: dict[str, float] = {}
        self._answers: list[AccountVerified] = []

    @property
    def given_up(self) -> dict[int, str]:
        """Those that are no longer waited for."""
        late = _now() - PATIENCE_SECONDS
        return {chain: found.reason for chain, found in self.unasked.items() if found.since <= late}

    def taken(self) -> list[AccountVerified]:
        """What was answered since."""
        answers, self._answers = self._answers, []
        return answers

    def consider(self, asking: Sequence[ClearanceRequested], doubtful: Sequence[Held]) -> None:
        """Begin to ask about these, where it is time to. What was answered is taken before."""
        now = _now()
        by_chain: dict[int, list[tuple[ClearanceRequested, bool | None, bool]]] = defaultdict(list)
        for ask in asking:
            by_chain[ask.chain_id].append((ask, None, False))
        held = {one.ask.request_key: one for one in doubtful}
        self._again = {key: self._again.get(key, now) for key in held}
        for key in sorted(held, key=lambda key: (self._again[key], key)):
            one = held[key]
            if self._again[key] + LOOK_AGAIN_SECONDS <= now or one.ask.chain_id in self.unasked:
                by_chain[one.ask.chain_id].append((one.ask, one.told.verified, True))
        about = {one.ask.chain_id for one in doubtful} | set(by_chain)
        for chain_id in set(self.unasked) - about - set(self._looks):
            del self.unasked[chain_id]
        for chain_id, items in by_chain.items():
            waits = chain_id in self.unasked
            late = self._looked.get(chain_id, float("-inf")) + LOOK_EVERY_SECONDS
            if chain_id not in self._looks and (late <= now or not waits):
                self._begin(chain_id, items[:AT_ONCE])

    def _begin(
        self, chain_id: int, items: list[tuple[ClearanceRequested, bool | None, bool]]
    ) -> None:
        now = self._looked[chain_id] = _now()
        self._again.update({ask.request_key: now for ask, _, later in items if later})
        task = asyncio.create_task(self._look(chain_id, items), name=f"registry {chain_id}")
        self._looks[chain_id] = task
        task.add_done_callback(lambda done: self._ended(chain_id, done))

    def _ended(self, chain_id: int, task: asyncio.Task[None]) -> None:
        if self._looks.get(chain_id) is task:
            del self._looks[chain_id]
        if not task.cancelled() and task.exception() is not None:
            self._unasked(chain_id, repr(task.exception()))
        self._ready()

    async def _look(
        self, chain_id: int, items: Iterable[tuple[ClearanceRequested, bool | None, bool]]
    ) -> None:
        try:
            async with asyncio.timeout(LONGEST_LOOK_SECONDS):
                found = await self._ask_chain(chain_id, [(ask, late) for ask, _, late in items])
        except (RpcError, StartRefused) as error:
            self._unasked(chain_id, str(error))
            return
        except TimeoutError:
            self._unasked(chain_id, f"no answer within {LONGEST_LOOK_SECONDS:.0f} s")
            return
        if self.unasked.pop(chain_id, None) is not None:
            log.info("the registry answers again", chain_id=chain_id)
        before = {ask.request_key: verified for ask, verified, _ in items}
        self._answers += [
            fact
            for fact in found
            if not fact.later or fact.verified is not before[fact.request_key]
        ]

    def _unasked(self, chain_id: int, reason: str) -> None:
        known = self.unasked.get(chain_id)
        if known is None or known.reason != reason:
            log.warning("mints wait for the registry", chain_id=chain_id, reason=reason)
        since = self._looked[chain_id] if known is None else known.since
        self.unasked[chain_id] = Unasked(since, reason[:DETAIL_LENGTH])

    async def _ask_chain(
        self, chain_id: int, asks: Sequence[tuple[ClearanceRequested, bool]]
    ) -> list[AccountVerified]:
        chain, node = self._chains.get(chain_id, (None, None))
        if chain is None or node is None or chain.registry.address is None:
            raise RpcError(
                RpcProblem.UNAVAILABLE,
                f"the policy asks for a registry, and KYC_REGISTRY_CONTRACT_ADDRESS_{chain_id} "
                "is not set where the relay role runs",
            )
        await node.check_chain()
        pinned = node.pinned()
        head = await pinned.head()
        final = await pinned.block(max(0, head.number - chain.confirmations))
        if final is None or final.number < self._newest(chain_id):
            raise RpcError(RpcProblem.UNAVAILABLE, "the node lags behind the log")
        return list(
            await asyncio.gather(*(self._ask(chain, pinned, ask, final, at) for ask, at in asks))
        )

    async def _ask(
        self, chain: ChainConfig, node: ChainNode, ask: ClearanceRequested, final: Head, later: bool
    ) -> AccountVerified:
        registry, function = chain.registry
        assert registry is not None
        detail = None
        try:
            data = await node.call(
                Call(ask.account, registry, calldata(function, ask.account)), final.number
            )
            verified = answer_of(data)
        except RpcError as error:
            if error.problem is not RpcProblem.REVERTED:
                raise
            verified, detail = False, f"it reverted: {error}"[:DETAIL_LENGTH]
        if verified is None:
            raise RpcError(RpcProblem.UNEXPECTED, no_bool(registry, function, data))
        return AccountVerified(
            request_key=ask.request_key,
            ticket=ask.ticket,
            chain_id=chain.chain_id,
            account=ask.account,
            registry=registry,
            function=function,
            verified=verified,
            block_number=final.number,
            block_hash=final.hash,
            later=later,
            detail=detail,
        )

    async def close(self) -> None:
        for task in list(self._looks.values()):
            task.cancel()
        await asyncio.gather(*self._looks.values(), return_exceptions=True)


def no_bool(registry: str, function: str, data: str) -> str:
    """Why what was answered is no answer."""
    if data in ("", "0x"):
        return f"there is no contract with {function} at {registry}: it answered nothing"
    return f"registry {registry} gave no bool: {function} answered {data[:80]}"
