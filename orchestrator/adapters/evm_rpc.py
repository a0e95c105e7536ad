"""An EVM chain through its nodes: the Ethereum JSON-RPC methods that the service needs, typed.

Source of methods and fields: the Execution API specification (ethereum/execution-apis); quantities
are 0x hex without leading zeros. What a node answers is checked for its shape here; a misshapen
answer is RpcError(UNEXPECTED), never a KeyError in an agent.
"""

from __future__ import annotations

import asyncio
import copy
import re
from collections.abc import Callable, Sequence
from statistics import median_low
from typing import Any, TypeVar

from orchestrator.adapters.evm_endpoint import Answer
from orchestrator.adapters.evm_endpoints import Endpoints
from orchestrator.adapters.evm_heads import Sight
from orchestrator.core.bloom import bloom_of
from orchestrator.core.chain import Head, Receipt
from orchestrator.core.hashing import checksummed
from orchestrator.errors import RpcError, RpcProblem
from orchestrator.ports import Call, Log

FEE_HISTORY_BLOCKS = 10
FEE_HISTORY_PERCENTILE = 50

T = TypeVar("T")


class EvmNode:
    """`ports.ChainNode` over one or several http(s) URLs; the first one is preferred.

    `batch_size` calls share one HTTP request, `concurrency` requests run at a time. Holds no state
    of the chain, only the health of its URLs.
    """

    def __init__(
        self,
        chain_id: int,
        rpc_urls: Sequence[str],
        *,
        timeout_seconds: float = 10.0,
        batch_size: int = 100,
        concurrency: int = 8,
        fallback_priority_fee_wei: int = 10**9,
    ) -> None:
        self.chain_id = chain_id
        self._batch_size = batch_size
        self._fallback_priority_fee_wei = fallback_priority_fee_wei
        self._endpoints = Endpoints(
            chain_id,
            rpc_urls,
            timeout_seconds=timeout_seconds,
            batch_size=batch_size,
            concurrency=concurrency,
        )

    def __repr__(self) -> str:
        return f"EvmNode({self.chain_id}, {[endpoint.name for endpoint in self._endpoints.all]})"

    @property
    def sights(self) -> Sequence[Sight]:
        """What each URL showed of its head when they were last compared."""
        return self._endpoints.heads.sights

    def pinned(self) -> EvmNode:
        """See `ports.ChainNode`."""
        twin = copy.copy(self)
        twin._endpoints = self._endpoints.pinned()
        return twin

    async def check_chain(self) -> None:
        """Raises StartRefused when a URL serves another chain, RpcError when none answers."""
        await self._endpoints.check_chain()

    async def head(self) -> Head:
        """The newest block."""
        answer = await self._endpoints.one("eth_getBlockByNumber", "latest", False)
        return _read(_head, answer)

    async def block(self, number: int) -> Head | None:
        """None when no node has it yet."""
        answer = await self._endpoints.one("eth_getBlockByNumber", hex(number), False)
        block = None if answer is None else _read(_head, answer)
        if block is not None and block.number != number:
            text = f"asked for block {number}, the node answered block {block.number}"
            raise RpcError(RpcProblem.UNEXPECTED, text)
        return block

    async def headers(self, first: int, last: int) -> list[Head]:
        """Every block from `first` to `last`, each batch of them from one node. Raises RpcError;
        UNAVAILABLE when no node has all of a batch."""
        size = self._batch_size
        spans = [(at, min(at + size - 1, last)) for at in range(first, last + 1, size)]
        found = await asyncio.gather(
            *(self._headers(*span) for span in spans), return_exceptions=True
        )
        heads: list[Head] = []
        for part in found:
            if isinstance(part, BaseException):
                raise part
            heads += part
        return heads

    async def _headers(self, first: int, last: int) -> list[Head]:
        numbers = range(first, last + 1)
        answers = await self._endpoints.together(
            [("eth_getBlockByNumber", [hex(number), False]) for number in numbers],
            lambda answers: "lacks blocks of the range" if None in answers else None,
        )
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        heads = [_read(_head, answer) for answer in answers]
        if [head.number for head in heads] != list(numbers):
            raise RpcError(RpcProblem.UNEXPECTED, "the node answered other blocks than asked for")
        return heads

    async def has_block(self, number: int, block_hash: str) -> bool:
        """See `ports.ChainNode`. Nodes that contradict cool down while another has the block."""
        answers = await self._endpoints.everywhere(("eth_getBlockByNumber", [hex(number), False]))
        others = []
        found = False
        for endpoint, answer in answers:
            if answer is None or isinstance(answer, RpcError):
                continue
            if _read(_head, answer).hash == block_hash:
                found = True
            else:
                others.append(endpoint)
        if found:
            for endpoint in others:
                endpoint.contradicted()
        elif not others:
            raise RpcError(RpcProblem.UNAVAILABLE, f"no node shows its block {number}")
        return found

    async def logs(
        self, contract: str, topics: Sequence[str], first: int, last: int, *, again: int = 0
    ) -> list[Log]:
        """Logs of `contract` whose topic0 is one of `topics`, blocks `first` to `last` inclusive,
        in the order of the chain.

        A node that lags behind answers an empty list for blocks it has not seen, which would lose
        events for good; so the same node must show block `last` as well, and what it answers must
        be what was asked for. Raises RpcError: RANGE_TOO_LARGE, UNAVAILABLE, UNEXPECTED, ...
        """
        asked = {
            "address": contract,
            "topics": [list(topics)],
            "fromBlock": hex(first),
            "toBlock": hex(last),
        }
        block, found = await self._endpoints.together(
            [("eth_getBlockByNumber", [hex(last), False]), ("eth_getLogs", [asked])],
            lambda answers: None if answers[0] is not None else f"has no block {last} yet",
            skip=again,
        )
        for answer in (block, found):
            if isinstance(answer, RpcError):
                raise answer
        logs = sorted(_read(_logs, found), key=lambda log: (log.block_number, log.log_index))
        stray = next((log for log in logs if not _asked_for(log, contract, topics)), None)
        if stray or (logs and not first <= logs[0].block_number <= logs[-1].block_number <= last):
            raise RpcError(
                RpcProblem.UNEXPECTED,
                f"eth_getLogs answered what was not asked for (blocks {first} to {last} of "
                f"{contract})",
            )
        last_hash = _read(_head, block).hash
        if any(log.block_hash != last_hash for log in logs if log.block_number == last):
            text = f"block {last} was replaced while its logs were read"
            raise RpcError(RpcProblem.UNAVAILABLE, text)
        return logs

    async def logs_by_receipts(
        self, contract: str, topics: Sequence[str], block: Head
    ) -> list[Log]:
        """See `ports.ChainNode`. `eth_getBlockReceipts` reads what the node executed, not the index
        behind `eth_getLogs`; receipts whose filter is the header's are all there. The other URLs
        are asked where one does not know the method."""
        if block.logs_bloom is None:
            raise RpcError(RpcProblem.UNAVAILABLE, f"block {block.number} has no bloom filter")
        (found,) = await self._endpoints.together(
            [("eth_getBlockReceipts", [hex(block.number)])],
            lambda answers: _flaw_of_receipts(answers[0], block),
        )
        logs = sorted(_receipt_logs(found), key=lambda log: log.log_index)
        return [log for log in logs if _asked_for(log, contract, topics)]

    async def transaction_count(self, address: str, block: int | None = None) -> int:
        """The account's nonce at a block, or at the newest; the pool does not count."""
        answer = await self._endpoints.one("eth_getTransactionCount", address, _tag(block))
        return _read(_quantity, answer)

    async def estimate_gas(self, calls: Sequence[Call]) -> list[int | RpcError]:
        """Gas of each call on the pending block, so that calls see what this wallet and others have
        in the pool already: a request that is being processed reverts here, before gas is paid.

        Calls are independent of each other. A refusal is RpcError(REVERTED) with its reason.
        """
        answers = await self._endpoints.many(
            [("eth_estimateGas", [_call(call), "pending"]) for call in calls]
        )
        return [_read_item(_quantity, answer) for answer in answers]

    async def send_raw(self, raws: Sequence[str]) -> list[str | RpcError]:
        """Broadcast signed transactions; each answer is the hash or the refusal. ALREADY_KNOWN is
        as good as a hash; after UNAVAILABLE nothing is known.

        In the given order, batch after batch: a geth keeps no more than 64 transactions of an
        account whose earlier nonces it has not seen.
        """
        answers = await self._endpoints.in_order(
            [("eth_sendRawTransaction", [raw]) for raw in raws]
        )
        return [_read_item(_hash, answer) for answer in answers]

    async def receipts(self, tx_hashes: Sequence[str]) -> list[Receipt | None]:
        """None for a transaction that is in no block of the node. Raises RpcError when any of them
        could not be asked: an error must not look like an absent receipt."""
        answers = await self._endpoints.many(
            [("eth_getTransactionReceipt", [tx_hash]) for tx_hash in tx_hashes]
        )
        for answer in answers:
            if isinstance(answer, RpcError):
                raise answer
        receipts = [None if answer is None else _read(_receipt, answer) for answer in answers]
        for tx_hash, receipt in zip(tx_hashes, receipts, strict=True):
            if receipt is not None and receipt.tx_hash != tx_hash.lower():
                text = f"asked for the receipt of {tx_hash}, got that of {receipt.tx_hash}"
                raise RpcError(RpcProblem.UNEXPECTED, text)
        return receipts

    async def call(self, call: Call, block: int | None = None) -> str:
        """`eth_call` at a block, or at the newest. Raises RpcError(REVERTED) with the reason."""
        answer = await self._endpoints.one("eth_call", _call(call), _tag(block))
        return _read(_hex, answer)

    async def priority_fee(self) -> int:
        """Median over ten blocks of each block's median priority fee, wei, empty blocks left out
        (eth_feeHistory); without such blocks, what the node suggests (eth_maxPriorityFeePerGas);
        without that method, the configured fallback. Raises RpcError for trouble that passes."""
        try:
            history = await self._endpoints.one(
                "eth_feeHistory", hex(FEE_HISTORY_BLOCKS), "latest", [FEE_HISTORY_PERCENTILE]
            )
            rewards = _read(_rewards, history)
            if rewards:
                return median_low(rewards)
            suggested = await self._endpoints.one("eth_maxPriorityFeePerGas")
            return _read(_quantity, suggested)
        except RpcError as error:
            if error.problem is RpcProblem.UNEXPECTED:
                return self._fallback_priority_fee_wei
            raise

    async def gas_price(self) -> int:
        """Wei (eth_gasPrice)."""
        return _read(_quantity, await self._endpoints.one("eth_gasPrice"))

    async def balance(self, address: str) -> int:
        """Wei at the newest block."""
        return _read(_quantity, await self._endpoints.one("eth_getBalance", address, "latest"))

    async def close(self) -> None:
        await self._endpoints.close()


