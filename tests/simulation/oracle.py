"""What must hold. The oracle sees every record when it becomes visible, every question to KMS and
every byte that reaches a node, and it knows the truth of the chains."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping
from functools import lru_cache, partial

from orchestrator.adapters.kafka_log import partition_of
from orchestrator.core.contract import DecodedEvent, Profile
from orchestrator.core.lanes import LaneState
from orchestrator.core.lanes import evolve as evolve_lane
from orchestrator.core.lifecycle import (
    RequestState,
    Stage,
    Verdict,
    evolve,
)
from schemas.base import Position, Record, RequestType, UnreadableRecord
from schemas.controls import CancelOrdered, OrderFact
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import EventName
from schemas.kuro import MintOk
from schemas.lanes import (
    LaneFact,
    NonceTaken,
    RelayResumed,
    TransactionFinal,
    TransactionPrepared,
    relay_parts,
)
from schemas.requests import (
    ApprovalDrafted,
    FailureReason,
    RequestCompleted,
    RequestFact,
    RequestFailed,
)
from schemas.sequences import SequenceFact
from schemas.topics import LANES, REQUESTS, TOPICS
from streams.books import Book
from streams.judging import RESUMED_AT_MOST
from tests.simulation.broker import Entry
from tests.simulation.chain import Block, Chain
from tests.simulation.conservation import Conservation
from tests.simulation.overseer import Overseer
from tests.simulation.sequence_oracle import SequenceOracle
from tests.simulation.story import Story


def contract_id(chain: Chain, relay: str) -> str:
    """What the contract calls the request behind a piece of work."""
    return chain.contract.profile.contract_id(relay_parts(relay)[0].rpartition(":")[2])


@lru_cache(maxsize=20_000)
def event_of(
    profile: Profile, topics: tuple[str, ...], data: str, place: str = ""
) -> DecodedEvent | None:
    """A function of its arguments alone, and the oracle asks again and again."""
    return profile.decode_event(topics, data, place)


ENDED = frozenset({Stage.COMPLETED, Stage.REJECTED, Stage.FAILED})


class Oracle:
    def __init__(self, story: Story, chains: Mapping[int, Chain], overseer: Overseer) -> None:
        self._story = story
        self.overseer = overseer
        self.cancelled: set[str] = set()
        """Requests whose cancellation was ordered, whatever came of it."""
        self._chains = chains
        self.requests: dict[str, RequestState] = {}
        self.lanes: dict[str, LaneState] = {}
        self.letters: list[DeadLetter] = []
        self.allowed: dict[str, list[MintOk]] = defaultdict(list)
        self.planted: set[str] = set()
        """Base64 of bytes, and ids, that may stand among the dead letters."""
        self.deep: set[int] = set()
        """Chains that were reorganised deeper than the depth: nothing was final there."""
        self.dear: set[int] = set()
        """Chains where calls took more gas than estimates said, for a while."""
        self.sequences = {
            number: SequenceOracle(chain, self._violated, partial(self.deep.__contains__, number))
            for number, chain in chains.items()
        }
        self.conservation = Conservation(self._violated, chains)
        self.records = 0
        self.attempts = 0
        self._digests: set[str] = set()
        self._drafts: dict[str, ApprovalDrafted] = {}
        self._asked: dict[str, set[str]] = defaultdict(set)
        self._raws: set[str] = set()
        self._seats: dict[tuple[str, int], set[str]] = defaultdict(set)
        self._versions: dict[str, list[tuple[str, int, str]]] = defaultdict(list)
        self._taken: set[tuple[str, int]] = set()

    # What the log shows

    def witness(self, entry: Entry) -> None:
        self.records += 1
        position = Position(entry.topic, entry.partition, entry.offset)
        try:
            record = TOPICS[entry.topic].decode(entry.value, position)
        except UnreadableRecord as error:
            self._story.tell("unreadable record", where=position, why=str(error)[:60])
            return
        fact = record.fact
        self._story.tell(f"on the log: {fact.kind}", id=fact.id, where=position)
        match fact:
            case RequestFact():
                self._request(record, fact)
            case LaneFact():
                self._lane(fact)
            case SequenceFact():
                self.sequences[fact.chain_id].witness(fact)
            case MintOk():
                self.allowed[fact.request_id].append(fact)
                self.conservation.allows(fact)
            case OrderFact():
                self.overseer.order(record)
                if isinstance(fact, CancelOrdered):
                    self.cancelled.add(fact.request_key)
            case DeadLetter():
                self.letters.append(fact)

    def recorded(self, entry: Entry) -> None:
        """A transaction was committed, even if readers cannot see it yet."""
        if entry.topic == LANES.name and b"TransactionPrepared" in (entry.value or b""):
            fact = LANES.decode(entry.value).fact
            if isinstance(fact, TransactionPrepared):
                self._raws.add(fact.raw)
                self.overseer.committed(fact)

    def _request(self, record: Record, fact: RequestFact) -> None:
        before = self.requests.get(fact.request_key)
        state, verdict = evolve(before, record)
        if verdict is not Verdict.APPLIED or state is None:
            if verdict is not Verdict.REPEATED:
                self._story.tell(f"refused by the fold: {verdict}", id=fact.id)
            return
        self.requests[fact.request_key] = state
        if isinstance(fact, ApprovalDrafted):
            self.attempts = max(self.attempts, fact.attempt)
            self._digests.add(fact.digest)
            self._drafts.setdefault(fact.digest, fact)
            if state.received is not None:
                self.overseer.drafted(fact, state.received.chain_id)
            if before is not None and before.drafted is not None:
                self._only_one_lives(before, fact)
        elif isinstance(fact, RequestCompleted) and state.evidence is not None:
            evidence = state.evidence
            chain = self._chains[evidence.chain_id]
            if not self._is_final(chain, evidence.block_number, evidence.block_hash):
                self._violated("completed without a final event", fact=fact.id)

    def _only_one_lives(self, before: RequestState, fact: ApprovalDrafted) -> None:
        """A draft after another one: the same digest, or the old one can execute no more. Where
        other signers mint too, one of them may do so after the final block that proved it: the
        contract refuses the new one then, and no order of ours could have known."""
        old, received = before.drafted, before.received
        assert old is not None and received is not None
        if old.digest == fact.digest:
            return
        chain = self._chains[received.chain_id]
        final, in_order = chain.final, chain.contract.profile.sequential
        used = in_order and final.state.approvals.get(received.user, 0) > old.approval_nonce
        live = final.head.timestamp <= old.deadline and not used
        if live and not self._is_undone(chain):
            self._violated("two live approvals", id=fact.id, deadline=old.deadline)
        proof = before.refusal
        proved = chain.blocks[proof.block_number] if in_order and proof is not None else final
        if chain.contract.profile.contract_id(received.request_id) in proved.state.processed:
            self._violated("a new approval for what is done", id=fact.id)

    def _lane(self, fact: LaneFact) -> None:
        state = self.lanes.setdefault(fact.key, LaneState(fact.chain_id, fact.wallet))
        verdict = evolve_lane(state, fact)
        if verdict in (Verdict.CONFLICT, Verdict.OUT_OF_ORDER):
            self._violated(f"the lane's fold says {verdict}", id=fact.id)
        chain = self._chains[fact.chain_id]
        match fact:
            case TransactionPrepared():
                self._prepared(chain, fact)
                self.overseer.prepared(fact)
            case NonceTaken():
                self._taken.add((fact.key, fact.nonce))
                self._spent_by_others(chain, fact)
            case RelayResumed() if chain.chain_id not in self.deep:
                then = chain.blocks[fact.block_number].state.processed
                if contract_id(chain, fact.relay) in then:
                    self._violated("resumed what is done", id=fact.id)
            case TransactionFinal() if not self._is_final(
                chain, fact.block_number, fact.block_hash
            ):
                self._violated("final on the log, not on the chain", id=fact.id)

    def _prepared(self, chain: Chain, fact: TransactionPrepared) -> None:
        seat = (fact.key, fact.nonce)
        if fact.relay is None:
            return
        others = self._seats[seat] - {fact.relay}
        if others and seat not in self._taken:
            self._violated("one nonce, two requests", seat=seat, relays=[*others, fact.relay])
        self._seats[seat].add(fact.relay)
        versions = self._versions[fact.relay]
        is_new = seat not in [version[:2] for version in versions]
        for key, nonce, tx_hash in versions if is_new and chain.chain_id not in self.deep else ():
            spent = chain.final.state.nonces.get(key.partition(":")[2], 0) > nonce
            if not spent or self._may_have_worked(chain, tx_hash):
                self._violated("one request, two nonces without proof", id=fact.id, first=nonce)
        self._versions[fact.relay].append((fact.key, fact.nonce, fact.tx_hash))

    def _may_have_worked(self, chain: Chain, tx_hash: str) -> bool:
        """False for what was not mined, and for what was mined as a failure and is final."""
        block = chain.holds(tx_hash)
        if block is None:
            return False
        failed = not block.receipts[tx_hash].succeeded
        return not failed or block.head.number > chain.final.head.number

    def _spent_by_others(self, chain: Chain, fact: NonceTaken) -> None:
        if fact.relay is None or chain.chain_id in self.deep:
            return
        mine = [v for v in self._versions[fact.relay] if v[:2] == (fact.key, fact.nonce)]
        if any(chain.holds(tx_hash) is not None for _, _, tx_hash in mine):
            self._violated("our own transaction counts as another's", id=fact.id)

    def _is_final(self, chain: Chain, number: int, block_hash: str) -> bool:
        if chain.chain_id in self.deep:
            return True
        if number > chain.final.head.number:
            return False
        return chain.blocks[number].head.hash == block_hash

    # What leaves the service

    def on_bytes(self, raw: str) -> None:
        if raw not in self._raws:
            self._violated("bytes at a node that are not on the log", raw=raw)

    def on_ask(self, digest: str) -> None:
        if digest not in self._digests:
            self._violated("KMS asked for a digest that is not on the log", digest=digest)
            return
        draft = self._drafts[digest]
        others = self._asked[draft.request_key]
        live = [other for other in others - {digest} if self._lives(self._drafts[other])]
        if live and self._lives(draft) and not self._is_undone(self._chain_of(draft)):
            self._violated("KMS asked for two live digests", id=draft.id, digest=digest)
        others.add(digest)
        received = self.requests[draft.request_key].received
        assert received is not None
        self.conservation.asks(received)

    def _chain_of(self, draft: ApprovalDrafted) -> Chain:
        received = self.requests[draft.request_key].received
        assert received is not None
        return self._chains[received.chain_id]

    def _is_undone(self, chain: Chain) -> bool:
        """Nonces in order that were used in what a too deep reorganisation took back: the approvals
        that they had ended live again, and the contract takes an id once."""
        return chain.contract.profile.sequential and chain.chain_id in self.deep

    def _lives(self, draft: ApprovalDrafted) -> bool:
        """By what is final on the chain: it may still execute."""
        received = self.requests[draft.request_key].received
        assert received is not None
        chain = self._chains[received.chain_id]
        final, in_order = chain.final, chain.contract.profile.sequential
        used = in_order and final.state.approvals.get(received.user, 0) > draft.approval_nonce
        return final.head.timestamp <= draft.deadline and not used

    def on_block(self, chain: Chain, block: Block) -> None:
        """Everything minted rests on a fact with the same recipient and amount."""
        for log in block.logs:
            event = event_of(chain.contract.profile, log.topics, log.data)
            if event is None or event.event is not EventName.MINTED:
                continue
            if event.request_id in self._foreign(chain):
                continue
            self.conservation.mints(chain, event.request_id, event.amount)
            name_of = chain.contract.profile.contract_id
            names = [name for name in self.allowed if name_of(name) == event.request_id]
            facts = [fact for name in names for fact in self.allowed[name]]
            told = {(fact.chain_id, fact.user.lower(), fact.amount) for fact in facts}
            if (chain.chain_id, event.account.lower(), str(event.amount)) not in told:
                self._violated("minted without its fact", request=event.request_id)

    # What must hold at the end

    def owed(self, minted: Iterable[str]) -> list[str]:
        """What has not come to an end: requests, then lanes."""
        keys = list(minted)
        for chain in self._chains.values():
            keys += [f"redeem:{chain.chain_id}:{name}" for name in chain.final.state.locked]
            keys += self._burnt(chain)
        found = [(key, self.requests.get(key)) for key in keys]
        waiting = [
            f"{key} {state.stage if state else 'unknown'}"
            for key, state in found
            if state is None or state.stage not in ENDED
        ]
        waiting += [
            f"lane {lane.key} slots={sorted(lane.slots)} waiting={list(lane.waiting)}"
            for lane in self.lanes.values()
            if lane.slots or lane.waiting or lane.reverted
        ]
        return waiting

    def at_the_end(self, rejected: set[str]) -> None:
        for key, state in self.requests.items():
            wanted = Stage.REJECTED if key in rejected else Stage.COMPLETED
            if state.stage is not wanted and not self._may_have_failed(state):
                self._violated("ended otherwise", request=key, stage=state.stage, why=state.ending)
        for chain in self._chains.values():
            self._supply(chain)
        for letter in self.letters:
            if letter.raw_base64 not in self.planted and not self._is_planted(letter):
                self._violated("a dead letter", why=letter.detail, reason=letter.reason)

    def _may_have_failed(self, state: RequestState) -> bool:
        """An operator cancelled it; or the nodes misjudged its gas again and again."""
        ending = state.ending
        if not isinstance(ending, RequestFailed) or state.stage is not Stage.FAILED:
            return False
        if ending.reason is FailureReason.CANCELLED:
            return state.key in self.cancelled
        assert state.received is not None
        dear = state.received.chain_id in self.dear
        return dear and ending.detail.endswith(f"it ran out of gas {RESUMED_AT_MOST + 1} times")

    def _is_planted(self, letter: DeadLetter) -> bool:
        if letter.reason is DeadLetterReason.OUT_OF_ORDER and "Reported" in letter.detail:
            return letter.detail.startswith(
                ("RetryReported ", "CancelReported ", "ApproveReported ")
            )
        if letter.reason is DeadLetterReason.UNBACKED:
            return any(
                name in letter.detail for c in self._chains.values() for name in self._foreign(c)
            )
        conflict = letter.reason is DeadLetterReason.CONFLICT
        return conflict and any(f" {name}:received:" in letter.detail for name in self.planted)

    def _supply(self, chain: Chain) -> None:
        minted: dict[str, int] = defaultdict(int)
        told, others = chain.given, self._foreign(chain) - self._own_ids(chain)
        for block in chain.blocks:
            for log in block.logs:
                event = event_of(chain.contract.profile, log.topics, log.data)
                if event is not None and event.event is EventName.MINTED:
                    minted[event.request_id] += 1
                    told += event.amount if event.request_id in others else 0
        twice = [name for name, count in minted.items() if count > 1]
        if twice:
            self._violated("minted twice", requests=twice)
        for state in self.requests.values():
            received = state.received
            if received is None or received.chain_id != chain.chain_id:
                continue
            if state.stage is Stage.COMPLETED:
                sign = 1 if received.type is RequestType.MINT else -1
                told += sign * int(received.amount)
        if told != chain.blocks[-1].state.supply:
            self._violated(
                "supply and facts differ", facts=told, chain=chain.blocks[-1].state.supply
            )

    def _foreign(self, chain: Chain) -> set[str]:
        """Ids that another signer approved; nobody else's mints may be without a fact."""
        return getattr(chain.contract, "foreign", set())

    def _own_ids(self, chain: Chain) -> set[str]:
        """The ids on chain of the requests that count as minted there. What was given up before it
        asked for a nonce is named nowhere: another signer's mint of it is a dead letter."""
        name_of = chain.contract.profile.contract_id
        states = [s for s in self.requests.values() if s.stage is Stage.COMPLETED]
        held = [s.received for s in states if s.received is not None]
        return {name_of(item.request_id) for item in held if item.chain_id == chain.chain_id}

    def _burnt(self, chain: Chain) -> list[str]:
        """Redemptions that burnt at once, at final depth."""
        keys = []
        for block in chain.blocks[: chain.final.head.number + 1] if self._in_order(chain) else ():
            for log in block.logs:
                place = f"{log.tx_hash}:{log.log_index}"
                event = event_of(chain.contract.profile, log.topics, log.data, place)
                if event is not None and event.event is EventName.REDEEMED_AT_ONCE:
                    keys.append(f"redeem:{chain.chain_id}:{place}")
        return keys

    def _in_order(self, chain: Chain) -> bool:
        return chain.contract.profile.sequential

    def replay(self, entries: Iterable[Entry]) -> None:
        """The whole log once more, from zero, gives the states that were folded as it grew."""
        requests: dict[str, RequestState] = {}
        lanes: dict[str, LaneState] = {}
        for entry in entries:
            position = Position(entry.topic, entry.partition, entry.offset)
            try:
                record = TOPICS[entry.topic].decode(entry.value, position)
            except UnreadableRecord:
                continue
            fact = record.fact
            if isinstance(fact, RequestFact):
                state, _ = evolve(requests.get(fact.request_key), record)
                if state is not None:
                    requests[fact.request_key] = state
            elif isinstance(fact, LaneFact):
                lane = lanes.setdefault(fact.key, LaneState(fact.chain_id, fact.wallet))
                evolve_lane(lane, fact)
        if requests != self.requests or lanes != self.lanes:
            self._violated("a replay from zero gives other states")

    def compare_lane(self, who: str, state: LaneState) -> None:
        """What an owner holds in memory is what the log gives."""
        if state != self.lanes.get(state.key):
            self._violated("a lane's owner differs from the log", who=who, lane=state.key)

    def compare(self, who: str, book: Book) -> None:
        """A running book holds what a replay from zero gives: in memory, or put away."""
        awake = {state.key for state in book.states()}
        owned = {key for key in self.requests if partition_of(REQUESTS, key) in book.partitions}
        for key in sorted(awake | owned):
            state = book.state(key)
            if state != self.requests.get(key) and not (state is None and not book.is_ready):
                self._violated("a book differs from the log", who=who, request=key)

    def _violated(self, what: str, **details: object) -> None:
        self._story.violated(what, **details)
