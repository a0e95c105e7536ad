"""The guard's rules: may this digest be sent for signing, given all that ever were for its request?

They judge by what the guard itself recorded and by its own clock, never by what upstream holds to
be true. Two approvals of one request may differ in deadline and nonce alone: whatever else differs
(chain, contract, id, recipient, amount) is refused for ever, because it is one contract's own book
of processed ids that keeps a request from being executed twice, and no other contract reads it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from typing import Any


@dataclass(frozen=True, slots=True)
class Proof:
    """What the log says of the attempt before: dead at this final block (Unix seconds)."""

    attempt: int
    reason: str
    block_number: int
    block_timestamp: int


@dataclass(frozen=True, slots=True)
class Entry:
    """One digest (0x hex) of one request, and what it approves. `contract_id` is what the contract
    calls the request; `amount` in base units; `deadline` in Unix seconds; `attempt` is the first
    that asked for it, and `proof` what was told of the one before."""

    request_key: str
    digest: str
    attempt: int
    chain_id: int
    contract: str
    contract_id: str
    account: str
    amount: int
    nonce: int
    deadline: int
    proof: Proof | None = None

    @property
    def purpose(self) -> tuple[Any, ...]:
        """All that no later approval of the request may change."""
        return (self.chain_id, self.contract, self.contract_id, self.account, self.amount)

    @property
    def content(self) -> tuple[Any, ...]:
        """What the digest follows from."""
        return (*self.purpose, self.nonce, self.deadline)


class RefusalKind(StrEnum):
    EQUIVOCATION = "EQUIVOCATION"
    """Another digest of the request may still execute."""
    OTHER_PURPOSE = "OTHER_PURPOSE"
    """An approval of the request for another chain, contract, id, recipient or amount was asked
    for before."""
    NOT_YET = "NOT_YET"
    """The other digest's deadline has come; it is not past by the margin yet."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """`overtaken`: the record holds a later attempt of the request. Whoever slept while others went
    on asks so once, before it has read on; a restored backup asks so again and again."""

    kind: RefusalKind
    detail: str
    overtaken: bool = False

    @property
    def alarming(self) -> bool:
        """What passes by itself within the margin is no alarm."""
        return self.kind is not RefusalKind.NOT_YET


def judge(
    asked: Entry, held: Iterable[Entry], now_seconds: float, margin_seconds: int
) -> Refusal | None:
    """None when `asked` may be signed: every other digest of its request is dead.

    `held` is everything ever claimed for the request; `now_seconds` is the guard's own clock.
    """
    early: Refusal | None = None
    for other in held:
        if other.digest == asked.digest:
            continue
        told = f"digest {other.digest} of attempt {other.attempt}"
        if other.purpose != asked.purpose:
            return Refusal(
                RefusalKind.OTHER_PURPOSE,
                f"{told} approves {_words(other)}; this one {_words(asked)}",
            )
        if other.deadline + margin_seconds < now_seconds or _outrun(other, asked):
            continue
        if other.deadline <= now_seconds + margin_seconds:
            early = Refusal(
                RefusalKind.NOT_YET,
                f"{told} has its deadline at {other.deadline}, and {margin_seconds} s more are "
                "waited for",
            )
            continue
        return Refusal(
            RefusalKind.EQUIVOCATION,
            f"{told} may still execute until {other.deadline}",
            overtaken=other.attempt > asked.attempt,
        )
    return early


def _outrun(other: Entry, asked: Entry) -> bool:
    """Nonces in order: the one before is told to be used, and this is a later one. Even where that
    is a lie, the contract takes an id once: of two such approvals one executes at most
    (docs/decisions, the guard's record)."""
    proof = asked.proof
    return proof is not None and proof.attempt >= other.attempt and asked.nonce > other.nonce


def _words(entry: Entry) -> str:
    return (
        f"{entry.amount} for {entry.account} as {entry.contract_id} at {entry.contract} on chain "
        f"{entry.chain_id}"
    )


def conflict(
    given: Entry, held: Iterable[Entry], now_seconds: float, margin_seconds: int
) -> str | None:
    """Why an entry of another guard's record cannot stand beside what is held here; None when it
    can. Two records of one truth never conflict."""
    for other in held:
        if other.digest == given.digest:
            if other.content != given.content:
                return "the same digest is recorded with another content"
            continue
        ways = (
            judge(given, [other], now_seconds, margin_seconds),
            judge(other, [given], now_seconds, margin_seconds),
        )
        if all(found is not None and found.alarming for found in ways) and ways[0] is not None:
            return f"{ways[0].kind}: {ways[0].detail}"
    return None


def as_line(entry: Entry) -> dict[str, Any]:
    """As JSON: numbers that may be large as text."""
    line = asdict(entry)
    for name in ("amount", "nonce", "deadline"):
        line[name] = str(line[name])
    return line


def from_line(line: Any) -> Entry:
    """Raises ValueError for what `as_line` did not write."""
    try:
        proof = line["proof"]
        names = ("request_key", "digest", "contract", "contract_id", "account")
        texts = {name: line[name] for name in names}
        if not all(isinstance(text, str) and text for text in texts.values()):
            raise ValueError("a text is missing")
        return Entry(
            **texts,
            attempt=int(line["attempt"]),
            chain_id=int(line["chain_id"]),
            amount=int(line["amount"]),
            nonce=int(line["nonce"]),
            deadline=int(line["deadline"]),
            proof=None if proof is None else Proof(**proof),
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"no entry of a guard: {error}") from None
