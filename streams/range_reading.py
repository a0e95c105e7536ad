"""Reading a range of blocks whole: its headers, linked to each other, and all logs in them.

Nodes answer `eth_getLogs` from an index of their own, which may lag behind their blocks, be cut
short, or be lost, and then the answer is a shorter list, never an error. So each block's bloom
filter is asked whether a log is missing. A filter may only err by showing too much, hence in this
order: ask another node, then read the block's receipts (not from that index, and complete by the
filter itself), and when no node can show receipts either, ask a few times more and accept, counted.

What is not seen: a node that leaves out some of several logs with the same topic in one block.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import structlog

from orchestrator.core.bloom import masks_of, may_hold
from orchestrator.core.chain import Head
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import ChainNode, Log

log = structlog.get_logger(__name__)

DOUBTS_BEFORE_ACCEPTING = 6
"""So often a block is asked for anew (by the follower's delays about ten seconds in all)."""
CUT_SHORT_FROM = 1_000
"""Providers that cut answers silently do so at this many logs or more; then the last block of the
answer is asked for by itself, since its filter cannot tell that it is half there."""

LARGEST_MEMORY = 10_000
"""Doubts about blocks that were replaced meanwhile are forgotten beyond this many."""


@dataclass(frozen=True, slots=True)
class Section:
    """Blocks without a gap, and the logs in them, in the order of the chain."""

    headers: list[Head]
    logs: list[Log]


class RangeReader:
    """`read` raises RpcError: RANGE_TOO_LARGE for the caller to ask for less, UNAVAILABLE to ask
    again. Counts: `missed` logs that a first answer lacked, `accepted` doubts that stayed."""

    def __init__(self, node: ChainNode, contract: str, topics: Sequence[str]) -> None:
        self.missed = 0
        self.accepted = 0
        self._node = node
        self._contract = contract
        self._topics = list(topics)
        self._masks = masks_of(contract, topics)
        self._doubted: dict[str, int] = {}
        self._log = log.bind(chain_id=node.chain_id)

    async def read(self, first: int, last: int, branch: ChainNode) -> Section:
        """`branch` is the one node that told the head: the headers are its own, so that they are as
        deep below that head as they seem. Logs may come from any node: they fit by block hash."""
        try:
            logs = await self._first_answer(first, last)
        except RpcError as error:
            if error.problem is not RpcProblem.RANGE_TOO_LARGE or first < last:
                raise
            return await self._by_receipts(first, branch)
        headers = await branch.headers(first, last)
        _check_links(headers, first, last)
        by_number = {head.number: head for head in headers}
        found = self._fitting(logs, by_number)
        doubtful = self._doubtful(headers, found)
        if doubtful:
            await self._ask_again(first, last, found, by_number)
            await self._settle(self._doubtful(doubtful, found), found, by_number)
        return Section(headers, [found[seat] for seat in sorted(found)])

    async def _first_answer(self, first: int, last: int) -> list[Log]:
        logs = await self._node.logs(self._contract, self._topics, first, last)
        if len(logs) >= CUT_SHORT_FROM and first < last:
            end = logs[-1].block_number
            alone = await self._node.logs(self._contract, self._topics, end, end, again=1)
            return [*(entry for entry in logs if entry.block_number != end), *alone]
        return logs

    async def _ask_again(
        self,
        first: int,
        last: int,
        found: dict[tuple[int, int], Log],
        headers: dict[int, Head],
    ) -> None:
        """Another node, which may refuse a single block that the first one took."""
        try:
            more = await self._node.logs(self._contract, self._topics, first, last, again=1)
        except RpcError as error:
            if error.problem is not RpcProblem.RANGE_TOO_LARGE or first < last:
                raise
        else:
            self._add(found, self._fitting(more, headers))

    async def _by_receipts(self, number: int, branch: ChainNode) -> Section:
        """One block that has more logs than a node gives at a time."""
        headers = await branch.headers(number, number)
        logs = await self._node.logs_by_receipts(self._contract, self._topics, headers[0])
        found = self._fitting(logs, {number: headers[0]})
        return Section(headers, [found[seat] for seat in sorted(found)])

    def _fitting(self, logs: Sequence[Log], headers: dict[int, Head]) -> dict[tuple[int, int], Log]:
        """By block and index. Raises UNAVAILABLE for logs of other blocks than the headers, or that
        a filter excludes; a filter of zero above logs is that of a chain that keeps none."""
        for entry in logs:
            head = headers[entry.block_number]
            if head.hash != entry.block_hash:
                raise _trouble(f"logs and headers of block {head.number} differ: the chain moves")
            mask = self._masks.get(entry.topics[0].lower() if entry.topics else "", 0)
            if head.logs_bloom and not may_hold(head.logs_bloom, mask):
                raise _trouble(f"a log in block {head.number} is excluded by its bloom filter")
        return {(entry.block_number, entry.log_index): entry for entry in logs}

    def _doubtful(self, headers: Sequence[Head], found: dict[tuple[int, int], Log]) -> list[Head]:
        """Blocks whose filter shows an event of ours that no answer holds."""
        there = {(entry.block_hash, entry.topics[0].lower()) for entry in found.values()}
        return [
            head
            for head in headers
            if head.logs_bloom
            and any(
                may_hold(head.logs_bloom, mask) and (head.hash, topic) not in there
                for topic, mask in self._masks.items()
            )
        ]

    def _add(self, found: dict[tuple[int, int], Log], more: dict[tuple[int, int], Log]) -> None:
        fresh = more.keys() - found.keys()
        if fresh:
            self.missed += len(fresh)
            self._log.warning(
                "a node left out logs", blocks=sorted({seat[0] for seat in fresh})[:10]
            )
            found.update(more)

    async def _settle(
        self,
        doubtful: Sequence[Head],
        found: dict[tuple[int, int], Log],
        headers: dict[int, Head],
    ) -> None:
        """Each by its receipts. Raises UNAVAILABLE while any is open that may yet be settled."""
        open_: list[str] = []
        for head in doubtful:
            try:
                logs = await self._node.logs_by_receipts(self._contract, self._topics, head)
            except RpcError as error:
                asked = self._doubted[head.hash] = self._doubted.get(head.hash, 0) + 1
                if asked < DOUBTS_BEFORE_ACCEPTING:
                    open_.append(f"block {head.number} ({error.detail})")
                continue
            self._add(found, self._fitting(logs, headers))
        if open_:
            text = f"{len(open_)} blocks may hold events that no node shows: {open_[0]}"
            raise _trouble(text)
        for head in doubtful:
            if self._doubted.pop(head.hash, 0) >= DOUBTS_BEFORE_ACCEPTING:
                self.accepted += 1
                self._log.error(
                    "a doubt about missing logs stays", block=head.number, block_hash=head.hash
                )
        if len(self._doubted) > LARGEST_MEMORY:
            self._doubted.clear()


def _check_links(headers: Sequence[Head], first: int, last: int) -> None:
    if [head.number for head in headers] != list(range(first, last + 1)):
        raise _trouble(f"headers {first} to {last} are not all there")
    for before, after in pairwise(headers):
        if after.parent_hash != before.hash:
            raise _trouble(f"block {after.number} does not continue block {before.number}")


def _trouble(text: str) -> RpcError:
    return RpcError(RpcProblem.UNAVAILABLE, text)
