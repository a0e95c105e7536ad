"""Asking registries: one that does not answer keeps nobody waiting but those whom it is about."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from orchestrator.config import ChainConfig
from orchestrator.core.chain import Head
from orchestrator.core.clearing import Held
from orchestrator.core.policy_rules import Told
from orchestrator.errors import RpcError, RpcProblem, StartRefused
from orchestrator.ports import Call, ChainNode
from orchestrator.registry_settings import Registry
from schemas.policies import Breach, PolicyRule, RequestHeld
from streams import registries
from streams.registries import Registries
from tests.core.test_policies import OTHER, USER, asked
from tests.e2e.harness import until

YES, NO = "0x" + "0" * 63 + "1", "0x" + "0" * 64
HASH = "0x" + "ab" * 32


class Node:
    """A chain at block 100 whose registry answers so."""

    def __init__(self, answer: str | Exception | None) -> None:
        self.answer = answer
        self.asked = 0

    def pinned(self) -> Node:
        return self

    async def check_chain(self) -> None:
        if isinstance(self.answer, StartRefused):
            raise self.answer

    async def head(self) -> Head:
        return await self.block(100)

    async def block(self, number: int) -> Head:
        return Head(number, HASH, HASH, 1, 1)

    async def call(self, call: Call, block: int | None = None) -> str:
        self.asked += 1
        assert (call.to, block) == (OTHER, 98)
        if self.answer is None:
            await asyncio.Event().wait()
        if isinstance(self.answer, Exception):
            raise self.answer
        return str(self.answer)


def keeper(newest: int = 0, **nodes: Node) -> Registries:
    chains = {}
    for name, node in nodes.items():
        chain_id = int(name[1:])
        config = SimpleNamespace(chain_id=chain_id, confirmations=2, registry=Registry(OTHER))
        chains[chain_id] = cast(ChainConfig, config), cast(ChainNode, node)
    return Registries(chains, lambda chain: newest, lambda: None)


async def looked(found: Registries, asking: list[Any], doubtful: Any = ()) -> list[Any]:
    """What comes of a look that has time to end."""
    found.consider(asking, doubtful)
    for _ in range(20):
        await asyncio.sleep(0)
    return found.taken()


async def test_a_chain_that_hangs_keeps_no_other_waiting() -> None:
    found = keeper(c1=Node(None), c2=Node(YES))
    answers = await looked(found, [asked("m-1", chain_id=1), asked("m-2", chain_id=2)])
    assert [(fact.request_key, fact.verified) for fact in answers] == [("m-2", True)]
    await found.close()


NO_ANSWERS = {
    "unreachable": (RpcError(RpcProblem.UNAVAILABLE, "refused"), "refused"),
    "no code": ("0x", "there is no contract with isVerified(address)"),
    "garbage": ("0x" + "f" * 64, "gave no bool"),
    "two words": (YES + "0" * 64, "gave no bool"),
    "another chain": (StartRefused("it serves chain 7"), "it serves chain 7"),
    "a defect": (ValueError("what is this"), "what is this"),
    "hangs": (None, "no answer within"),
}


@pytest.mark.parametrize("name", NO_ANSWERS)
async def test_what_is_no_answer_lets_nobody_pass_and_says_why(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answer, words = NO_ANSWERS[name]
    monkeypatch.setattr(registries, "LONGEST_LOOK_SECONDS", 0.05)
    monkeypatch.setattr(registries, "PATIENCE_SECONDS", 0.0)
    monkeypatch.setattr(registries, "LOOK_EVERY_SECONDS", 0.0)
    node = Node(cast(Any, answer))
    found, asking = keeper(c1=node), [asked("m-1", chain_id=1)]

    async def is_given_up() -> bool:
        assert await looked(found, asking) == []
        return 1 in found.unasked

    await until(is_given_up, "the look is over")
    assert words in found.given_up[1]
    node.answer = YES
    answers: list[Any] = []

    async def answers_again() -> bool:
        answers.extend(await looked(found, asking))
        return bool(answers)

    await until(answers_again, "it answers")
    assert answers[0].verified and found.unasked == {}


async def test_a_revert_is_a_no_with_its_reason() -> None:
    found = keeper(c1=Node(RpcError(RpcProblem.REVERTED, "NotListed()")))
    [answer] = await looked(found, [asked("m-1", chain_id=1)])
    assert not answer.verified and "NotListed()" in answer.detail


async def test_an_older_block_than_one_on_the_log_is_no_answer() -> None:
    found = keeper(99, c1=Node(YES))
    assert await looked(found, [asked("m-1", chain_id=1)]) == []
    assert "lags behind the log" in found.unasked[1].reason


async def test_no_setting_is_no_answer() -> None:
    found = keeper()
    assert await looked(found, [asked("m-1", chain_id=1)]) == []
    assert "KYC_REGISTRY_CONTRACT_ADDRESS_1" in found.unasked[1].reason


async def test_patience_ends_and_what_nobody_asks_any_more_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = keeper(c1=Node("0x"))
    asking = [asked("m-1", chain_id=1)]
    await looked(found, asking)
    assert found.unasked and found.given_up == {}
    monkeypatch.setattr(registries, "PATIENCE_SECONDS", 0.0)
    assert list(found.given_up) == [1]
    await looked(found, [])
    assert found.unasked == {}


def refused(key: str) -> Held:
    breach = Breach(rule=PolicyRule.NOT_VERIFIED, limit="verified", value=USER)
    hold = RequestHeld(
        request_key=key,
        ticket="1.0.0",
        version=HASH,
        judged_at=1,
        breaches=(breach,),
        approvals_needed=2,
    )
    return Held(asked(key, chain_id=1), hold, Told(False))


async def test_whom_it_refused_is_asked_about_again_and_only_news_is_told(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    node = Node(NO)
    found, held = keeper(c1=node), [refused("m-1")]
    assert await looked(found, [], held) == []
    assert node.asked == 0, "not so soon"
    monkeypatch.setattr(registries, "LOOK_AGAIN_SECONDS", 0.0)
    assert await looked(found, [], held) == []
    assert node.asked == 1, "it says no as before: nothing is told"
    node.answer = YES
    [answer] = await looked(found, [], held)
    assert answer.verified and answer.later
