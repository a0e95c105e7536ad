"""Work that every simulated process would do alike is done once: reading a record's bytes, folding
it into a request's state. Each is a function of its arguments alone and gives frozen values, so who
does it changes nothing; the first time is always the real thing, and each run starts anew. The
oracle folds for itself, as the log grows and once more from zero at the end."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from orchestrator.core.lifecycle import RequestState, Verdict, evolve
from schemas import topics
from schemas.base import Fact, Position, Record, decode_value
from streams import books

Folded = tuple[RequestState | None, Verdict]


@contextmanager
def work_is_shared() -> Iterator[None]:
    records: dict[tuple[bytes | None, int, Position | None, str | None], Record] = {}

    def decoded(
        value: bytes | None,
        kinds: Mapping[str, type[Fact]],
        position: Position | None = None,
        trace: str | None = None,
    ) -> Record:
        mark = value, id(kinds), position, trace
        record = records.get(mark)
        if record is None:
            record = records[mark] = decode_value(value, kinds, position, trace)
        return record

    folds: dict[tuple[int, int], tuple[RequestState | None, Record, Folded]] = {}

    def folded(state: RequestState | None, record: Record) -> Folded:
        """By identity: what is remembered is kept, so no other object takes its place."""
        mark = id(state), id(record)
        held = folds.get(mark)
        if held is None:
            held = folds[mark] = state, record, evolve(state, record)
        return held[2]

    before = topics.decode_value, books.evolve
    topics.decode_value, books.evolve = decoded, folded
    try:
        yield
    finally:
        topics.decode_value, books.evolve = before
