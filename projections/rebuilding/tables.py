"""Which tables are a fold of the log, how their rows are named, and what of them may differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import LiteralString


@dataclass(frozen=True, slots=True)
class Table:
    """`key` names a row. `circumstances` are columns that two replays of one log may fill
    differently; `where` leaves out rows that mean nothing. `bulky` ones are loaded unindexed."""

    name: LiteralString
    key: tuple[LiteralString, ...]
    circumstances: frozenset[str] = frozenset()
    where: LiteralString = "true"
    bulky: bool = False


OFFSETS = Table("projection_offsets", ("topic", "partition"))

REBUILT = (
    OFFSETS,
    Table("requests", ("request_key",), bulky=True),
    Table("request_facts", ("topic", "partition", '"offset"'), bulky=True),
    Table("request_counts", ("type", "status", "stage", "chain_id"), where="count <> 0"),
    Table(
        "request_flow",
        ("width_seconds", "at"),
        where="(received <> 0 OR completed <> 0 OR failed <> 0)",
    ),
    Table("request_latencies", ("width_seconds", "at", "bin"), where="count <> 0"),
    Table("token_events", ("seat",)),
    Table("chain_supply", ("chain_id",), where="(minted <> 0 OR redeemed <> 0)"),
    Table("lanes", ("chain_id", "wallet")),
    Table("lane_transactions", ("chain_id", "wallet", "nonce", "tx_hash"), bulky=True),
    Table("lane_work", ("chain_id", "wallet", "relay"), bulky=True),
    Table("lane_facts", ("topic", "partition", '"offset"'), bulky=True),
    Table("pause_facts", ("topic", "partition", '"offset"')),
    Table("chain_heads", ("chain_id",)),
    Table("dead_letters", ("fact_id",)),
    Table("projection_faults", ("topic", "partition", '"offset"'), frozenset({"at"})),
    Table("projection_tallies", ("name", "label"), where="count <> 0"),
)
"""In the order in which a swap locks them: the offsets first, as every writer does."""

KEPT = frozenset({"projection_state", "alembic_version"})
"""What is not of the log: a swap leaves it where it is. A test knows every table of the
migrations to be in one of the two."""

COMPARED = tuple(table for table in REBUILT if table is not OFFSETS)