def _receipt_logs(answer: Any) -> list[Log]:
    return [log for receipt in list(answer) for log in _logs(receipt["logs"])]


def _flaw_of_receipts(answer: Answer, block: Head) -> str | None:
    """Why these are not all receipts of this very block."""
    if answer is None or isinstance(answer, RpcError):
        return f"shows no receipts of block {block.number}: {answer or 'it has none'}"
    try:
        logs = _read(_receipt_logs, answer)
    except RpcError as error:
        return str(error)
    if any(log.block_hash != block.hash for log in logs):
        return f"shows receipts of another block {block.number}"
    if bloom_of((log.address, log.topics) for log in logs) != block.logs_bloom:
        return f"shows receipts of block {block.number} that its bloom filter contradicts"
    return None


def _tag(block: int | None) -> str:
    return "latest" if block is None else hex(block)


def _call(call: Call) -> dict[str, str]:
    return {"from": call.sender, "to": call.to, "data": call.data}


def _read(reader: Callable[[Any], T], answer: Answer) -> T:
    """The typed answer. Raises RpcError(UNEXPECTED) for a misshapen one."""
    try:
        return reader(answer)
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        name = reader.__name__.removeprefix("_")
        raise RpcError(
            RpcProblem.UNEXPECTED, f"the node's {name} is misshapen ({type(error).__name__})"
        ) from None


