"""Certificates and a day's close on the real parts, by the commands and over HTTP."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from orchestrator.core.certificates_checks import verify
from schemas.certificates import read_certificate
from tests.e2e.harness import LAUNCHPAD_CHAIN, World


async def command(world: World, *words: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "orchestrator", *words],
        env=world.environment,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )


def statement(lines: list[tuple[str, str]]) -> str:
    """As a bank's CSV."""
    day = datetime.now(UTC).date()
    rows = [f"{ref},{amount},EUR,{day}" for ref, amount in lines]
    return "\n".join(["reference,amount,currency,date", *rows]) + "\n"


async def test_certificates_and_a_day_close(world: World, tmp_path: Path) -> None:
    began = datetime.now(UTC).date()
    keys = await world.mint(chain_id=5922, count=2)
    [padded] = await world.mint(chain_id=LAUNCHPAD_CHAIN, count=1)
    items = await world.ended([*keys, padded])
    for key in (keys[0], padded):
        file = tmp_path / f"{key}.json"
        made = await command(world, "certify", key, "--out", str(file))
        assert made.returncode == 0, made.stderr
        body = json.loads(file.read_text())
        assert body == await world.get(f"/status/{key}/certificate")
        chain = world.stack.chains[body["block"]["chainId"]]
        checks = verify(read_certificate(body), signer=world.stack.kms.address)
        assert all(check.holds for check in checks)
        words = ("--rpc", chain.rpc_url, "--contract", chain.contract_address)
        told = await command(world, "verify-certificate", str(file), *words)
        assert told.returncode == 0, told.stdout + told.stderr
    none = await command(world, "certify", "never-heard-of")
    assert none.returncode == 1 and "not completed" in none.stderr
    refs = [str(item["fiatRef"]) for item in items]
    money = [(refs[0].upper(), "1.00"), (refs[1], "1.01"), ("stray money", "5")]
    csv, page = tmp_path / "day.csv", tmp_path / "day.html"
    csv.write_text(statement(money))
    today = datetime.now(UTC).date()
    words = ("--statement", str(csv), "--day", str(today), "--json", "--out", str(page))
    closed = await command(world, "day-close", *words)
    assert closed.returncode == 1, closed.stdout + closed.stderr
    if began == today:
        _judge(json.loads(closed.stdout), refs)
        assert "stray money" in page.read_text()
    csv.write_text("nonsense")
    unread = await command(world, "day-close", *words)
    assert unread.returncode == 2 and "no column" in unread.stderr


def _judge(body: dict[str, Any], refs: list[str]) -> None:
    def named(group: str) -> set[str]:
        return {one["fiatRef"] for line in body["lines"][group] for one in line["mints"]}

    assert refs[0] in named("matched")
    assert refs[1] in named("amount_differs")
    assert refs[2] in named("completed_without_money")
    assert body["counts"]["money_without_mint"] == 1
