"""`/status/{key}/certificate` over HTTP, with a node that knows one real block or none."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from orchestrator.certifying import Certifier
from orchestrator.client import ApiError, Client
from orchestrator.core.certificates_checks import verify
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.errors import RpcError, RpcProblem
from projections.api import make_app
from projections.store import Store
from tests.certified import CHAIN_VECTOR, allowed, approval_shown, life
from tests.projections.conftest import Tables
from tests.projections.facts import received, whole_life

BLOCK = json.loads((Path(__file__).parents[1] / "vectors" / "block.json").read_text("utf-8"))


class OneBlock:
    """`ports.BlockSource` of a chain that has one block."""

    fails = False

    async def whole_block(self, block_hash: str) -> tuple[dict[str, Any], list[dict[str, Any]]]:
        if self.fails or block_hash != BLOCK["block"]["hash"]:
            raise RpcError(RpcProblem.UNAVAILABLE, "no node has it; see http://user:secret@node")
        return BLOCK["block"], BLOCK["receipts"]

    async def close(self) -> None:
        return


@pytest.fixture
async def node() -> OneBlock:
    return OneBlock()


@pytest.fixture
async def url(database: str, tables: Tables, node: OneBlock) -> AsyncIterator[str]:
    approval, signature, signer, log = approval_shown(BLOCK)
    facts = life(ORCHESTRATOR, approval, signature, signer, log)
    await tables.write(allowed(approval).fact, *(one.fact for one in facts))
    await tables.write(*whole_life("elsewhere"), received("open"))
    certifier = Certifier({CHAIN_VECTOR: node}, {CHAIN_VECTOR: ORCHESTRATOR})
    app = make_app(Store(database), None, [CHAIN_VECTOR], certifier=certifier)
    client = TestClient(TestServer(app))
    await client.start_server()
    yield str(client.make_url("")).rstrip("/")
    await client.close()


async def refusal(url: str, key: str) -> tuple[int, str, str]:
    async with Client(url, patience_seconds=0) as client:
        with pytest.raises(ApiError) as caught:
            await client.certificate(key)
    assert caught.value.problem is not None
    return caught.value.status, caught.value.problem.type, caught.value.problem.detail


async def test_a_certificate_comes_over_http_and_holds(url: str) -> None:
    approval, _, signer, _ = approval_shown(BLOCK)
    async with Client(url) as client:
        found = await client.certificate(approval.request_id)
    checks = verify(found, trusted_hash=BLOCK["block"]["hash"], signer=signer)
    assert checks and all(check.holds for check in checks)
    assert found.kuro.value["fiat_ref"].startswith("SEPA „")


async def test_what_has_none_says_why(url: str, node: OneBlock) -> None:
    status, kind, detail = await refusal(url, "open")
    assert (status, kind) == (409, "/docs#problem-not-certifiable")
    assert "not completed" in detail and "RECEIVED" in detail
    status, _, detail = await refusal(url, "nope")
    assert status == 404
    status, _, detail = await refusal(url, "elsewhere")
    assert status == 409 and "no Kuro fact" in detail
    node.fails = True
    key = approval_shown(BLOCK)[0].request_id
    status, _, detail = await refusal(url, key)
    assert status == 503 and "secret" not in detail


async def test_without_nodes_it_says_so(url: str, database: str, serve: Any) -> None:
    api = await serve(database)
    key = approval_shown(BLOCK)[0].request_id
    status, kind, detail = await refusal(str(api.make_url("")).rstrip("/"), key)
    assert (status, kind) == (501, "/docs#problem-no-nodes")
    assert "KADENA_EVM_CHAIN_" in detail


async def test_a_lying_node_gives_none(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = approval_shown(BLOCK)[0].request_id
    for field, value in (("stateRoot", "0x" + "11" * 32), ("transactions", [])):
        with monkeypatch.context() as patched:
            patched.setitem(BLOCK["block"], field, value)
            status, _, detail = await refusal(url, key)
            assert status == 409 and "node" in detail, detail
    for field in ("logs", "cumulativeGasUsed"):
        with monkeypatch.context() as patched:
            patched.setitem(BLOCK["receipts"][0], field, [] if field == "logs" else "0x1")
            status, _, detail = await refusal(url, key)
            assert status == 409 and "roots" in detail, detail
