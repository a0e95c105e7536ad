"""Certificates of mints on real chains, blocks of many transactions of every kind."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio
from typer.testing import CliRunner

from orchestrator.adapters.evm_blocks import BlockNode
from orchestrator.certifying import Certifier
from orchestrator.cli import app
from orchestrator.core.certificates import evidence_of
from orchestrator.core.certificates_checks import verify
from orchestrator.core.contract import Approval, Profile
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from orchestrator.dev.http_client import rpc
from orchestrator.dev.launchpad import PROFILE
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.dev.wallets import account_of
from schemas.certificates import MintCertificate
from tests.certified import allowed, approval_of, life, sent_together
from tests.stack.approvals import kms_client, sign

CHAIN, LAUNCHPAD = 5920, 5925
MANY = 20
"""More than sixteen: the tries then have branches below branches."""
VECTORS = Path(__file__).parents[1] / "vectors" / "certificates.json"


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def stack(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[EmbeddedStack]:
    async with EmbeddedStack(
        tmp_path_factory.mktemp("certificates"),
        chain_ids=[CHAIN, LAUNCHPAD],
        launchpad_chain_ids=[LAUNCHPAD],
        block_time=0.5,
        parts={"kms", "chains"},
    ) as running:
        for chain in running.chains.values():
            await chain.pause_mining()
        yield running


async def minted(
    stack: EmbeddedStack, chain_id: int, profile: Profile, count: int, name: str
) -> tuple[dict[str, Any], list[tuple[Approval, str]]]:
    """The block that holds all of them."""
    chain, to = stack.chains[chain_id], stack.holders.address
    first = None
    if profile.sequential:
        asked = {"to": chain.contract_address, "data": profile.nonces_calldata(to)}
        first = int(rpc(chain.rpc_url, "eth_call", asked, "latest"), 16)
    approvals = [
        approval_of(
            profile,
            chain_id,
            chain.contract_address,
            f"{name}-{number}",
            to,
            None if first is None else first + number,
        )
        for number in range(count)
    ]
    made = []
    async with kms_client(stack.kms) as client:
        for approval in approvals:
            digest = bytes.fromhex(profile.digest(approval)[2:])
            made.append((approval, "0x" + (await sign(client, stack.kms, digest)).hex()))
    calls = [
        (chain.contract_address, profile.calldata(approval, signature))
        for approval, signature in made
    ]
    relayer = account_of(stack.wallets.relayers[chain_id][0])
    return sent_together(chain.rpc_url, chain_id, relayer, calls), made


def _write_block(
    stack: EmbeddedStack, block: dict[str, Any], approval: Approval, signature: str
) -> None:
    """For those tests that have no chain."""
    url = stack.chains[CHAIN].rpc_url
    body = {
        "approval": {
            "contract": approval.contract,
            "requestId": approval.request_id,
            "account": approval.account,
            "amount": str(approval.amount),
            "nonce": str(approval.nonce),
            "deadline": str(approval.deadline),
            "index": len(block["transactions"]) - 1,
        },
        "signature": signature,
        "signer": stack.kms.address,
        "block": block,
        "receipts": rpc(url, "eth_getBlockReceipts", block["hash"]),
    }
    VECTORS.with_name("block.json").write_text(json.dumps(body, indent=1) + "\n")


async def certified(
    stack: EmbeddedStack, chain_id: int, profile: Profile, count: int, name: str
) -> list[MintCertificate]:
    block, made = await minted(stack, chain_id, profile, count, name)
    assert len(block["transactions"]) == count
    if os.environ.get("WRITE_CERTIFICATE_VECTORS") and count == 3 and not profile.sequential:
        _write_block(stack, block, *made[-1])
    node = BlockNode(chain_id, [stack.chains[chain_id].rpc_url])
    certifier = Certifier({chain_id: node}, {chain_id: profile})
    found = []
    try:
        for sent, (approval, signature) in zip(block["transactions"], made, strict=True):
            receipt = rpc(stack.chains[chain_id].rpc_url, "eth_getTransactionReceipt", sent["hash"])
            log = next(log for log in receipt["logs"] if log["topics"][0] in profile.event_topics)
            facts = life(profile, approval, signature, stack.kms.address, log)
            found.append(await certifier.certify(evidence_of(allowed(approval), facts)))
    finally:
        await certifier.close()
    return found


def told_by(file: Path, rpc_url: str) -> Any:
    return CliRunner().invoke(app, ["verify-certificate", str(file), "--rpc", rpc_url])


@pytest.mark.parametrize("count", [1, 3, MANY])
@pytest.mark.parametrize(("chain_id", "profile"), [(CHAIN, ORCHESTRATOR), (LAUNCHPAD, PROFILE)])
async def test_every_mint_of_a_block_is_certified(
    stack: EmbeddedStack, chain_id: int, profile: Profile, count: int, tmp_path: Path
) -> None:
    found = await certified(stack, chain_id, profile, count, f"mint-{count}")
    rpc_url = stack.chains[chain_id].rpc_url
    header = rpc(rpc_url, "eth_getBlockByNumber", hex(found[0].block.number), False)
    for certificate in found:
        checks = verify(
            certificate,
            trusted_hash=header["hash"],
            contract=stack.chains[chain_id].contract_address,
            signer=stack.kms.address,
        )
        assert [check for check in checks if not check.holds] == []
        assert len(checks) == 13
    file = tmp_path / "certificate.json"
    file.write_bytes(orjson.dumps(found[-1].model_dump(mode="json")))
    if os.environ.get("WRITE_CERTIFICATE_VECTORS") and count == MANY:
        vectors = json.loads(VECTORS.read_text()) if VECTORS.exists() else {}
        vectors[profile.name] = found[-1].model_dump(mode="json")
        VECTORS.write_text(json.dumps(vectors, indent=1, ensure_ascii=False) + "\n")
    told = await asyncio.to_thread(told_by, file, rpc_url)
    assert told.exit_code == 0 and "VALID" in told.output, told.output
    other = stack.chains[LAUNCHPAD if chain_id == CHAIN else CHAIN].rpc_url
    told = await asyncio.to_thread(told_by, file, other)
    assert told.exit_code != 0 and "VALID" not in told.output


async def test_a_block_that_was_replaced_is_not_trusted(stack: EmbeddedStack) -> None:
    [certificate] = await certified(stack, CHAIN, ORCHESTRATOR, 1, "reorganised")
    chain = stack.chains[CHAIN]
    number = certificate.block.number
    then = now = rpc(chain.rpc_url, "eth_getBlockByNumber", hex(number), False)
    while now["hash"] == then["hash"]:  # a block may come in between
        await chain.reorganise(await chain.block_number() - number + 1)
        now = rpc(chain.rpc_url, "eth_getBlockByNumber", hex(number), False)
    checks = verify(certificate, trusted_hash=now["hash"])
    assert [check.name for check in checks if not check.holds] == ["trusted-block"]
