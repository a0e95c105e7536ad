"""Approval nonces in order: granted once, freed by proof, settled by mints, named for ever."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.chain import Head
from orchestrator.core.granting import conclude, due, questions
from orchestrator.core.lifecycle import Verdict
from orchestrator.core.sequences import Sequences, evolve
from schemas.sequences import (
    AttributionRetracted,
    MintAttributed,
    MintRetracted,
    MintSeen,
    MintUnattributed,
    NameRefused,
    NonceFreed,
    NonceGranted,
    NonceRequested,
    NoncesCounted,
    SequenceFact,
)

CHAIN = 5925
ANN, BOB = "0x" + "11" * 20, "0x" + "22" * 20


def word(number: int) -> str:
    return f"0x{number:064x}"


def asked(number: int, attempt: int = 1, *, to: str = ANN, deadline: int = 100) -> NonceRequested:
    return NonceRequested(
        chain_id=CHAIN,
        recipient=to,
        request_key=f"m-{number}",
        attempt=attempt,
        contract_id=word(number),
        deadline=deadline,
    )


def seen(number: int, nonce: int, *, to: str = ANN) -> MintSeen:
    return MintSeen(
        chain_id=CHAIN,
        recipient=to,
        seat=f"{CHAIN}:{word(900 + nonce)}:{number}",
        contract_id=word(number),
        nonce=nonce,
        amount=5,
        tx_hash=word(number),
        block_number=10 + nonce,
        block_hash=word(900 + nonce),
        log_index=number,
    )


def retracted(mint: MintSeen) -> MintRetracted:
    return MintRetracted(
        chain_id=CHAIN, recipient=mint.recipient, seat=mint.seat, contract_id=mint.contract_id
    )


def head(number: int, timestamp: int) -> Head:
    return Head(number, word(number), word(number - 1), timestamp, None)


def folded(*facts: SequenceFact) -> Sequences:
    """After facts that must all be applied; what each leaves owed is folded at once."""
    state = Sequences(CHAIN)
    for fact in facts:
        assert evolve(state, fact) is Verdict.APPLIED, fact
        settle(state)
    return state


def settle(state: Sequences) -> list[SequenceFact]:
    """Fold what is owed; nothing more is owed then."""
    facts = due(state)
    for fact in facts:
        assert evolve(state, fact) is Verdict.APPLIED, fact
    assert due(state) == []
    return facts


def opened(*facts: SequenceFact, count: int = 4) -> Sequences:
    state = folded(*facts)
    for told in conclude(state, ANN, count, head(7, 50)):
        evolve(state, told)
    settle(state)
    return state


def nonces(state: Sequences, to: str = ANN) -> dict[str, int]:
    held = state.of(to).held.items()
    return {grant.request_key: nonce for nonce, grants in held for grant in grants.values()}


def live(state: Sequences, key: str) -> NonceGranted:
    [grant] = state.live[key].values()
    return grant


def test_the_chain_is_asked_before_anything_is_granted():
    state = folded(asked(1), asked(2), asked(3, to=BOB))
    assert questions(state, 0) == [ANN, BOB]
    assert due(state) == []
    [count] = conclude(state, ANN, 4, head(7, 50))
    assert (count.kind, count.count, count.block_number) == ("NoncesCounted", 4, 7)
    evolve(state, count)
    assert [(f.request_key, f.nonce) for f in settle(state)] == [("m-1", 4), ("m-2", 5)]
    assert questions(state, 0) == [BOB]


def test_a_grant_carries_the_deadline_of_the_first_question():
    state = opened(asked(1, deadline=77))
    assert evolve(state, asked(1, deadline=99)) is Verdict.REPEATED
    assert live(state, "m-1").deadline == 77


def test_an_outsiders_mint_takes_one_nonce_and_the_others_keep_theirs():
    state = opened(asked(1), asked(2), asked(3))
    assert nonces(state) == {"m-1": 4, "m-2": 5, "m-3": 6}
    evolve(state, seen(50, 4))
    assert [fact.kind for fact in settle(state)] == ["MintUnattributed"]
    assert nonces(state) == {"m-2": 5, "m-3": 6}
    evolve(state, asked(1, 2, deadline=200))
    [grant] = settle(state)
    assert (grant.request_key, grant.attempt, grant.nonce) == ("m-1", 2, 7)


def test_who_comes_back_waits_for_the_proof_and_gets_the_lowest_free_one():
    state = opened(asked(1), asked(2))
    evolve(state, asked(1, 2, deadline=200))
    assert due(state) == []
    assert questions(state, 0) == [ANN], "its earlier grant may still be used"
    assert conclude(state, ANN, 4, head(9, 100)) == [], "the deadline itself is still in time"
    freed = conclude(state, ANN, 4, head(9, 101))
    assert [(f.request_key, f.nonce) for f in freed] == [("m-1", 4), ("m-2", 5)]
    for fact in freed:
        evolve(state, fact)
    [grant] = settle(state)
    assert (grant.request_key, grant.nonce, grant.deadline) == ("m-1", 4, 200)


def test_what_failed_blocks_nobody_for_ever():
    """Its nonce goes to the next one, when a final block has outlived its approval."""
    state = opened(asked(1, deadline=60), asked(2, deadline=500))
    assert questions(state, 60) == []
    assert questions(state, 61) == [ANN]
    [freed] = conclude(state, ANN, 4, head(9, 61))
    assert isinstance(freed, NonceFreed) and freed.nonce == 4
    evolve(state, freed)
    evolve(state, asked(3))
    assert nonces(state) == {"m-2": 5}
    settle(state)
    assert nonces(state) == {"m-2": 5, "m-3": 4}


def test_a_count_of_the_chain_ends_grants_below_it():
    state = opened(asked(1), asked(2))
    [count] = conclude(state, ANN, 5, head(9, 70))
    evolve(state, count)
    assert nonces(state) == {"m-2": 5}
    assert conclude(state, ANN, 4, head(8, 300)) == [], "a node that lags tells nothing"
    assert evolve(state, count) is Verdict.REPEATED


def test_a_mint_is_attributed_whichever_comes_first():
    state = opened(asked(1))
    evolve(state, seen(1, 4))
    [fact] = settle(state)
    assert isinstance(fact, MintAttributed) and fact.request_key == "m-1"
    early = folded(seen(2, 0))
    assert early.attributed == {}
    evolve(early, asked(2))
    assert [f.kind for f in settle(early)] == ["MintAttributed"]
    evolve(early, NoncesCounted(chain_id=CHAIN, recipient=ANN, count=1, block_number=9))
    assert due(early) == [], "what is minted is granted nothing"


def test_a_mint_under_another_nonce_frees_the_one_it_was_granted():
    state = opened(asked(1), asked(2))
    evolve(state, seen(2, 4))
    settle(state)
    assert nonces(state) == {}
    evolve(state, asked(1, 2))
    [grant] = settle(state)
    assert grant.nonce == 5


def test_a_retraction_opens_the_nonce_and_the_approval_lives_again():
    state = opened(asked(1), asked(2))
    mint = seen(1, 4)
    evolve(state, mint)
    settle(state)
    evolve(state, retracted(mint))
    [fact] = settle(state)
    assert isinstance(fact, AttributionRetracted) and fact.request_key == "m-1"
    assert nonces(state) == {"m-1": 4, "m-2": 5}
    assert evolve(state, mint) is Verdict.REPEATED, "told late, it counts no more"
    evolve(state, asked(3))
    assert due(state) == [], "what was counted may have been taken back too"
    assert questions(state, 0) == [ANN]
    [count] = conclude(state, ANN, 4, head(9, 60))
    assert (count.kind, count.count, count.retractions) == ("NoncesCounted", 4, 1)
    evolve(state, count)
    [grant] = settle(state)
    assert grant.nonce == 6


def test_a_grant_that_lives_again_keeps_its_nonce_from_a_third_beside_the_one_granted_meanwhile():
    """The owner had not read that the outsider's mint of m-1 was taken back."""
    state = opened(asked(1), asked(2))
    evolve(state, seen(2, 4))
    settle(state)
    evolve(state, retracted(seen(2, 4)))
    grant = live(state, "m-1").model_copy(update={"request_key": "m-3", "contract_id": word(3)})
    evolve(state, asked(3))
    assert evolve(state, grant) is Verdict.APPLIED
    assert [len(grants) for grants in state.of(ANN).held.values()] == [2, 1]
    evolve(state, seen(3, 4))
    assert nonces(state) == {"m-2": 5}, "whose mint comes first ends the other"
    settle(state)
    for told in conclude(state, ANN, 5, head(9, 60)):
        evolve(state, told)
    evolve(state, asked(1, 2))
    assert [f.nonce for f in settle(state)] == [6], "and that one asks again"


