"""`kuro.events`: what the bank's compliance service told us, as received."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated, ClassVar

from pydantic import Field

from schemas.base import INT64_MAX, ChainId, Fact


class Via(StrEnum):
    SOCKET = "socket"
    REST = "rest"


KuroRequestId = Annotated[str, Field(min_length=1, max_length=200, pattern=r"^[!-~]+$")]
"""Printable ASCII without spaces: a Kafka key, part of a URL, an argument of a contract."""


WITHOUT_NUL = r"^[^\x00]*$"
"""PostgreSQL has no text with U+0000: such a fact could never be projected."""


class MintOk(Fact):
    """Kuro allows a mint. `user` and `amount` stand as received: whether they make sense is decided
    once, by the core, so that a bad one ends as a REJECTED request that its sender can look up.

    Kuro may repeat a message with a new `timestamp_ms`; that is the same fact.
    """

    circumstances: ClassVar[frozenset[str]] = frozenset({"timestamp_ms", "via"})

    request_id: KuroRequestId
    user: Annotated[str, Field(max_length=200, pattern=WITHOUT_NUL)]
    amount: Annotated[str, Field(max_length=200, pattern=WITHOUT_NUL)]
    fiat_ref: Annotated[str, Field(max_length=500, pattern=WITHOUT_NUL)]
    chain_id: ChainId
    timestamp_ms: Annotated[int, Field(ge=-INT64_MAX, le=INT64_MAX)]
    via: Via

    @property
    def id(self) -> str:
        return f"mint-ok:{self.request_id}"

    @property
    def key(self) -> str:
        return self.request_id
