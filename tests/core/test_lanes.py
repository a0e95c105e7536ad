"""A lane and its chain in a model: outsiders, drops, reorganisations, replacements, give-backs.

Whatever happens: no nonce serves two requests, no request goes out under a second nonce without
proof, replacements pay more, and once the chain holds still everything comes to its end.
"""

from __future__ import annotations

import copy
from collections import defaultdict

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from orchestrator.core.chain import ChainView, Head, Receipt
from orchestrator.core.fees import Fees, first_quote, replacement
from orchestrator.core.lane_views import (
    conclude,
    displaceable,
    holes,
    in_question,
    overdue,
)
from orchestrator.core.lanes import (
    LaneState,
    evolve,
    next_work,
    unmined,
    unsent,
    unstarted,
)
from orchestrator.core.lifecycle import Verdict
from schemas.lanes import (
    LaneOpened,
    NonceTaken,
    RelayRefusal,
    RelayRefused,
    RelayRequested,
    TransactionBroadcast,
    TransactionPrepared,
    TransactionResent,
)
from tests.core.facts import CHAIN, CONTRACT, WALLETS, word

WALLET = WALLETS[0]
LANE = {"chain_id": CHAIN, "wallet": WALLET}
DEPTH = 2
CAP = 10**6
AFTER = 2


def work(number: int) -> RelayRequested:
    return RelayRequested(
        **LANE,
        request_key=f"m-{number}",
        request_id=f"m-{number}",
        attempt=1,
        contract=CONTRACT,
        data="0x12345678",
        deadline=10**12,
    )