def test_a_count_that_was_taken_back_before_anyone_saw_why_is_lowered():
    state = opened(asked(1), asked(2), count=6)
    assert nonces(state) == {"m-1": 6, "m-2": 7}
    [fewer] = conclude(state, ANN, 5, head(9, 60))
    evolve(state, fewer)
    evolve(state, asked(3))
    assert [f.nonce for f in settle(state)] == [5]


def test_an_id_that_is_minted_to_another_recipient_ends_its_grant_until_it_is_taken_back():
    state = opened(asked(1))
    evolve(state, seen(1, 0, to=BOB))
    assert nonces(state) == {}
    evolve(state, retracted(seen(1, 0, to=BOB)))
    assert nonces(state) == {"m-1": 4}


def test_looking_changes_nothing():
    state = folded(asked(1))
    before = copy.deepcopy(state)
    assert questions(state, 500) == [ANN] and conclude(state, BOB, 0, head(1, 1)) and not due(state)
    assert state == before


def test_one_id_on_chain_is_one_request():
    state = opened(asked(1))
    twin = asked(1).model_copy(update={"request_key": word(1)})
    assert evolve(state, twin) is Verdict.APPLIED
    [refusal] = settle(state)
    assert isinstance(refusal, NameRefused)
    assert (refusal.request_key, refusal.named) == (word(1), "m-1")
    assert evolve(state, twin) is Verdict.REPEATED
    assert nonces(state) == {"m-1": 4}


