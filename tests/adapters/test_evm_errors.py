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

from .node_texts import SEEN

P = RpcProblem


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
        text = re.sub(r"^(INTERNAL_ERROR|ALREADY_EXISTS|FEE_TOO_LOW|Error): ", "", text)
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
