"""Several URLs of one chain as if they were one node: chain-id check, batches, failover.

Failing over is safe for every call that is made here, sending included: the signed bytes are the
same, so a second node takes them, knows them, or finds their nonce spent.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Sequence
from contextlib import suppress

import aiohttp
import structlog

from orchestrator.adapters.evm_endpoint import Answer, BatchRefused, Endpoint, Request
from orchestrator.adapters.evm_heads import Heads
from orchestrator.errors import RETRYABLE, RpcError, RpcProblem, StartRefused
from orchestrator.metrics import RPC_ERRORS, RPC_SECONDS, timed

log = structlog.get_logger(__name__)

Complaint = Callable[[Sequence[Answer]], str | None]
"""Why answers that belong together are not to be used, or None."""


class Endpoints:
    """`batch_size` calls go into one HTTP request, `concurrency` requests run at a time."""

    def __init__(
        self,
        chain_id: int,
        urls: Sequence[str],
        *,
        timeout_seconds: float,
        batch_size: int,
        concurrency: int,
    ) -> None:
        if not urls:
            raise ValueError("at least one URL is needed")
        self.chain_id = chain_id
        self.all = [
            Endpoint(number, url, batch_size=batch_size) for number, url in enumerate(urls, 1)
        ]
        self._batch_size = batch_size
        self._timeout = aiohttp.ClientTimeout(
            total=timeout_seconds, sock_connect=min(3.0, timeout_seconds)
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._session: aiohttp.ClientSession | None = None
        self.heads = Heads(chain_id, self.all, self._asked)
        self._binding: asyncio.Lock | None = None
        self._pinned: Endpoint | None = None

    def pinned(self) -> Endpoints:
        """The same URLs, their health shared; but the one that answers first answers everything
        else too, and when it fails, nobody stands in for it: the next pin tries the others first.
        Not to be closed by itself."""
        self._opened()
        twin = copy.copy(self)
        twin._binding, twin._pinned = asyncio.Lock(), None
        return twin

    async def close(self) -> None:
        await self.heads.close()
        if self._session is not None:
            await self._session.close()

    async def check_chain(self) -> None:
        """Ask every URL for its chain id. Raises StartRefused for a wrong one, and RpcError when
        none answers. An unreachable URL is tolerated while another works; it is asked before use.
        """
        answers = await asyncio.gather(
            *(self._trouble_of(endpoint) for endpoint in self.all), return_exceptions=True
        )
        troubles = [answer for answer in answers if isinstance(answer, RpcError)]
        for answer in answers:
            if isinstance(answer, BaseException) and answer not in troubles:
                raise answer
        for trouble in troubles:
            log.warning("node unreachable", chain_id=self.chain_id, reason=str(trouble))
        if len(troubles) == len(self.all):
            raise troubles[0]

    async def one(self, method: str, *parameters: object) -> Answer:
        """The result of one call. Raises RpcError."""
        answer = (await self._failing_over([(method, list(parameters))]))[0]
        if isinstance(answer, RpcError):
            raise answer
        return answer

    async def many(self, requests: Sequence[Request]) -> list[Answer]:
        """Each result, or its RpcError, at its request's place. Never raises RpcError."""
        chunks = _chunks(requests, self._batch_size)
        answers = await asyncio.gather(*(self._failing_over(chunk) for chunk in chunks))
        return [answer for chunk in answers for answer in chunk]

    async def in_order(self, requests: Sequence[Request]) -> list[Answer]:
        """Like `many`, one batch after the other; when a batch gets no answer at all, those behind
        it are not sent and have the same error."""
        answers: list[Answer] = []
        for chunk in _chunks(requests, self._batch_size):
            found = await self._failing_over(chunk)
            answers += found
            if all(_is_retryable(answer) for answer in found):
                break
        return answers + answers[-1:] * (len(requests) - len(answers))

    async def together(
        self, requests: Sequence[Request], complaint: Complaint, *, skip: int = 0
    ) -> list[Answer]:
        """Like `many`, but all answers come from the same URL, and from the next one when there is
        a `complaint`; the first `skip` URLs that are well are asked last. Raises
        RpcError(UNAVAILABLE) with the last complaint."""
        if self._binding is None or self._pinned is not None:
            return await self._together(requests, complaint, skip)
        async with self._binding:
            return await self._together(requests, complaint, skip)

    async def _together(
        self, requests: Sequence[Request], complaint: Complaint, skip: int
    ) -> list[Answer]:
        worst = RpcError(RpcProblem.UNAVAILABLE, "no node answered")
        candidates = self._candidates()
        skip %= len(candidates)
        for endpoint in candidates[skip:] + candidates[:skip]:
            answers = await self._asked(endpoint, requests)
            trouble = next((found for found in answers if _is_retryable(found)), None)
            if trouble is None:
                reason = complaint(answers)
                if reason is None:
                    self._bind(endpoint)
                    return answers
                trouble = RpcError(RpcProblem.UNAVAILABLE, f"{endpoint.name}: {reason}")
                log.info("node behind", chain_id=self.chain_id, reason=trouble.detail)
            worst = trouble
        self._pin_broke()
        raise worst

    async def everywhere(self, request: Request) -> list[tuple[Endpoint, Answer]]:
        """What each URL says, also one that cools down; its chain id is asked anew first. An error
        stands in its place. Raises nothing."""
        for endpoint in self.all:
            endpoint.verified = False
        answers = await asyncio.gather(*(self._asked(endpoint, [request]) for endpoint in self.all))
        return [(endpoint, found[0]) for endpoint, found in zip(self.all, answers, strict=True)]

    async def _failing_over(self, requests: Sequence[Request]) -> list[Answer]:
        """Ask one URL after the other for what is still to be had; a pin only until one answered
        any of it. What is asked of a pin at the same time waits until it is known whom to ask."""
        if self._binding is None or self._pinned is not None:
            return await self._over(requests)
        async with self._binding:
            return await self._over(requests)

    async def _over(self, requests: Sequence[Request]) -> list[Answer]:
        answers: list[Answer] = [None] * len(requests)
        open_places = list(range(len(requests)))
        for endpoint in self._candidates():
            found = await self._asked(endpoint, [requests[place] for place in open_places])
            for place, answer in zip(open_places, found, strict=True):
                answers[place] = answer
            if not all(_is_retryable(answer) for answer in found):
                self._bind(endpoint)
            open_places = [place for place in open_places if _is_retryable(answers[place])]
            if not open_places:
                return answers
            if self._pinned is not None:
                break
        self._pin_broke()
        return answers

    def _bind(self, endpoint: Endpoint) -> None:
        if self._binding is not None:
            self._pinned = endpoint

    def _pin_broke(self) -> None:
        if self._pinned is not None:
            self._pinned.left_halfway()

    def _candidates(self) -> list[Endpoint]:
        """The URLs that are well, in the configured order, those that fall behind the others last;
        when none is well, the one that cools down first: somebody has to be asked. A pin is not
        given to one that left another pin halfway while there are others: it would answer the first
        question again, for ever."""
        if self._pinned is not None:
            return [self._pinned]
        self.heads.look()
        now = time.monotonic()
        well = [endpoint for endpoint in self.all if endpoint.cool_until <= now]
        well.sort(key=self.heads.is_set_back)
        if self._binding is not None:
            well.sort(key=lambda endpoint: endpoint.doubt)
        return well or [min(self.all, key=lambda endpoint: endpoint.cool_until)]

    async def _asked(self, endpoint: Endpoint, requests: Sequence[Request]) -> list[Answer]:
        """Every answer of one URL; its health follows from them."""
        try:
            trouble = await self._trouble_of(endpoint)
        except StartRefused as wrong_chain:
            log.error("node of another chain", chain_id=self.chain_id, reason=str(wrong_chain))
            trouble = RpcError(RpcProblem.UNAVAILABLE, str(wrong_chain))
        if trouble is not None:
            return [trouble] * len(requests)
        answers = await self._batched(endpoint, requests)
        trouble = next((answer for answer in answers if _is_limit(answer)), None)
        if trouble is not None or all(_is_retryable(answer) for answer in answers):
            self._note_failure(endpoint, trouble or answers[0])
        else:
            endpoint.succeeded()
        return answers

    async def _trouble_of(self, endpoint: Endpoint) -> RpcError | None:
        """None for a URL that serves our chain. Raises StartRefused for another chain's."""
        if endpoint.verified:
            return None
        [answer] = await self._counted(endpoint, [("eth_chainId", [])])
        if isinstance(answer, RpcError):
            self._note_failure(endpoint, answer)
            return answer
        found = None
        with suppress(TypeError, ValueError):
            found = int(answer, 16)
        if found != self.chain_id:
            endpoint.failed()
            raise StartRefused(
                f"{endpoint.name} serves chain {found}, not {self.chain_id}: correct the RPC URL"
            )
        endpoint.verified = True
        return None

    def _note_failure(self, endpoint: Endpoint, error: RpcError) -> None:
        endpoint.failed()
        log.info("node trouble", chain_id=self.chain_id, node=endpoint.name, reason=str(error))

    async def _batched(self, endpoint: Endpoint, requests: Sequence[Request]) -> list[Answer]:
        """One batch; after a refusal halves of it, down to single calls."""
        limit = endpoint.batch_limit
        if len(requests) > limit:
            parts = _chunks(requests, limit)
            found = await asyncio.gather(*(self._batched(endpoint, part) for part in parts))
            return [answer for part in found for answer in part]
        try:
            return await self._counted(endpoint, requests)
        except BatchRefused as refusal:
            log.warning(
                "batch refused",
                chain_id=self.chain_id,
                node=endpoint.name,
                size=len(requests),
                reason=str(refusal),
            )
            endpoint.refuse_batches_above(len(requests) // 2)
            return await self._batched(endpoint, requests)

    async def _counted(self, endpoint: Endpoint, requests: Sequence[Request]) -> list[Answer]:
        """One HTTP request, with its time and its errors counted. Raises BatchRefused."""
        methods = {method for method, _ in requests}
        label = methods.pop() if len(methods) == 1 else "batch"
        async with self._slots:
            session = self._opened()
            with timed(RPC_SECONDS, self.chain_id, label):
                if len(requests) == 1:
                    answers = [await endpoint.single(session, requests[0])]
                else:
                    try:
                        answers = await endpoint.batch(session, requests)
                    except RpcError as error:
                        answers = [error] * len(requests)
        for (method, _), answer in zip(requests, answers, strict=True):
            if isinstance(answer, RpcError):
                RPC_ERRORS.labels(str(self.chain_id), method, answer.problem).inc()
        return answers

    def _opened(self) -> aiohttp.ClientSession:
        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=self._timeout, connector=aiohttp.TCPConnector(limit=0)
            )
        return self._session


def _chunks(requests: Sequence[Request], size: int) -> list[Sequence[Request]]:
    return [requests[start : start + size] for start in range(0, len(requests), size)]


def _is_retryable(answer: Answer) -> bool:
    return isinstance(answer, RpcError) and answer.problem in RETRYABLE


def _is_limit(answer: Answer) -> bool:
    return isinstance(answer, RpcError) and answer.problem is RpcProblem.RATE_LIMITED
