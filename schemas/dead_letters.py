"""`dead-letters`: what could not be understood or conflicts, whole, with where it came from."""

from __future__ import annotations

import base64
import hashlib
from enum import StrEnum
from typing import Annotated

from pydantic import Field

from schemas.base import Count, Fact
from schemas.controls import Who, Why

LARGEST_RAW_BYTES = 256 * 1024


class DeadLetterReason(StrEnum):
    MALFORMED = "MALFORMED"
    """Not JSON, or not of the shape the source promises."""
    CONFLICT = "CONFLICT"
    """The same id as an earlier fact, with other content."""
    OUT_OF_ORDER = "OUT_OF_ORDER"
    """A fact that the request's stage does not admit."""
    UNBACKED = "UNBACKED"
    """A contract event without the fact that allows it."""


class DeadLetter(Fact):
    """`origin` says where it came from: `topic/partition/offset`, or the outer source with a digest
    of the bytes. `raw_base64` holds the first 256 KiB; `raw_bytes` and `raw_sha256`
    describe all."""

    origin: Annotated[str, Field(min_length=1, max_length=500)]
    reason: DeadLetterReason
    detail: str
    raw_base64: str
    raw_bytes: Count
    raw_sha256: str

    @property
    def id(self) -> str:
        return f"dead:{self.origin}:{self.reason}"

    @property
    def key(self) -> str:
        return self.origin

    @classmethod
    def of(
        cls,
        reason: DeadLetterReason,
        detail: str,
        raw: bytes,
        *,
        origin: str | None,
        source: str = "",
    ) -> DeadLetter:
        """Bytes from the log have an `origin`; others are named by `source` and digest."""
        digest = hashlib.sha256(raw).hexdigest()
        return cls(
            origin=origin or f"{source}/{digest}",
            reason=reason,
            detail=detail[:2000],
            raw_base64=base64.b64encode(raw[:LARGEST_RAW_BYTES]).decode(),
            raw_bytes=len(raw),
            raw_sha256=digest,
        )


class DeadLetterReplayed(Fact):
    """An operator had the bytes of a dead letter read again, now that its cause is mended; they
    stand at `position`. What the readers made of them this time, they say themselves."""

    letter: Annotated[str, Field(min_length=1, max_length=600)]
    position: str
    who: Who
    why: Why

    @property
    def id(self) -> str:
        return f"replayed:{self.letter}:{self.position}"

    @property
    def key(self) -> str:
        return self.letter
