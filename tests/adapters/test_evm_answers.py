"""`EvmNode` believes no answer that is not what it asked for."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from orchestrator.adapters import evm_rpc
from orchestrator.errors import RpcError, RpcProblem

from .fake_node import (
    ADDRESS,
    HASH,
    OTHER_HASH,
    TOPIC,
    block,
    good_node,
    log,
    node_over,
)


class TestLogs:
    async def fetched(self, *logs: Any, last: int = 9) -> list[tuple[int, int]]:
        fake = good_node(eth_getLogs=lambda _filter: list(logs))
        fake.methods["eth_getBlockByNumber"] = lambda tag, full: block(int(tag, 16))
        async with node_over(fake) as node:
            found = await node.logs(ADDRESS, [TOPIC], 1, last)
            return [(log.block_number, log.log_index) for log in found]

    async def test_sorted_without_removed(self) -> None:
        logs = [log(5, 3), log(4, 9), log(5, 1), log(5, 2, removed=True)]
        assert await self.fetched(*logs) == [(4, 9), (5, 1), (5, 3)]

    @pytest.mark.parametrize(
        "stray",
        [
            log(10),
            log(0),
            log(5, address="0x" + "12" * 20),
            log(5, topics=["0x" + "22" * 32]),
            log(5, topics=[]),
            log(5, blockHash=None),
            log(5, logIndex=None),
            {},
            None,
            "log",
        ],
    )
    async def test_what_was_not_asked_for_is_refused(self, stray: Any) -> None:
        with pytest.raises(RpcError) as caught:
            await self.fetched(log(5), stray)
        assert caught.value.problem is RpcProblem.UNEXPECTED

    async def test_a_node_that_lags_behind_is_not_believed(self) -> None:
        """It has no block 9 and so answers an empty list; the second node has both."""
        behind = good_node(eth_getLogs=lambda _filter: [])
        behind.methods["eth_getBlockByNumber"] = lambda tag, full: None
        abreast = good_node(eth_getLogs=lambda _filter: [log(5)])
        async with node_over(behind, abreast) as node:
            assert len(await node.logs(ADDRESS, [TOPIC], 1, 9)) == 1
        async with node_over(behind) as node:
            with pytest.raises(RpcError) as caught:
                await node.logs(ADDRESS, [TOPIC], 1, 9)
            assert caught.value.problem is RpcProblem.UNAVAILABLE

    async def test_a_block_replaced_between_the_answers(self) -> None:
        with pytest.raises(RpcError) as caught:
            await self.fetched(log(9, blockHash=OTHER_HASH))
        assert caught.value.problem is RpcProblem.UNAVAILABLE

    async def test_a_range_that_is_too_large(self) -> None:
        text = "query returned more than 10000 results"
        fake = good_node(eth_getLogs=lambda _: {"error": {"code": -32005, "message": text}})
        async with node_over(fake) as node:
            with pytest.raises(RpcError) as caught:
                await node.logs(ADDRESS, [TOPIC], 1, 9)
            assert caught.value.problem is RpcProblem.RANGE_TOO_LARGE


@pytest.mark.parametrize(
    ("change", "wrong"),
    [("number", None), ("hash", "0x12"), ("timestamp", 7), ("parentHash", "0x" + "zz" * 32)],
)
async def test_misshapen_blocks(change: str, wrong: object) -> None:
    fake = good_node()
    fake.methods["eth_getBlockByNumber"] = lambda tag, full: {**block(), change: wrong}
    async with node_over(fake) as node:
        with pytest.raises(RpcError) as caught:
            await node.head()
        assert caught.value.problem is RpcProblem.UNEXPECTED


async def test_another_block_or_receipt_than_asked_for() -> None:
    receipt = {
        "transactionHash": OTHER_HASH,
        "blockNumber": "0x1",
        "blockHash": HASH,
        "status": "0x1",
        "gasUsed": "0x5208",
    }
    fake = good_node(eth_getTransactionReceipt=lambda tx_hash: receipt)
    async with node_over(fake) as node:
        assert (await node.receipts([OTHER_HASH]))[0] is not None
        for asking in (node.receipts([HASH]), node.block(6)):
            with pytest.raises(RpcError) as caught:
                await asking
            assert caught.value.problem is RpcProblem.UNEXPECTED


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just("0x1"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.fixed_dictionaries({}, optional=dict.fromkeys((*block(), *log()), inner))
    ),
    max_leaves=12,
)
READERS = ["_head", "_logs", "_receipt", "_rewards", "_quantity", "_hex", "_hash"]


@given(st.sampled_from(READERS), json_values)
def test_any_json_is_read_or_refused(reader: str, answer: object) -> None:
    """No answer of a node raises anything but RpcError."""
    try:
        evm_rpc._read(getattr(evm_rpc, reader), answer)
    except RpcError as error:
        assert error.problem is RpcProblem.UNEXPECTED


async def test_a_failed_receipt_is_not_an_absent_one() -> None:
    busy = {"error": {"code": -32603, "message": "internal error"}}
    fake = good_node()
    fake.methods["eth_getTransactionReceipt"] = lambda tx: None if tx == HASH else busy
    async with node_over(fake) as node:
        assert await node.receipts([HASH]) == [None]
        with pytest.raises(RpcError) as caught:
            await node.receipts([HASH, OTHER_HASH])
        assert caught.value.problem is RpcProblem.UNAVAILABLE


@pytest.mark.parametrize(
    ("history", "suggested", "expected"),
    [
        ({"reward": [["0x5"], ["0x9"], ["0x7"]], "gasUsedRatio": [0.5, 0.1, 1]}, "0x1", 7),
        ({"reward": [["0x0"], ["0x9"], ["0x0"]], "gasUsedRatio": [0, 0.1, 0]}, "0x1", 9),
        ({"reward": [["0x0"]], "gasUsedRatio": [0]}, "0x3", 3),
        ({"gasUsedRatio": [0.5]}, "0x3", 3),
        ({"nonsense": 1}, "0x3", 42),
        (None, "0x3", 42),
        ({"reward": [["0x0"]], "gasUsedRatio": [0]}, None, 42),
    ],
)
async def test_priority_fee(history: Any, suggested: Any, expected: int) -> None:
    fake = good_node(eth_feeHistory=lambda *_: history, eth_maxPriorityFeePerGas=lambda: suggested)
    async with node_over(fake, fallback_priority_fee_wei=42) as node:
        assert await node.priority_fee() == expected


async def test_priority_fee_without_either_method() -> None:
    async with node_over(good_node(), fallback_priority_fee_wei=42) as node:
        assert await node.priority_fee() == 42
