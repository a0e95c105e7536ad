"""Sequences where the log has others' facts between what their owner read and what it appended.

A whole small world: a chain that is reorganised at any depth, a follower and an owner that are
behind, nodes that answer from the past, approvals that end. Whatever the order: every reader of the
log holds what the owner holds, nothing is refused, and every request is minted in the end.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from orchestrator.core.chain import Head
from orchestrator.core.granting import conclude, due, questions
from orchestrator.core.sequences import Sequences, evolve
from orchestrator.core.stages import Verdict
from schemas.sequences import (
    MintRetracted,
    MintSeen,
    NonceGranted,
    NonceRequested,
    SequenceFact,
)

CHAIN = 5925
ANN, BOB = "0x" + "11" * 20, "0x" + "22" * 20
LIFE = 4
"""How long an approval can be used."""
MOST_ROUNDS = 60


def word(number: int) -> str:
    return f"0x{number:064x}"


def home(number: int) -> str:
    return BOB if number == 5 else ANN


@dataclass(frozen=True)
class Look:
    """What a node tells of one block: how many nonces each recipient has used."""

    number: int
    time: int
    counts: dict[str, int]


@dataclass
class Chain:
    mints: dict[str, list[MintSeen]] = field(default_factory=lambda: defaultdict(list))
    order: list[MintSeen] = field(default_factory=list)
    looks: list[Look] = field(default_factory=list)
    time: int = 0
    made: int = 0
    reorganised: bool = False

    def processed(self, contract_id: str) -> bool:
        return any(mint.contract_id == contract_id for mint in self.order)

    def is_dead(self, grant: NonceGranted) -> bool:
        used = grant.nonce < len(self.mints[grant.recipient]) or self.processed(grant.contract_id)
        return used or self.time > grant.deadline

    def mint(self, number: int, recipient: str) -> MintSeen:
        self.made += 1
        mint = MintSeen(
            chain_id=CHAIN,
            recipient=recipient,
            seat=f"{CHAIN}:{word(self.made)}:0",
            contract_id=word(number),
            nonce=len(self.mints[recipient]),
            amount=5,
            tx_hash=word(self.made),
            block_number=self.made,
            block_hash=word(self.made),
            log_index=0,
        )
        self.mints[recipient].append(mint)
        self.order.append(mint)
        return mint

    def undo(self) -> MintSeen:
        self.reorganised = True
        mint = self.order.pop()
        self.mints[mint.recipient].pop()
        return mint

    def seal(self) -> None:
        counts = {one: len(mints) for one, mints in self.mints.items()}
        self.looks.append(Look(len(self.looks), self.time, counts))


@dataclass
class World:
    """`told` is what the follower has still to append, `unread` what the owner has still to read.
    An answer of the chain may be concluded from later than it was given: `looked`."""

    chain: Chain = field(default_factory=Chain)
    log: list[SequenceFact] = field(default_factory=list)
    applied: list[SequenceFact] = field(default_factory=list)
    told: list[SequenceFact] = field(default_factory=list)
    unread: list[SequenceFact] = field(default_factory=list)
    memory: Sequences = field(default_factory=lambda: Sequences(CHAIN))
    truth: Sequences = field(default_factory=lambda: Sequences(CHAIN))
    attempts: dict[int, int] = field(default_factory=dict)
    grants: dict[str, NonceGranted] = field(default_factory=dict)
    looked: Look | None = None

    def fold(self, state: Sequences, fact: SequenceFact) -> None:
        verdict = evolve(state, fact)
        assert verdict in (Verdict.APPLIED, Verdict.REPEATED), (verdict, fact)
        if state is self.truth and verdict is Verdict.APPLIED:
            self.applied.append(fact)

    def others(self, fact: SequenceFact) -> None:
        self.log.append(fact)
        self.fold(self.truth, fact)
        self.unread.append(fact)

    def own(self, fact: SequenceFact) -> None:
        if isinstance(fact, NonceGranted):
            self.alone(fact)
            self.grants[fact.request_key] = fact
        self.log.append(fact)
        self.fold(self.truth, fact)
        self.fold(self.memory, fact)

    def alone(self, fact: NonceGranted) -> None:
        """Unless the chain broke its word, nothing else that can execute has this nonce, and
        nothing of this request; nothing that the owner knows in any case."""
        assert fact.nonce not in self.memory.of(fact.recipient).held
        assert fact.request_key not in self.memory.live
        for other in self.truth.granted.values():
            nonce = (other.recipient, other.nonce) == (fact.recipient, fact.nonce)
            if (nonce or other.request_key == fact.request_key) and not self.chain.reorganised:
                assert self.chain.is_dead(other), (other, fact)

    def ask(self, number: int) -> None:
        """Once more only when its newest approval can execute no more."""
        key, attempt = f"m-{number}", self.attempts.get(number, 0)
        held = self.grants.get(key)
        waits = attempt > 0 and (held is None or held.attempt < attempt)
        if self.chain.processed(word(number)) or (held and not waits and not self.is_over(held)):
            return
        self.attempts[number] = attempt if waits else attempt + 1
        fact = NonceRequested(
            chain_id=CHAIN,
            recipient=home(number),
            request_key=key,
            attempt=self.attempts[number],
            contract_id=word(number),
            deadline=self.chain.time + LIFE,
        )
        self.others(fact)

    def is_over(self, grant: NonceGranted) -> bool:
        return self.chain.is_dead(grant)

    def mint(self, number: int) -> None:
        """Under any approval that fits, whether its request knows of it or not; or another signer's
        mint, of a request of ours, also to somebody else, or of none."""
        recipient = home(number)
        fitting = [
            grant
            for grant in self.truth.granted.values()
            if (grant.recipient, grant.nonce) == (recipient, len(self.chain.mints[recipient]))
            and not self.chain.is_dead(grant)
        ]
        if fitting:
            self.executed(int(fitting[number % len(fitting)].contract_id, 16), recipient)

    def intrude(self, number: int) -> None:
        name, recipient = [(number, ANN), (number, BOB), (1000 + self.chain.made, ANN)][number % 3]
        if not self.chain.processed(word(name)):
            self.executed(name, recipient)

    def executed(self, name: int, recipient: str) -> None:
        self.told.append(self.chain.mint(name, recipient))

    def reorganise(self, number: int) -> None:
        """The follower retracts what it told, and never tells what it had not seen yet."""
        for _ in range(min(number, len(self.chain.order))):
            mint = self.chain.undo()
            if mint in self.told:
                self.told.remove(mint)
            else:
                self.told.append(_retracted(mint))

    def follow(self, number: int) -> None:
        now, self.told = self.told[:number], self.told[number:]
        for fact in now:
            self.others(fact)

    def wait(self, number: int) -> None:
        self.chain.time += number

    def read(self, number: int) -> None:
        self.concluded()
        now, self.unread = self.unread[:number], self.unread[number:]
        for fact in now:
            self.fold(self.memory, fact)

    def look(self, number: int) -> None:
        self.concluded()
        self.looked = self.chain.looks[-min(number, len(self.chain.looks))]

    def concluded(self) -> None:
        look, self.looked = self.looked, None
        if look is None or look.number < self.memory.counted_block:
            return
        head = Head(look.number, word(look.number), word(0), look.time, None)
        for recipient in questions(self.memory, look.time):
            for fact in conclude(self.memory, recipient, look.counts.get(recipient, 0), head):
                self.own(fact)

    def work(self, _: int) -> None:
        self.concluded()
        for fact in due(self.memory):
            self.own(fact)
        assert due(self.memory) == []

    def serve(self, _: int) -> None:
        """A whole pass, with nothing between."""
        self.follow(len(self.told))
        self.read(len(self.unread))
        self.look(1)
        self.work(1)

    def act(self, name: str, number: int) -> None:
        self.chain.seal()
        getattr(self, name)(number)
        self.chain.seal()

    def settled(self) -> bool:
        return all(self.chain.processed(word(number)) for number in self.attempts)

    def settle(self) -> None:
        """Nothing more happens but what the service does itself, and time."""
        for _ in range(MOST_ROUNDS):
            self.act("serve", 1)
            if self.settled():
                break
            for number in self.attempts:
                self.act("ask", number)
            self.act("serve", 1)
            for number in self.attempts:
                self.act("mint", number)
            self.act("wait", 1)
        assert self.settled(), "a request waits for ever"


def _retracted(mint: MintSeen) -> MintRetracted:
    return MintRetracted(
        chain_id=CHAIN, recipient=mint.recipient, seat=mint.seat, contract_id=mint.contract_id
    )


def replayed(facts: list[SequenceFact]) -> Sequences:
    state = Sequences(CHAIN)
    for fact in facts:
        evolve(state, fact)
    return state


PHRASES = [
    *(("serve",), ("ask",), ("mint",), ("intrude",), ("reorganise",), ("follow",), ("read",)),
    *(("look",), ("work",), ("wait",)),
    ("ask", "serve"),
    ("ask", "read"),
    ("ask", "ask", "read"),
    ("mint", "follow", "read"),
    ("intrude", "follow", "read"),
    ("ask", "read", "reorganise", "follow", "work"),
    ("look", "reorganise", "follow", "work"),
]
"""What the owner does not read in time is rare by chance alone."""
STEPS = st.lists(
    st.tuples(st.sampled_from(PHRASES), st.integers(1, 5), st.integers(1, 5)),
    min_size=10,
    max_size=40,
)


@given(STEPS)
@settings(max_examples=300, deadline=None)
def test_an_owner_that_reads_late_holds_what_the_log_says(steps):
    world = World()
    for phrase, number, other in steps:
        for place, act in enumerate(phrase):
            world.act(act, other if place % 2 else number)
    world.settle()
    assert world.memory == world.truth
    assert due(world.truth) == [], "whatever was owed was told"
    assert replayed(world.log) == world.truth, "a replay gives the same"
    assert replayed(world.applied) == world.truth, "what was REPEATED changed nothing"
    told: dict[str, SequenceFact] = {}
    for fact in world.log:
        assert told.setdefault(fact.id, fact).agrees_with(fact), "one id, two contents"