def _read_item(reader: Callable[[Any], T], answer: Answer) -> T | RpcError:
    """Like `_read`, with the error in the answer's place."""
    if isinstance(answer, RpcError):
        return answer
    try:
        return _read(reader, answer)
    except RpcError as error:
        return error


_QUANTITY = re.compile(r"0x[0-9a-fA-F]{1,64}")
_BYTES = re.compile(r"0x(?:[0-9a-fA-F]{2})*")
_HASH = re.compile(r"0x[0-9a-fA-F]{64}")
_BLOOM = re.compile(r"0x[0-9a-fA-F]{512}")


def _matched(pattern: re.Pattern[str], answer: Any) -> str:
    if not pattern.fullmatch(answer):
        raise ValueError(f"does not match {pattern.pattern}")
    return str(answer).lower()


def _quantity(answer: Any) -> int:
    """0x hex to int; anything else raises, a JSON number too."""
    return int(_matched(_QUANTITY, answer), 16)


def _hex(answer: Any) -> str:
    return _matched(_BYTES, answer)


def _hash(answer: Any) -> str:
    return _matched(_HASH, answer)


def _asked_for(log: Log, contract: str, topics: Sequence[str]) -> bool:
    wanted = {topic.lower() for topic in topics}
    return log.address.lower() == contract.lower() and not wanted.isdisjoint(log.topics[:1])


