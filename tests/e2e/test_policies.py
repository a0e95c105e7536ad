"""What a policy holds waits for its operators on real parts; what they let go completes once."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

from orchestrator.core.stages import Stage
from schemas.policies import ClearanceRequested, RequestCleared, RequestHeld
from schemas.requests import ApprovalDrafted, ApprovalSigned, DraftRecalled
from schemas.topics import DEAD_LETTERS, LANES, REQUESTS
from tests.e2e.harness import TOKEN, World, until
from tests.e2e.test_bad_input import run_cli

MISTAKE = 300 * 10**12 * TOKEN
"""October 2025: 300 trillion, minted by mistake from one wallet without a limit."""


async def command(world: World, *arguments: str, code: int = 0) -> Any:
    ended = await asyncio.to_thread(run_cli, world.environment, *arguments, "--json")
    assert ended.returncode == code, ended.stdout + ended.stderr
    return json.loads(ended.stdout) if code == 0 else ended.stderr


async def apply(world: World, folder: Path, policy: dict[str, Any]) -> None:
    path = folder / "policy.json"
    path.write_text(json.dumps(policy), encoding="utf-8")
    ordered = ("policy", "apply", "--file", str(path), "--who", "dora", "--why", "reviewed")
    told = await command(world, *ordered, "--wait", "60")
    assert told["takenIn"] is True, told


async def approve(world: World, key: str, who: str, code: int = 0) -> Any:
    ordered = ("approve", "--request", key, "--who", who, "--why", "looked at it", "--wait", "60")
    return await command(world, *ordered, code=code)


async def held(world: World, key: str) -> Any:
    return await at_stage(world, key, Stage.HELD)


async def at_stage(world: World, key: str, stage: Stage) -> Any:
    async def is_there() -> bool:
        item = await world.status(key)
        return item is not None and item["stage"] == stage

    await until(is_there, f"{key} is {stage}", lambda: world.stories([key]))
    return await world.status(key)


async def test_a_mint_above_the_limit_is_held_and_released_by_two(
    world: World, tmp_path: Path
) -> None:
    [before] = await world.mint()
    await world.ended([before])
    limit = 10 * TOKEN
    await apply(world, tmp_path, {"max_amount": str(limit), "fiat_ref_once": True})
    try:
        await _held_and_released(world, limit)
    finally:
        await apply(world, tmp_path, {"note": "nothing is asked any more"})
    [after] = await world.mint(amount=str(limit + 1))
    await world.ended([after])
    asked = [r.fact for r in await world.facts(LANES) if isinstance(r.fact, ClearanceRequested)]
    assert not {before, after} & {fact.request_key for fact in asked}
    reasons = {record.fact.reason for record in await world.facts(DEAD_LETTERS)}
    assert "OUT_OF_ORDER" not in reasons


async def _held_and_released(world: World, limit: int) -> None:
    small = await world.mint(count=3)
    [large] = await world.mint(amount=str(limit + 1))
    [mistake] = await world.mint(amount=str(MISTAKE))
    await world.ended(small)
    item = await held(world, large)
    assert (item["status"], item["reason"]) == ("PENDING", "REQUEST_AMOUNT")
    told = await world.get(f"/status/{large}/explain")
    assert told["code"] == "HELD" and str(limit) in told["summary"]
    assert f"orchestrator approve --request {large} --why WHY" in str(told)

    assert (await approve(world, large, "ann"))["takenIn"] is True
    assert "it takes another operator" in await approve(world, large, " ANN", code=2)
    assert (await world.status(large))["stage"] == Stage.HELD
    await world.service.kill()
    await world.service.start()
    await approve(world, large, "bob")
    await world.ended([large])
    await world.minted_once(5920, [*small, large])

    await held(world, mistake)
    facts = [record.fact for record in await world.facts(LANES)]
    [cleared] = [f for f in facts if isinstance(f, RequestCleared) and f.request_key == large]
    assert cleared.approved_by == ("ann", "bob")
    holds = [f for f in facts if isinstance(f, RequestHeld) and f.request_key == mistake]
    assert [hold.breaches[0].value for hold in holds] == [str(MISTAKE)]
    drafts = [r.fact for r in await world.facts(REQUESTS) if isinstance(r.fact, ApprovalDrafted)]
    assert mistake not in {draft.request_key for draft in drafts}
    cancel = ("cancel", "--request", mistake, "--who", "ann", "--why", "a mistake", "--wait", "60")
    await command(world, *cancel)
    await world.ended([mistake], "FAILED")


async def test_a_policy_recalls_what_is_drafted_and_not_yet_signed(
    world: World, tmp_path: Path
) -> None:
    """An operator tightens the limit while KMS is away: what was drafted before is judged anew, and
    what is wrong by now is never signed."""
    [warm] = await world.mint()
    await world.ended([warm])
    await world.stack.kms.set_faults(down=True)
    try:
        [small] = await world.mint(amount=str(TOKEN))
        [large] = await world.mint(amount=str(9 * TOKEN))
        for key in (small, large):
            await at_stage(world, key, Stage.DRAFTED)
        await apply(world, tmp_path, {"max_amount": str(5 * TOKEN)})
        await held(world, large)
        await world.stack.kms.clear_faults()
        await world.ended([small])
        await world.minted_once(5920, [small])
    finally:
        await world.stack.kms.clear_faults()
        cancel = ("cancel", "--request", large, "--who", "ann", "--why", "wrong", "--wait", "60")
        await command(world, *cancel)
        await apply(world, tmp_path, {"note": "nothing is asked any more"})
    await world.ended([large], "FAILED")
    facts = [record.fact for record in await world.facts(REQUESTS)]
    recalled = [fact.request_key for fact in facts if isinstance(fact, DraftRecalled)]
    assert sorted(set(recalled)) == sorted([small, large])
    signed = [fact for fact in facts if isinstance(fact, ApprovalSigned)]
    assert {fact.attempt for fact in signed if fact.request_key == small} == {2}
    assert large not in {fact.request_key for fact in signed}
    drafts = [f for f in facts if isinstance(f, ApprovalDrafted) and f.request_key == small]
    assert {draft.attempt: draft.digest for draft in drafts}.keys() == {1, 2}
    assert len({draft.digest for draft in drafts}) == 1, "the same approval"