class LaneAndChain(RuleBasedStateMachine):
    def __init__(self):
        super().__init__()
        self.count = 0
        self.blocks = [[]]
        self.names = [word(10**6)]
        self.pool = {}
        self.log = []
        self.state = LaneState(CHAIN, WALLET)
        self.suspected = set()
        self.base_fee = 10
        self.append(LaneOpened(**LANE, first_nonce=0, block_number=0))

    def fresh(self) -> str:
        self.count += 1
        return word(self.count)

    def append(self, fact):
        before = copy.deepcopy(self.state)
        verdict = evolve(self.state, fact)
        assert verdict in (Verdict.APPLIED, Verdict.REPEATED), (fact, verdict)
        if verdict is Verdict.REPEATED:
            assert self.state == before
        after = copy.deepcopy(self.state)
        assert evolve(self.state, fact) is Verdict.REPEATED, fact
        assert self.state == after
        self.log.append(fact)

    # What the chain does.

    def nonce_at(self, number):
        return sum(len(block) for block in self.blocks[: number + 1])

    def view(self) -> ChainView:
        top = len(self.blocks) - 1
        low = max(0, top - DEPTH)
        nonce = self.nonce_at(top)
        mined = {
            tx: Receipt(tx, number, self.names[number], True, 100)
            for number, block in enumerate(self.blocks)
            for tx in block
        }
        receipts = {tx: mined.get(tx) for tx in in_question(self.state, nonce)}

        def head(number):
            parent = self.names[number - 1] if number else word(0)
            return Head(number, self.names[number], parent, 1000 + number, self.base_fee)

        return ChainView(head(top), head(low), nonce, self.nonce_at(low), receipts)

    @rule(most=st.integers(0, 4))
    def a_block_is_mined(self, most=4):
        block, nonce = [], self.nonce_at(len(self.blocks) - 1)
        while len(block) < most and nonce in self.pool:
            block.append(self.pool.pop(nonce))
            nonce += 1
        self.blocks.append(block)
        self.names.append(self.fresh())

    @rule(ahead=st.integers(0, 1))
    def an_outsider_uses_the_key(self, ahead):
        nonce = self.nonce_at(len(self.blocks) - 1) + ahead
        self.pool[nonce] = self.fresh()

    @rule(depth=st.integers(1, DEPTH), kept=st.booleans())
    def a_reorganisation(self, depth, kept):
        depth = min(depth, len(self.blocks) - 1)
        for place in range(len(self.blocks) - depth, len(self.blocks)):
            nonce = self.nonce_at(place - 1)
            if kept:
                self.pool |= dict(enumerate(self.blocks[place], nonce))
        for place in range(len(self.blocks) - depth, len(self.blocks)):
            self.blocks[place], self.names[place] = [], self.fresh()

    @rule(choice=st.integers(0, 9))
    def the_pool_drops_one(self, choice):
        if self.pool:
            del self.pool[sorted(self.pool)[choice % len(self.pool)]]

    @rule(fee=st.sampled_from([1, 10, 1000, 10**5]))
    def the_market_moves(self, fee):
        self.base_fee = fee

    # What the lane does.

    @rule(number=st.integers(1, 6))
    def work_is_requested(self, number):
        self.append(work(number))

    def prepare(self, nonce, relay, fees, replaces=None):
        self.append(
            TransactionPrepared(
                **LANE,
                nonce=nonce,
                relay=relay,
                tx_hash=self.fresh(),
                raw="0x00",
                gas_limit=1000,
                max_fee_per_gas_wei=fees.max_fee_per_gas_wei,
                max_priority_fee_per_gas_wei=fees.max_priority_fee_per_gas_wei,
                replaces=replaces,
                block_number=len(self.blocks) - 1,
            )
        )

    @rule(limit=st.integers(0, 4))
    def work_is_prepared(self, limit=4):
        for item in next_work(self.state, limit):
            self.prepare(self.state.next_nonce, item.relay, first_quote(self.base_fee, 1, CAP))

    @rule(lost=st.booleans())
    def it_is_broadcast(self, lost=False, again=False):
        """To the pool; the answer may be lost."""
        for version in (unmined if again else unsent)(self.state):
            if version.nonce < self.nonce_at(len(self.blocks) - 1):
                continue
            known = self.pool.get(version.nonce) == version.tx_hash
            self.pool[version.nonce] = version.tx_hash
            if lost:
                continue
            about = {
                **LANE,
                "nonce": version.nonce,
                "relay": version.relay,
                "tx_hash": version.tx_hash,
            }
            if version.tx_hash not in self.state.slots[version.nonce].broadcast:
                self.append(TransactionBroadcast(**about))
            elif not known:
                fact = TransactionResent(**about, block_number=len(self.blocks) - 1)
                assert evolve(self.state, fact) is Verdict.REPEATED

    @rule()
    def the_lane_looks(self):
        view = self.view()
        facts = conclude(self.state, view, self.suspected)
        for fact in facts:
            if isinstance(fact, NonceTaken) and fact.relay is not None:
                self.is_displaced(fact)
        for fact in facts:
            self.append(fact)
        self.suspected = displaceable(self.state, view)
        for version in overdue(self.state, view, AFTER):
            paid = Fees(version.max_fee_per_gas_wei, version.max_priority_fee_per_gas_wei)
            fees = replacement(paid, self.base_fee, 1, CAP)
            if fees is not None:
                self.prepare(version.nonce, version.relay, fees, version.tx_hash)

    def is_displaced(self, fact):
        """Proof: at final depth another transaction has the nonce."""
        final = self.blocks[: max(0, len(self.blocks) - DEPTH)]
        mined = [tx for block in final for tx in block]
        ours = {version.tx_hash for version in self.state.slots[fact.nonce].versions}
        assert mined[fact.nonce] not in ours

    @rule()
    def holes_are_healed(self):
        for nonce in holes(self.state, self.view()):
            self.prepare(nonce, None, first_quote(self.base_fee, 1, CAP))

    @rule()
    def an_unfit_wallet_gives_work_back(self):
        before = {relay for versions in self.versions().values() for relay in versions}
        for item in unstarted(self.state):
            assert item.relay not in before
            self.append(
                RelayRefused(
                    **LANE,
                    relay=item.relay,
                    reason=RelayRefusal.WALLET_UNFIT,
                    detail="no funds",
                    block_number=0,
                    block_timestamp=0,
                )
            )

    @rule()
    def a_new_owner_replays(self):
        anew = LaneState(CHAIN, WALLET)
        for fact in self.log:
            evolve(anew, fact)
        assert anew == self.state
        self.state, self.suspected = anew, set()

    def versions(self):
        found = defaultdict(set)
        for fact in self.log:
            if isinstance(fact, TransactionPrepared) and fact.relay is not None:
                found[fact.nonce].add(fact.relay)
        return found

    @invariant()
    def no_nonce_serves_two_requests(self):
        assert all(len(relays) == 1 for relays in self.versions().values())

    @invariant()
    def no_second_nonce_without_proof(self):
        """Between two nonces of one request stands the proof that the first one was lost."""
        last = {}
        for fact in self.log:
            if isinstance(fact, NonceTaken) and fact.relay is not None:
                assert last.pop(fact.relay) == fact.nonce
            if isinstance(fact, TransactionPrepared) and fact.relay is not None:
                assert last.setdefault(fact.relay, fact.nonce) == fact.nonce

    @invariant()
    def given_back_is_never_prepared(self):
        gone = set()
        for fact in self.log:
            if isinstance(fact, RelayRefused):
                gone.add(fact.relay)
            assert not (isinstance(fact, TransactionPrepared) and fact.relay in gone)

    @invariant()
    def replacements_pay_a_tenth_more_and_stay_under_the_cap(self):
        prepared = {f.tx_hash: f for f in self.log if isinstance(f, TransactionPrepared)}
        for fact in prepared.values():
            assert fact.max_fee_per_gas_wei <= CAP
            if fact.replaces is not None:
                old = prepared[fact.replaces]
                assert fact.max_fee_per_gas_wei * 10 >= old.max_fee_per_gas_wei * 11
                new_tip, old_tip = (
                    fact.max_priority_fee_per_gas_wei,
                    old.max_priority_fee_per_gas_wei,
                )
                assert new_tip * 10 >= old_tip * 11

    @invariant()
    def slots_are_in_order_of_their_nonces(self):
        assert list(self.state.slots) == sorted(self.state.slots)

    @invariant()
    def nothing_halts_within_the_final_depth(self):
        assert self.state.halted is None

    def teardown(self):
        """The chain holds still: everything is looked at, prepared, sent and mined."""
        for _ in range(40):
            self.the_lane_looks()
            self.holes_are_healed()
            self.work_is_prepared(limit=50)
            self.it_is_broadcast(again=True)
            self.a_block_is_mined(most=50)
        assert not self.state.slots and not self.state.waiting and not self.state.working
        asked = {fact.relay for fact in self.log if isinstance(fact, RelayRequested)}
        assert self.state.settled == asked
        mined = [tx for block in self.blocks for tx in block]
        relays = {f.tx_hash: f.relay for f in self.log if isinstance(f, TransactionPrepared)}
        done = [relays[tx] for tx in mined if relays.get(tx)]
        assert len(done) == len(set(done)), "a request was mined twice"


LaneAndChain.TestCase.settings = settings(max_examples=150, stateful_step_count=40, deadline=None)
TestLaneAndChain = LaneAndChain.TestCase
