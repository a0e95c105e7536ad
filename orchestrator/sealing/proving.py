"""Finding records on the log and proving that they stood there when their day was sealed."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from orchestrator.core.sealing.checking import Anchored, judged
from orchestrator.core.sealing.growing import Seat
from orchestrator.core.sealing.hashing import Logged
from orchestrator.core.sealing.proving import CannotProve, Proof, proved, stretch_of
from orchestrator.core.sealing.seals import Seal
from orchestrator.ports import SealableLog, SealAnchor
from orchestrator.sealing.running import Tell
from orchestrator.sealing.verifying import CannotTell
from schemas.topics import KURO_EVENTS, REQUESTS

Place = tuple[str, int, int]
"""Topic, partition, offset."""


async def believed(
    name: str, anchors: Sequence[SealAnchor], keys: Mapping[str, bytes]
) -> list[Seal]:
    """Every seal of the anchors, from the first one on. Raises CannotTell when there is none, or
    when one is not as it must be: a proof rests on it. Raises AnchorUnavailable."""
    if not keys:
        raise CannotTell("no public key to trust: SEAL_KMS_KEY_ID, SEAL_PUBLIC_KEYS_FILE or --key")
    held = [Anchored(anchor.name, await anchor.everything()) for anchor in anchors]
    verdict = judged(held, keys, name, due=None)
    if verdict.found:
        first = verdict.found[0]
        text = f"{first.day} {first.text}".strip()
        raise CannotTell(f"the seals are not as they must be (verify --chain): {text}")
    if not verdict.seals:
        raise CannotTell(f"there is no seal in {', '.join(item.anchor for item in held)}")
    return verdict.seals


async def prove(source: SealableLog, seals: Sequence[Seal], place: Place) -> Proof:
    """Reads one stretch of a partition. Raises CannotProve, LogUnavailable."""
    stretch = stretch_of(seals, place)
    seat = place[:2]
    bounds = await source.bounds()
    begin, end = bounds.get(seat, (0, 0))
    if begin > stretch.start or end < stretch.end:
        text = f"the log holds {begin} to {end - 1}: what was sealed there is gone"
        raise CannotProve(text)
    records: list[Logged] = []
    async for _, some in source.records({seat: stretch.start}, {seat: stretch.end}, set()):
        records += some
    return proved(stretch, place[2], records)


async def places_of(
    source: SealableLog,
    seals: Sequence[Seal],
    *,
    fact: str | None = None,
    request: str | None = None,
    tell: Tell,
) -> list[Place]:
    """Every sealed record of one fact's id, or of one request's key (what Kuro said of it, and its
    life), in the order of the log. Reads all that could hold them. Raises LogUnavailable."""
    bounds = await source.bounds()
    ends = {
        item.seat: min(item.end, bounds.get(item.seat, (0, 0))[1]) for item in seals[-1].partitions
    }
    if request is not None:
        topics = (KURO_EVENTS.name, REQUESTS.name)
        ends = {seat: end for seat, end in ends.items() if seat[0] in topics}
    wanted = _by_fact(fact) if fact is not None else _by_key(request or "")
    found: list[Place] = []
    done, total = 0, sum(ends.values())
    starts: dict[Seat, int] = {seat: bounds.get(seat, (0, 0))[0] for seat in ends}
    tell("looking", 0, total)
    async for seat, records in source.records(starts, ends, set()):
        found += [(*seat, record.offset) for record in records if wanted(record)]
        done += len(records)
        tell("looking", done, total)
    tell("looking", total, total)
    return sorted(found)


def _by_fact(fact: str) -> Callable[[Logged], bool]:
    header = ("id", fact.encode())
    return lambda record: any((name, value) == header for name, value in record.headers)


def _by_key(request: str) -> Callable[[Logged], bool]:
    key = request.encode()
    return lambda record: record.key == key
