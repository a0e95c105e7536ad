"""What the texts of EVM nodes mean: one table, read from the top, the first matching row counts.

JSON-RPC fixes almost no error codes for Ethereum (EIP-1474 tried), so nodes are told apart by their
texts; `who` says whose they are. Policy reads the `RpcProblem` only. To add a node, add rows; the
tests go through them row by row, and say which texts a real node told (`test_evm_heard.py`), which
stand in a client's source, and which come from documentation alone (`test_evm_errors.py`).
"""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from orchestrator.adapters.evm_reverts import REVERT_TEXT, readable, revert_data, revert_reason
from orchestrator.errors import RpcError, RpcProblem


class Row(NamedTuple):
    """`pattern` is searched in the text, case ignored."""

    pattern: str
    problem: RpcProblem
    who: str


_P = RpcProblem

TABLE: tuple[Row, ...] = (
    # This transaction is there already.
    Row(r"already known", _P.ALREADY_KNOWN, "geth, erigon, reth, nethermind"),
    Row(r"already imported", _P.ALREADY_KNOWN, "anvil, openethereum"),
    Row(r"^AlreadyKnown", _P.ALREADY_KNOWN, "nethermind"),
    Row(r"^known transaction|transaction already known", _P.ALREADY_KNOWN, "besu, old geth"),
    Row(r"existing txn? with same hash", _P.ALREADY_KNOWN, "erigon"),
    # The same nonce holds another transaction that pays as much or nearly.
    Row(r"replacement transaction underpriced", _P.REPLACEMENT_UNDERPRICED, "all six"),
    Row(r"could not replace existing tx", _P.REPLACEMENT_UNDERPRICED, "erigon"),
    Row(r"^ReplacementNotAllowed", _P.REPLACEMENT_UNDERPRICED, "nethermind"),
    Row(r"^OwnNonceAlreadyUsed", _P.REPLACEMENT_UNDERPRICED, "nethermind"),
    Row(r"another transaction with same nonce", _P.REPLACEMENT_UNDERPRICED, "openethereum"),
    # Nonces.
    Row(r"nonce (is )?too low", _P.NONCE_TOO_LOW, "all six"),
    Row(r"^OldNonce", _P.NONCE_TOO_LOW, "nethermind"),
    Row(r"transaction with a nonce .*has already been", _P.NONCE_TOO_LOW, "zksync"),
    Row(r"nonce (is )?too high", _P.NONCE_TOO_HIGH, "geth, reth, besu, nethermind"),
    Row(r"nonce too far|nonce is too distant", _P.NONCE_TOO_HIGH, "nethermind, besu"),
    Row(r"^NonceGap|^NonceTooFarInFuture", _P.NONCE_TOO_HIGH, "nethermind"),
    Row(r"invalid transaction with a lower nonce", _P.NONCE_TOO_HIGH, "besu"),
    Row(r"future transaction tries to replace pending", _P.NONCE_TOO_HIGH, "geth"),
    Row(r"gapped.?nonce tx", _P.NONCE_TOO_HIGH, "geth"),
    # Money.
    Row(r"insufficient funds", _P.INSUFFICIENT_FUNDS, "all but besu"),
    Row(r"^InsufficientFunds", _P.INSUFFICIENT_FUNDS, "nethermind"),
    Row(r"upfront cost exceeds", _P.INSUFFICIENT_FUNDS, "besu"),
    Row(r"enough funds to send tx", _P.INSUFFICIENT_FUNDS, "hardhat"),
    # Fees.
    Row(r"transaction underpriced|tip too low", _P.UNDERPRICED, "geth, reth"),
    Row(r"max fee per gas less than block base fee", _P.UNDERPRICED, "geth, reth, anvil"),
    Row(r"fee cap less than block base fee|^(\w+: )?underpriced", _P.UNDERPRICED, "erigon"),
    Row(r"^fee too low", _P.UNDERPRICED, "erigon"),
    Row(r"^FeeTooLow", _P.UNDERPRICED, "nethermind"),
    Row(r"gas price below (configured )?minimum", _P.UNDERPRICED, "geth since 1.16, besu"),
    Row(r"gas price below current base fee", _P.UNDERPRICED, "besu"),
    Row(r"priority fee below minimum", _P.UNDERPRICED, "reth"),
    Row(r"gas price .*too low", _P.UNDERPRICED, "openethereum"),
    # Gas limits.
    Row(r"intrinsic gas too low|IntrinsicGasTooLow", _P.GAS_TOO_LOW, "geth and its kin"),
    Row(r"^IntrinsicGas$", _P.GAS_TOO_LOW, "erigon"),
    Row(r"requires at least \d+ gas", _P.GAS_TOO_LOW, "hardhat"),
    Row(r"insufficient gas for floor data", _P.GAS_TOO_LOW, "geth, reth"),
    Row(r"gas floor .*exceeds the gas limit", _P.GAS_TOO_LOW, "anvil"),
    Row(r"intrinsic gas .*exceeds gas limit", _P.GAS_TOO_LOW, "besu"),
    Row(r"gas required exceeds allowance", _P.GAS_TOO_HIGH, "geth, reth, anvil"),
    Row(r"^out of gas|ran out of gas", _P.GAS_TOO_LOW, "geth, reth, hardhat"),
    Row(r"exceeds (the )?block('s)? gas ?limit", _P.GAS_TOO_HIGH, "geth, erigon, besu, reth"),
    Row(r"intrinsic gas too high", _P.GAS_TOO_HIGH, "anvil"),
    Row(r"gas limit (is )?too high", _P.GAS_TOO_HIGH, "geth, reth, erigon"),
    Row(r"gas limit is greater than the cap", _P.GAS_TOO_HIGH, "reth"),
    Row(r"exceeds (max )?transaction gas (limit|cap)", _P.GAS_TOO_HIGH, "reth, hardhat"),
    Row(r"^GasLimitExceeded|gas limit exceed", _P.GAS_TOO_HIGH, "nethermind"),
    Row(r"gas limit reached|gas limit \d+ exceeded cap", _P.GAS_TOO_HIGH, "nethermind"),
    # Calls that the contract refuses.
    Row(REVERT_TEXT, _P.REVERTED, "geth, erigon, besu, reth, anvil"),
    Row(r"VM execution error|^reverted", _P.REVERTED, "nethermind, openethereum"),
    Row(r"^VM Exception|^Transaction reverted", _P.REVERTED, "hardhat"),
    Row(r"invalid (opcode|jump)|stack (under|over)flow", _P.REVERTED, "geth"),
    Row(r"^EVM error", _P.REVERTED, "anvil, reth"),
    Row(r"could not be completed due to an exception", _P.REVERTED, "besu"),
    # eth_getLogs.
    Row(r"query returned more than", _P.RANGE_TOO_LARGE, "Infura, geth"),
    Row(r"exceed(s)? max(imum)? (block range|results)", _P.RANGE_TOO_LARGE, "reth, geth"),
    Row(r"exceeds maximum RPC range", _P.RANGE_TOO_LARGE, "besu"),
    Row(r"too many (logs|blocks)", _P.RANGE_TOO_LARGE, "nethermind"),
    Row(r"log response size exceeded", _P.RANGE_TOO_LARGE, "Alchemy"),
    Row(r"limited to .*range", _P.RANGE_TOO_LARGE, "QuickNode, 1RPC"),
    Row(r"range (is )?too (large|wide|big)", _P.RANGE_TOO_LARGE, "Ankr, Cloudflare, LlamaNodes"),
    Row(r"range limit exceeded|range exceeds", _P.RANGE_TOO_LARGE, "Chainstack, erigon"),
    Row(r"ranges over \d+ blocks", _P.RANGE_TOO_LARGE, "dRPC"),
    Row(r"range (greater|larger) than", _P.RANGE_TOO_LARGE, "Blast"),
    Row(r"response (size )?(is )?too (large|big)", _P.RANGE_TOO_LARGE, "reth, geth, proxyd"),
    Row(r"query timeout exceeded", _P.RANGE_TOO_LARGE, "Alchemy"),
    # Come back later: nothing was taken.
    Row(r"rate.?limit|too many requests|request limit", _P.RATE_LIMITED, "providers"),
    Row(r"(request rate|capacity|quota|credits?) .*exceeded", _P.RATE_LIMITED, "providers"),
    Row(r"exceeded .*(capacity|quota|credits|compute units)", _P.RATE_LIMITED, "Alchemy"),
    Row(r"tx ?pool is full|sub-pool is full", _P.RATE_LIMITED, "geth, reth, erigon"),
    Row(r"in-flight transaction limit reached|account limit exceeded", _P.RATE_LIMITED, "geth"),
    Row(r"^spammer$", _P.RATE_LIMITED, "erigon"),
    # The node cannot answer now, another one may.
    Row(r"header not found|unknown block|block not found", _P.UNAVAILABLE, "geth, reth, besu"),
    Row(r"could not be found", _P.UNAVAILABLE, "nethermind"),
    Row(r"BlockOutOfRange", _P.UNAVAILABLE, "anvil"),
    Row(r"beyond (the )?(current )?head", _P.UNAVAILABLE, "geth"),
    Row(r"invalid block tag", _P.UNAVAILABLE, "hardhat"),
    Row(r"missing trie node|historical state .*not available", _P.UNAVAILABLE, "geth, reth"),
    Row(r"time(d)?.?out|deadline exceeded", _P.UNAVAILABLE, "all"),
    Row(r"sync is still in progress", _P.UNAVAILABLE, "besu"),
    Row(r"syncing|not ready|no available|overloaded|unavailable", _P.UNAVAILABLE, "all"),
    Row(r"bad gateway|upstream|internal (server )?error", _P.UNAVAILABLE, "proxies"),
)