@pytest.mark.parametrize("nonce", [3, 4])
def test_a_grant_that_cannot_be_is_refused(nonce):
    state = opened(asked(1))
    grant = live(state, "m-1").model_copy(update={"request_key": "m-9", "nonce": nonce})
    assert evolve(state, grant) is Verdict.OUT_OF_ORDER


@dataclass
class World:
    """A contract of which every block is final at once, its mints, and time."""

    state: Sequences = field(default_factory=lambda: Sequences(CHAIN))
    log: list[SequenceFact] = field(default_factory=list)
    count: int = 0
    time: int = 0
    attempts: dict[int, int] = field(default_factory=dict)
    done: set[str] = field(default_factory=set)

    def tell(self, fact: SequenceFact) -> None:
        self.log.append(fact)
        before = copy.deepcopy(self.state)
        verdict = evolve(self.state, fact)
        assert verdict in (Verdict.APPLIED, Verdict.REPEATED), fact
        if verdict is Verdict.REPEATED:
            assert self.state == before
        assert evolve(self.state, fact) is not Verdict.CONFLICT
        if isinstance(fact, NonceGranted):
            self.alone(fact)

    def alone(self, fact: NonceGranted) -> None:
        """No other approval of this nonce, and none of this request, can execute any more."""
        for other in self.state.granted.values():
            same = other.nonce == fact.nonce or other.request_key == fact.request_key
            if other.id != fact.id and same:
                assert self.is_dead(other), (other, fact)

    def is_dead(self, grant: NonceGranted) -> bool:
        used = grant.nonce < self.count or grant.contract_id in self.done
        return used or self.time > grant.deadline

    def work(self) -> None:
        for recipient in questions(self.state, self.time):
            for fact in conclude(self.state, recipient, self.count, head(self.time, self.time)):
                self.tell(fact)
        for fact in due(self.state):
            self.tell(fact)

    def ask(self, number: int) -> None:
        if word(number) not in self.done:
            attempt = self.attempts.get(number, 0)
            held = self.state.granted.get(f"granted:m-{number}:{attempt}")
            if held is None or self.is_dead(held):
                self.attempts[number] = attempt + (held is not None or attempt == 0)
            again = self.attempts[number]
            self.tell(asked(number, again, deadline=self.time + 3))

    def execute(self, number: int) -> None:
        """Whoever holds the next nonce and has time left is executed; else someone else's mint."""
        [grant] = self.state.of(ANN).held.get(self.count, {}).values() or [None]
        fits = grant is not None and number % 2 and self.time <= grant.deadline
        name = int(grant.contract_id, 16) if fits else 1000 + self.count
        if word(name) not in self.done:
            self.done.add(word(name))
            self.count += 1
            self.tell(seen(name, self.count - 1))

    def wait(self, seconds: int) -> None:
        self.time += seconds


STEPS = st.lists(
    st.tuples(st.sampled_from(["ask", "execute", "wait", "work"]), st.integers(1, 5)), max_size=40
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_no_nonce_is_granted_twice_to_approvals_that_live(steps):
    world = World()
    for act, number in steps:
        if act == "work":
            world.work()
        else:
            getattr(world, act)(number)
    again = Sequences(CHAIN)
    for fact in world.log:
        evolve(again, fact)
    assert again == world.state, "a replay gives the same"
    world.work()
    world.work()
    owed = due(world.state)
    assert owed == [], "whatever was owed was told"
    told = [fact.id for fact in world.log if isinstance(fact, NonceGranted | MintUnattributed)]
    assert len(told) == len(set(told))
