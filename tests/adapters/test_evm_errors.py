"""Every row of the table of node texts, by texts as nodes send them."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from eth_abi.abi import encode
from eth_utils.crypto import keccak
from hypothesis import given
from hypothesis import strategies as st

import orchestrator.dev
from orchestrator.adapters.evm_errors import TABLE, classify, classify_http
from orchestrator.adapters.evm_reverts import KNOWN_ERRORS, LONGEST_DETAIL, revert_data
from orchestrator.errors import RpcProblem

P = RpcProblem

SEEN = [
    ("geth", -32000, "already known", P.ALREADY_KNOWN),
    ("reth", -32000, "already known", P.ALREADY_KNOWN),
    ("reth", -32000, "replacement transaction underpriced", P.REPLACEMENT_UNDERPRICED),
    ("reth", -32000, "nonce too low: next nonce 5, tx nonce 3", P.NONCE_TOO_LOW),
    ("reth", -32000, "transaction underpriced", P.UNDERPRICED),
    (
        "reth",
        -32000,
        "insufficient funds for gas * price + value: have 0 want 21000",
        P.INSUFFICIENT_FUNDS,
    ),
    ("reth", -32000, "intrinsic gas too low", P.GAS_TOO_LOW),
    ("reth", 3, "execution reverted: paused", P.REVERTED),
    ("erigon", -32000, "nonce too low", P.NONCE_TOO_LOW),
    (
        "erigon",
        -32000,
        "INTERNAL_ERROR: insufficient funds for gas * price + value",
        P.INSUFFICIENT_FUNDS,
    ),
    ("erigon", -32000, "INTERNAL_ERROR: intrinsic gas too low", P.GAS_TOO_LOW),
    ("erigon", 3, "execution reverted", P.REVERTED),
    ("anvil", -32003, "nonce too low", P.NONCE_TOO_LOW),
    ("anvil", -32003, "replacement transaction underpriced", P.REPLACEMENT_UNDERPRICED),
    ("anvil", 3, "execution reverted: custom error 0x12345678", P.REVERTED),
    ("besu", -32000, "Execution reverted", P.REVERTED),
    ("nethermind", -32010, "Invalid, intrinsic gas too low", P.GAS_TOO_LOW),
    ("anvil", -32003, "transaction already imported", P.ALREADY_KNOWN),
    (
        "openethereum",
        -32010,
        "Transaction with the same hash was already imported.",
        P.ALREADY_KNOWN,
    ),
    ("nethermind", -32010, "AlreadyKnown", P.ALREADY_KNOWN),
    ("besu", -32000, "Known transaction", P.ALREADY_KNOWN),
    ("old geth", -32000, "known transaction: 6f1c…", P.ALREADY_KNOWN),
    ("erigon", -32000, "INTERNAL_ERROR: existing tx with same hash", P.ALREADY_KNOWN),
    ("geth", -32000, "replacement transaction underpriced", P.REPLACEMENT_UNDERPRICED),
    (
        "geth",
        -32000,
        "replacement transaction underpriced: new tx gas fee cap 1 <= 1 queued",
        P.REPLACEMENT_UNDERPRICED,
    ),
    (
        "besu",
        -32000,
        "Replacement transaction is under the price bump",
        P.REPLACEMENT_UNDERPRICED,
    ),
    ("erigon", -32000, "could not replace existing tx", P.REPLACEMENT_UNDERPRICED),
    ("nethermind", -32010, "ReplacementNotAllowed", P.REPLACEMENT_UNDERPRICED),
    ("nethermind", -32010, "OwnNonceAlreadyUsed", P.REPLACEMENT_UNDERPRICED),
    (
        "openethereum",
        -32010,
        "Transaction gas price supplied is too low. There is another transaction with same nonce "
        "in the queue. Try increasing the gas price or incrementing the nonce.",
        P.REPLACEMENT_UNDERPRICED,
    ),
    ("geth", -32000, "nonce too low: next nonce 5, tx nonce 3", P.NONCE_TOO_LOW),
    ("besu", -32001, "Nonce too low", P.NONCE_TOO_LOW),
    ("openethereum", -32010, "Transaction nonce is too low.", P.NONCE_TOO_LOW),
    (
        "nethermind",
        -32010,
        "OldNonce, Current nonce: 5, nonce of rejected tx: 3.",
        P.NONCE_TOO_LOW,
    ),
    (
        "zksync",
        3,
        "a transaction with a nonce lower than 5 has already been included",
        P.NONCE_TOO_LOW,
    ),
    ("geth", -32000, "nonce too high: address 0x00, tx: 9 state: 5", P.NONCE_TOO_HIGH),
    (
        "besu",
        -32006,
        "Transaction nonce is too distant from current sender nonce",
        P.NONCE_TOO_HIGH,
    ),
    ("nethermind", -32010, "NonceGap, Future nonce. Expected nonce: 5", P.NONCE_TOO_HIGH),
    (
        "besu",
        -32000,
        "An invalid transaction with a lower nonce exists",
        P.NONCE_TOO_HIGH,
    ),
    ("geth", -32000, "future transaction tries to replace pending", P.NONCE_TOO_HIGH),
    ("geth", -32000, "gapped-nonce tx from delegated accounts", P.NONCE_TOO_HIGH),
    (
        "geth",
        -32000,
        "insufficient funds for gas * price + value: balance 0, tx cost 21000",
        P.INSUFFICIENT_FUNDS,
    ),
    (
        "anvil",
        -32003,
        "Insufficient funds for gas * price + value",
        P.INSUFFICIENT_FUNDS,
    ),
    (
        "nethermind",
        -32010,
        "InsufficientFunds, Account balance: 0, cumulative cost: 21000",
        P.INSUFFICIENT_FUNDS,
    ),
    ("besu", -32004, "Upfront cost exceeds account balance", P.INSUFFICIENT_FUNDS),
    (
        "geth",
        -32000,
        "transaction underpriced: gas tip cap 0, minimum needed 1",
        P.UNDERPRICED,
    ),
    (
        "anvil",
        -32003,
        "max fee per gas less than block base fee",
        P.UNDERPRICED,
    ),
    (
        "erigon",
        -32000,
        "fee cap less than block base fee: address 0x00, gasFeeCap: 1 baseFee: 7",
        P.UNDERPRICED,
    ),
    ("erigon", -32000, "underpriced", P.UNDERPRICED),
    ("erigon", -32000, "fee too low", P.UNDERPRICED),
    ("nethermind", -32010, "FeeTooLow, MaxFeePerGas too low.", P.UNDERPRICED),
    ("nethermind", -32010, "FeeTooLowToCompete", P.UNDERPRICED),
    ("besu", -32009, "Gas price below configured minimum gas price", P.UNDERPRICED),
    ("besu", -32009, "gas price below current base fee", P.UNDERPRICED),
    ("openethereum", -32010, "Transaction gas price is too low.", P.UNDERPRICED),
    ("geth", -32000, "intrinsic gas too low: gas 1, minimum needed 21000", P.GAS_TOO_LOW),
    (
        "geth",
        -32000,
        "insufficient gas for floor data gas cost: gas 21000, minimum needed 21040",
        P.GAS_TOO_LOW,
    ),
    ("anvil", -32003, "gas floor 31000 exceeds the gas limit 30000", P.GAS_TOO_LOW),
    ("besu", -32003, "Intrinsic gas exceeds gas limit", P.GAS_TOO_LOW),
    ("geth", -32000, "out of gas", P.GAS_TOO_LOW),
    ("geth", -32000, "exceeds block gas limit", P.GAS_TOO_HIGH),
    ("besu", -32005, "Transaction gas limit exceeds block gas limit", P.GAS_TOO_HIGH),
    (
        "anvil",
        -32000,
        "intrinsic gas too high -- tx.gas_limit > env.block.gas_limit",
        P.GAS_TOO_HIGH,
    ),
    ("geth", -32000, "transaction gas limit too high (cap: 16777216)", P.GAS_TOO_HIGH),
    ("geth", -32000, "gas required exceeds allowance (30000000)", P.GAS_TOO_HIGH),
    ("nethermind", -32010, "GasLimitExceeded, Gas limit: 1", P.GAS_TOO_HIGH),
    ("geth", 3, "execution reverted: paused", P.REVERTED),
    ("geth", -32000, "execution reverted", P.REVERTED),
    ("nethermind", -32015, "VM execution error.", P.REVERTED),
    ("geth", -32000, "invalid opcode: INVALID", P.REVERTED),
    (
        "Infura",
        -32005,
        "query returned more than 10000 results. Try with this block range [0x1, 0x2].",
        P.RANGE_TOO_LARGE,
    ),
    ("reth", -32602, "query exceeds max block range 100000", P.RANGE_TOO_LARGE),
    ("reth", -32602, "query exceeds max results 20000, retry with …", P.RANGE_TOO_LARGE),
    ("PublicNode", -32701, "exceed maximum block range: 50000", P.RANGE_TOO_LARGE),
    (
        "besu",
        -32005,
        "Requested range exceeds maximum RPC range limit",
        P.RANGE_TOO_LARGE,
    ),
    (
        "nethermind",
        -32005,
        "Too many logs requested. Max logs per response is 20000.",
        P.RANGE_TOO_LARGE,
    ),
    (
        "Alchemy",
        -32602,
        "Log response size exceeded. You can make eth_getLogs requests with …",
        P.RANGE_TOO_LARGE,
    ),
    ("QuickNode", -32614, "eth_getLogs is limited to a 10,000 range", P.RANGE_TOO_LARGE),
    (
        "1RPC",
        -32602,
        "eth_getLogs is limited to 0 - 10000 blocks range",
        P.RANGE_TOO_LARGE,
    ),
    ("Ankr", -32600, "block range is too wide", P.RANGE_TOO_LARGE),
    ("LlamaNodes", -32600, "range is too large, max is 1k blocks", P.RANGE_TOO_LARGE),
    ("Chainstack", -32000, "Block range limit exceeded.", P.RANGE_TOO_LARGE),
    (
        "dRPC",
        35,
        "ranges over 10000 blocks are not supported on freetier",
        P.RANGE_TOO_LARGE,
    ),
    ("Blast", -32600, "block range greater than 10000 max", P.RANGE_TOO_LARGE),
    ("reth", -32008, "Response is too big", P.RANGE_TOO_LARGE),
    ("proxyd", -32020, "backend response too large", P.RANGE_TOO_LARGE),
    (
        "Alchemy",
        -32000,
        "Query timeout exceeded. Consider reducing your block range.",
        P.RANGE_TOO_LARGE,
    ),
    ("provider", -32005, "rate limit exceeded", P.RATE_LIMITED),
    ("provider", -32007, "50/second request limit reached", P.RATE_LIMITED),
    ("Infura", -32005, "daily request count exceeded, request rate limited", P.RATE_LIMITED),
    ("provider", -32005, "monthly quota is exceeded", P.RATE_LIMITED),
    (
        "Alchemy",
        429,
        "Your app has exceeded its compute units per second capacity.",
        P.RATE_LIMITED,
    ),
    ("geth", -32000, "txpool is full", P.RATE_LIMITED),
    ("erigon", -32000, "pending sub-pool is full", P.RATE_LIMITED),
    (
        "geth",
        -32000,
        "in-flight transaction limit reached for delegated accounts",
        P.RATE_LIMITED,
    ),
    ("geth", -32000, "header not found", P.UNAVAILABLE),
    ("reth", -32001, "block not found: 0x64", P.UNAVAILABLE),
    ("nethermind", -32001, "100 could not be found", P.UNAVAILABLE),
    (
        "anvil",
        -32602,
        "BlockOutOfRangeError: block height is 1 but requested was 10",
        P.UNAVAILABLE,
    ),
    (
        "geth",
        -32000,
        "block range extends beyond current head block",
        P.UNAVAILABLE,
    ),
    ("geth", -32000, "missing trie node 00… (path )", P.UNAVAILABLE),
    ("geth", -32002, "request timed out", P.UNAVAILABLE),
    ("geth", -32000, "context deadline exceeded", P.UNAVAILABLE),
    ("nethermind", -32000, "Node is syncing", P.UNAVAILABLE),
    ("proxyd", -32011, "no backend is currently healthy: upstream", P.UNAVAILABLE),
    ("jsonrpsee", -32603, "Internal error", P.UNAVAILABLE),
    ("any", -32603, "something odd", P.UNAVAILABLE),
    ("any", -32005, "something odd", P.RATE_LIMITED),
    ("any", 3, "something odd", P.REVERTED),
    ("any", -32601, "the method eth_odd does not exist", P.UNEXPECTED),
    ("any", -32602, "invalid argument 0: hex string has odd length", P.UNEXPECTED),
    ("any", None, "", P.UNEXPECTED),
]


@pytest.mark.parametrize(("who", "code", "text", "expected"), SEEN)
def test_texts(who: str, code: int | None, text: str, expected: RpcProblem) -> None:
    error = classify(code, text)
    assert error.problem is expected, (who, error)
    assert classify(code, text.upper()).problem is expected


SIX = ("geth", "erigon", "nethermind", "besu", "reth", "anvil")
EACH = (
    P.ALREADY_KNOWN,
    P.REPLACEMENT_UNDERPRICED,
    P.NONCE_TOO_LOW,
    P.UNDERPRICED,
    P.INSUFFICIENT_FUNDS,
    P.GAS_TOO_LOW,
    P.REVERTED,
)


@pytest.mark.parametrize("problem", EACH)
@pytest.mark.parametrize("node", SIX)
def test_each_node_has_a_text_for_each_refusal(node: str, problem: RpcProblem) -> None:
    """What a lane must tell apart, in the words of each of the six clients."""
    told = [text for who, _, text, expected in SEEN if (who, expected) == (node, problem)]
    assert told, f"no text of {node} for {problem}"


def test_every_row_is_reached() -> None:
    """A row that an earlier one always hides would be dead; no row is without an example."""

    def first(text: str) -> str | None:
        text = text.removeprefix("INTERNAL_ERROR: ")
        return next(
            (row.pattern for row in TABLE if re.search(row.pattern, text, re.IGNORECASE)), None
        )

    reached = {first(text) for _, _, text, _ in SEEN}
    assert [row for row in TABLE if row.pattern not in reached] == []


def revert(signature: str, *arguments: object) -> str:
    types = [part for part in signature.partition("(")[2].rstrip(")").split(",") if part]
    return "0x" + (keccak(text=signature)[:4] + encode(types, arguments)).hex()


CUT_SHORT = revert("RequestAlreadyProcessed(string)", "m-1")[:20]
SIGNER = "0x00000000000000000000000000000000000a11ce"

REVERTS = [
    (revert("Error(string)", "Pausable: paused"), "Pausable: paused"),
    (revert("Panic(uint256)", 0x11), "Panic(0x11): arithmetic overflow or underflow"),
    (revert("RequestAlreadyProcessed(string)", "m-1"), 'RequestAlreadyProcessed("m-1")'),
    (revert("NonceAlreadyUsed(uint256)", 2**256 - 1), f"NonceAlreadyUsed({2**256 - 1})"),
    (revert("ApprovalExpired(uint256)", 1_700_000_000), "ApprovalExpired(1700000000)"),
    (revert("InvalidSigner(address)", SIGNER), f"InvalidSigner({SIGNER})"),
    (revert("EnforcedPause()"), "EnforcedPause()"),
    (
        revert("ERC20InsufficientBalance(address,uint256,uint256)", SIGNER, 1, 2),
        f"ERC20InsufficientBalance({SIGNER}, 1, 2)",
    ),
    (CUT_SHORT, CUT_SHORT),
    ("0xdeadbeef01", "0xdeadbeef01"),
    ("0x12", "0x12"),
]


@pytest.mark.parametrize(("data", "reason"), REVERTS)
def test_revert_reasons(data: str, reason: str) -> None:
    shapes = [
        data,
        f"Reverted {data}",
        {"data": data, "message": "…"},
        {"originalError": {}, "data": {"data": data}},
    ]
    for shape in shapes:
        error = classify(3, "execution reverted", shape)
        assert error.problem is RpcProblem.REVERTED
        assert error.detail == reason


@pytest.mark.parametrize("data", [None, "", "0x", "nonsense", 7, [], {}, {"data": {"data": {}}}])
def test_a_revert_without_data_shows_the_text(data: object) -> None:
    error = classify(-32000, "execution reverted: because", data)
    assert (error.problem, error.detail) == (P.REVERTED, "execution reverted: because")


def test_our_contracts_errors_are_known() -> None:
    """All custom errors of the compiled Stablecoin."""
    folder = Path(orchestrator.dev.__file__).parent
    artifact = json.loads((folder / "artifacts" / "Stablecoin.json").read_text())
    declared = {
        f"{entry['name']}({','.join(field['type'] for field in entry['inputs'])})"
        for entry in artifact["abi"]
        if entry["type"] == "error"
    }
    assert declared <= set(KNOWN_ERRORS)


def test_http_answers() -> None:
    html = "<html><head><title>502 Bad Gateway</title></head><body>https://x/SECRET</body></html>"
    assert classify_http(502, html).problem is P.UNAVAILABLE
    assert "502 Bad Gateway" in classify_http(502, html).detail
    assert "SECRET" not in str(classify_http(502, html))
    assert classify_http(429, "").problem is P.RATE_LIMITED
    assert classify_http(200, "<html>").problem is P.UNAVAILABLE
    assert "key" in classify_http(401, "").detail


def test_details_are_readable_and_hide_urls() -> None:
    error = classify(-32000, "x\n\x00\u202ey https://node/v3/SECRET refused " + "long " * 500)
    assert "SECRET" not in str(error)
    assert error.detail.isprintable()
    assert len(error.detail) <= LONGEST_DETAIL + 20
    told = classify(3, "", revert("Error(string)", "a\nb" * 400)).detail
    assert len(told) <= LONGEST_DETAIL
    assert told.isprintable()


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text() | st.floats(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.none() | st.integers(), st.text(), json_values)
def test_never_raises(code: int | None, text: str, data: object) -> None:
    assert classify(code, text, data).problem in P


@given(st.sampled_from(KNOWN_ERRORS), st.binary(max_size=200))
def test_any_revert_data_is_told(signature: str, arguments: bytes) -> None:
    data = "0x" + (keccak(text=signature)[:4] + arguments).hex()
    assert revert_data(data) is not None
    error = classify(3, "execution reverted", data)
    assert error.problem is P.REVERTED
    assert error.detail