def _head(answer: Any) -> Head:
    base_fee, bloom = answer.get("baseFeePerGas"), answer.get("logsBloom")
    return Head(
        number=_quantity(answer["number"]),
        hash=_hash(answer["hash"]),
        parent_hash=_hash(answer["parentHash"]),
        timestamp=_quantity(answer["timestamp"]),
        base_fee_wei=None if base_fee is None else _quantity(base_fee),
        logs_bloom=None if bloom is None else int(_matched(_BLOOM, bloom), 16),
    )


def _logs(answer: Any) -> list[Log]:
    """Logs that a reorganisation removed are left out."""
    return [
        Log(
            address=checksummed(item["address"]),
            topics=tuple(_hash(topic) for topic in item["topics"]),
            data=_hex(item["data"]),
            block_number=_quantity(item["blockNumber"]),
            block_hash=_hash(item["blockHash"]),
            tx_hash=_hash(item["transactionHash"]),
            log_index=_quantity(item["logIndex"]),
        )
        for item in list(answer)
        if not item.get("removed")
    ]


def _receipt(answer: Any) -> Receipt:
    return Receipt(
        tx_hash=_hash(answer["transactionHash"]),
        block_number=_quantity(answer["blockNumber"]),
        block_hash=_hash(answer["blockHash"]),
        succeeded=_quantity(answer["status"]) == 1,
        gas_used=_quantity(answer["gasUsed"]),
    )


def _rewards(answer: Any) -> list[int]:
    """The asked percentile's priority fee of each block that was not empty."""
    used = answer["gasUsedRatio"]
    rewards = answer.get("reward") or []
    return [_quantity(reward[0]) for reward, ratio in zip(rewards, used, strict=False) if ratio > 0]