CODES: dict[int, RpcProblem] = {
    3: _P.REVERTED,
    -32002: _P.UNAVAILABLE,
    -32005: _P.RATE_LIMITED,
    -32603: _P.UNAVAILABLE,
    429: _P.RATE_LIMITED,
    -32029: _P.RATE_LIMITED,
}
"""What a code means when the text says nothing. 3 is geth's revert; -32002 (resource unavailable)
and -32005 (limit exceeded) are EIP-1474's, -32603 is JSON-RPC's internal error, -32029 and 429 are
providers'."""

_COMPILED = tuple((re.compile(row.pattern, re.IGNORECASE), row.problem) for row in TABLE)
_LEADING = re.compile(
    r"^(INTERNAL_ERROR|ALREADY_EXISTS|FEE_TOO_LOW|STALE|INVALID|RPC error|error):\s*",
    re.IGNORECASE,
)
"""Erigon writes its pool's verdict before the reason."""


def classify(code: int | None, message: str, data: Any = None) -> RpcError:
    """The error behind a JSON-RPC error object. Never raises, whatever a node puts there."""
    returned = revert_data(data)
    text = _LEADING.sub("", message.strip())
    problem = next((problem for regex, problem in _COMPILED if regex.search(text)), None)
    if problem is None or (returned and problem is _P.UNAVAILABLE):
        problem = _P.REVERTED if returned else CODES.get(code or 0, _P.UNEXPECTED)
    if problem is _P.REVERTED:
        return RpcError(problem, revert_reason(returned, text))
    shown = readable(text) or "no text"
    return RpcError(problem, f"{shown} (code {code})" if code is not None else shown)


def classify_http(status: int, body: str) -> RpcError:
    """The error behind an HTTP answer that is no JSON-RPC: a proxy's page, a limit, a refused key.

    Nothing of the page is shown but its title: some echo the request's URL, which may hold a key.
    """
    title = re.search(r"<title>([^<]{1,100})</title>", body, re.IGNORECASE)
    about = f"HTTP {status}" + (f", page titled {readable(title[1])!r}" if title else "")
    if status == 429:
        return RpcError(_P.RATE_LIMITED, about)
    if status in (401, 402, 403):
        return RpcError(_P.UNAVAILABLE, f"{about}: the node refuses access; check its URL and key")
    return RpcError(_P.UNAVAILABLE, f"{about}: the answer is not JSON-RPC")
