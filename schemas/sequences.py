"""`lanes`, second half: the approval nonces of each recipient, where a contract wants an order.

One owner per chain whose contract has the `launchpad` profile. Request agents append what is asked
(`NonceRequested`) and what the chain did (`MintSeen`, `MintRetracted`); all else is appended by the
owner alone, inside a Kafka transaction that fences every earlier owner.

The owner also knows which request is behind a contract's 32-byte id: whatever may be executed for a
request was named here before it was approved. So it is the owner who attributes a mint on chain to
its request; whoever reads `evm.events` cannot know it.
"""

from __future__ import annotations

from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import Address, Amount, ChainId, Count, Fact, Hash

RequestKey = Annotated[str, Field(min_length=1, max_length=500)]


def sequence_key(chain_id: int) -> str:
    """The key of a chain's sequences on `lanes`; no wallet is called so."""
    return f"{chain_id}:approvals"


class SequenceFact(Fact):
    """`recipient` is whose nonces it is about."""

    chain_id: ChainId
    recipient: Address

    @property
    def key(self) -> str:
        return sequence_key(self.chain_id)


class NonceRequested(SequenceFact):
    """This attempt of a request waits for a nonce. `deadline` (Unix seconds) is the one that its
    approval will have; it is the grant's, so that whoever granted the nonce knows when the approval
    can no longer execute."""

    circumstances: ClassVar[frozenset[str]] = frozenset({"deadline"})

    request_key: RequestKey
    attempt: Annotated[int, Field(ge=1)]
    contract_id: Hash
    deadline: Count

    @property
    def id(self) -> str:
        return f"asked:{self.request_key}:{self.attempt}"


class NoncesCounted(SequenceFact):
    """The contract's `nonces(recipient)` at this final block: the first fact of a sequence, and how
    nonces that were used elsewhere become known. `retractions` is how many of the recipient's mints
    its teller knew to be taken back (left out for none): later ones may take this count back too.
    """

    count: Amount
    block_number: Count
    retractions: Count | None = None

    @property
    def retractions_known(self) -> int:
        return self.retractions or 0

    @property
    def id(self) -> str:
        known = f":{self.retractions}" if self.retractions else ""
        return f"counted:{self.chain_id}:{self.recipient}:{self.count}:{self.block_number}{known}"


class NonceGranted(SequenceFact):
    """This attempt, and no other one, may use the nonce, until `NonceFreed` says otherwise."""

    request_key: RequestKey
    attempt: Annotated[int, Field(ge=1)]
    contract_id: Hash
    nonce: Amount
    deadline: Count

    @property
    def id(self) -> str:
        return f"granted:{self.request_key}:{self.attempt}"


class NonceFreed(SequenceFact):
    """The approval that the nonce was granted for has not executed and never can: at this final
    block its deadline has passed and the nonce is unused."""

    request_key: RequestKey
    attempt: Annotated[int, Field(ge=1)]
    nonce: Amount
    block_number: Count
    block_timestamp: Count

    @property
    def id(self) -> str:
        return f"freed:{self.request_key}:{self.attempt}"


class MintFact(SequenceFact):
    """About one mint on chain; `seat` says where it stands, as in `evm.events`."""

    seat: Annotated[str, Field(min_length=1, max_length=200)]


class MintSeen(MintFact):
    """A mint of the contract at the configured depth, whoever approved it."""

    contract_id: Hash
    nonce: Amount
    amount: Amount
    tx_hash: Hash
    block_number: Count
    block_hash: Hash
    log_index: Count

    @property
    def id(self) -> str:
        return f"seen:{self.seat}"


class MintRetracted(MintFact):
    """A deep reorganisation took the mint back."""

    contract_id: Hash

    @property
    def id(self) -> str:
        return f"mint-retracted:{self.seat}"


class MintAttributed(MintFact):
    """The mint is the evidence of this request."""

    request_key: RequestKey
    amount: Amount
    tx_hash: Hash
    block_number: Count
    block_hash: Hash
    log_index: Count

    @property
    def id(self) -> str:
        return f"attributed:{self.seat}"


class MintUnattributed(MintFact):
    """No request was named by this mint's id when it was seen: someone else approved it. Should a
    request of that name appear later, `MintAttributed` follows."""

    contract_id: Hash

    @property
    def id(self) -> str:
        return f"unattributed:{self.seat}"


class AttributionRetracted(MintFact):
    """What was attributed to this request was taken back."""

    request_key: RequestKey

    @property
    def id(self) -> str:
        return f"attribution-retracted:{self.seat}"


class NameRefused(SequenceFact):
    """Another request has the same 32-byte id on chain, and only one of them can ever be minted."""

    request_key: RequestKey
    contract_id: Hash
    named: RequestKey

    @property
    def id(self) -> str:
        return f"name-refused:{self.request_key}"
