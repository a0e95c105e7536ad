"""How an archive of states is laid out in SQLite, and what tells damage from hindrance."""

from __future__ import annotations

import sqlite3
from hashlib import blake2b

LAYOUT = 1
"""Of the tables below; a file of another layout is thrown away."""
APPLICATION = 0x73746174
TABLES = f"""
BEGIN;
CREATE TABLE states (
    request_key TEXT PRIMARY KEY, resting INTEGER NOT NULL, digest INTEGER NOT NULL,
    state BLOB NOT NULL
) WITHOUT ROWID;
CREATE TABLE letters (
    place INTEGER PRIMARY KEY, digest INTEGER NOT NULL, letter BLOB NOT NULL
);
CREATE TABLE position (
    one INTEGER PRIMARY KEY CHECK (one = 1), version TEXT NOT NULL, origin TEXT NOT NULL,
    next_offset INTEGER NOT NULL, last_digest BLOB NOT NULL, held INTEGER NOT NULL,
    sum INTEGER NOT NULL, stamp BLOB NOT NULL
);
PRAGMA application_id = {APPLICATION};
PRAGMA user_version = {LAYOUT};
COMMIT;
"""
FIND = """
SELECT (SELECT stamp FROM position), resting, digest, state
FROM (SELECT 1) LEFT JOIN states ON request_key = ?
"""
PART = "SELECT * FROM states WHERE request_key > ? AND resting = 1 ORDER BY request_key LIMIT ?"
SUM_LIMIT = 2**62
SUFFIXES = ("", "-wal", "-shm")

HINDRANCES = frozenset(
    {
        sqlite3.SQLITE_BUSY,
        sqlite3.SQLITE_CANTOPEN,
        sqlite3.SQLITE_FULL,
        sqlite3.SQLITE_LOCKED,
        sqlite3.SQLITE_NOMEM,
        sqlite3.SQLITE_PERM,
        sqlite3.SQLITE_READONLY,
    }
)
"""Tell nothing against the file; every other problem does."""

DAMAGE = (
    sqlite3.Error,
    ArithmeticError,
    AssertionError,
    AttributeError,
    LookupError,
    OSError,
    RecursionError,
    TypeError,
    ValueError,
)
"""What reading, writing or unpacking may give rise to when bytes are not what was written."""


def hinders(error: Exception) -> bool:
    if not isinstance(error, sqlite3.Error):
        return isinstance(error, OSError)
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in HINDRANCES


def digest_of(key: str, rests: int, raw: bytes) -> int:
    """Of a row, 56 bits: against damage, not against malice."""
    text = key.encode("utf-8", "surrogatepass") + (b"\1" if rests else b"\0") + raw
    return int.from_bytes(blake2b(text, digest_size=7).digest(), "big")


def stamp_of(*told: object) -> bytes:
    """Of everything that a position says."""
    return blake2b(repr(told).encode(), digest_size=16).digest()
