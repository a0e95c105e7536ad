"""The guard's record in PostgreSQL, in a schema of its own: `signing_guard`.

What is claimed is committed before `claim` returns, and survives the log: nothing rebuilds or drops
it. Requests are locked while they are judged, so two signers cannot both be the first. Claims that
come while a round trip is under way share the next one. Nothing here is asked twice in secret: with
the database away, `claim` raises GuardUnavailable, and the next call connects anew.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.json import Jsonb

from orchestrator.core.guarding import Entry, Proof, Refusal, conflict, judge
from orchestrator.errors import ConfigurationError, GuardUnavailable
from orchestrator.metrics import GUARD_SECONDS, timed
from orchestrator.postgres_troubles import advice

LARGEST_BATCH = 200
SCHEMA_LOCK = 7_305_520_011
_STATEMENT_SECONDS = 10

SCHEMA = """
CREATE SCHEMA IF NOT EXISTS signing_guard;
CREATE TABLE IF NOT EXISTS signing_guard.digests (
    request_key text NOT NULL,
    digest text NOT NULL,
    attempt integer NOT NULL,
    chain_id bigint NOT NULL,
    contract text NOT NULL,
    contract_id text NOT NULL,
    account text NOT NULL,
    amount numeric(78, 0) NOT NULL,
    nonce numeric(78, 0) NOT NULL,
    deadline numeric(78, 0) NOT NULL,
    proof jsonb,
    claimed_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (request_key, digest)
);
CREATE INDEX IF NOT EXISTS digests_by_time ON signing_guard.digests (claimed_at);
CREATE TABLE IF NOT EXISTS signing_guard.refusals (
    request_key text NOT NULL,
    digest text NOT NULL,
    kind text NOT NULL,
    detail text NOT NULL,
    refused_at timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (request_key, digest, kind)
);
"""

_COLUMNS = (
    "request_key, digest, attempt, chain_id, contract, contract_id, account, amount, nonce, "
    "deadline, proof"
)
_LOCK = (
    "SELECT pg_advisory_xact_lock(730556, place) FROM (SELECT DISTINCT hashtext(key) AS place "
    "FROM unnest(%s::text[]) AS key ORDER BY place) AS places"
)
_HELD = f"SELECT {_COLUMNS} FROM signing_guard.digests WHERE request_key = ANY(%s)"  # noqa: S608
_INSERT = (
    f"INSERT INTO signing_guard.digests ({_COLUMNS}) "  # noqa: S608 - names, no values
    "VALUES (%s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s) ON CONFLICT DO NOTHING"
)

Link = psycopg.AsyncConnection[Any]
T = TypeVar("T")


def parameters(url: str, name: str = "SIGNING_GUARD_URL") -> dict[str, Any]:
    """What psycopg connects with. Raises ConfigurationError, which never shows the URL."""
    plain = url.replace("postgresql+psycopg://", "postgresql://", 1)
    try:
        if not plain.startswith(("postgresql://", "postgres://")):
            raise psycopg.ProgrammingError
        parts = dict(conninfo_to_dict(plain))
    except psycopg.ProgrammingError:
        raise ConfigurationError(
            [f"{name}: cannot be read; give postgresql://user:password@host/database"]
        ) from None
    options = f"{parts.get('options') or ''} -c synchronous_commit=on "
    options += f"-c statement_timeout={_STATEMENT_SECONDS}s"
    return {
        "connect_timeout": 5,
        "tcp_user_timeout": 15_000,
        "keepalives_idle": 10,
        "keepalives_interval": 3,
        "keepalives_count": 3,
        "target_session_attrs": "read-write",
        "application_name": "signing guard",
        **parts,
        "options": options.strip(),
    }


class PostgresGuard:
    """`ports.SigningGuard`. One session, opened when it is needed, until `close`.

    `margin_seconds` after its deadline an approval counts as dead. `makes_schema`: for a process
    that owns the database anyway; others wait for `orchestrator init`.
    """

    def __init__(self, url: str, margin_seconds: int, *, makes_schema: bool = False) -> None:
        self._parameters = parameters(url)
        self._margin = margin_seconds
        self._makes_schema = makes_schema
        self._link: Link | None = None
        self._turn = asyncio.Lock()
        self._waiting: list[tuple[Entry, asyncio.Future[Refusal | None]]] = []
        self._flushing: asyncio.Task[None] | None = None
        self.up: bool | None = None
        """Whether the database answered when last asked; None before that."""

    async def claim(self, entry: Entry) -> Refusal | None:
        """Record the intent to sign, durably. The refusal, if the digest may not be signed."""
        answer: asyncio.Future[Refusal | None] = asyncio.get_running_loop().create_future()
        self._waiting.append((entry, answer))
        if self._flushing is None or self._flushing.done():
            self._flushing = asyncio.create_task(self._flush(), name="signing guard")
        return await answer

    async def prepare(self) -> None:
        """Create what is missing. Raises GuardUnavailable."""
        async with self._turn:
            await self._asked(self._make)

    async def entries(self) -> list[Entry]:
        """The whole record, in the order of claiming. Raises GuardUnavailable."""
        async with self._turn:
            return await self._asked(
                lambda link: self._read(link, "ORDER BY claimed_at, request_key, digest")
            )

    async def of_request(self, request_key: str) -> list[Entry]:
        async with self._turn:
            return await self._asked(
                lambda link: self._read(
                    link,
                    "WHERE request_key = %s ORDER BY claimed_at, digest",
                    [_stored(request_key)],
                )
            )

    async def times(self) -> list[tuple[float, str]]:
        """When (Unix seconds) which request was claimed; for the audit of CloudTrail's events."""

        async def read(link: Link) -> list[tuple[float, str]]:
            found = await link.execute(
                "SELECT extract(epoch FROM claimed_at)::float8, request_key "
                "FROM signing_guard.digests ORDER BY claimed_at"
            )
            return [(float(at), _told(key)) for at, key in await found.fetchall()]

        async with self._turn:
            return await self._asked(read)

    async def merge(self, given: Sequence[Entry]) -> list[str]:
        """Take in another record, whole or not at all; what conflicts, told one by one."""
        async with self._turn:
            return await self._asked(lambda link: self._merge(link, given))

    async def close(self) -> None:
        if self._flushing is not None:
            self._flushing.cancel()
            await asyncio.gather(self._flushing, return_exceptions=True)
        await self._drop()

    async def _flush(self) -> None:
        while self._waiting:
            batch = self._batch()
            try:
                async with self._turn:
                    entries = [entry for entry, _ in batch]
                    with timed(GUARD_SECONDS):
                        verdicts = await self._asked(lambda link: self._judge(link, entries))  # noqa: B023
            except BaseException as error:
                told = error if isinstance(error, Exception) else GuardUnavailable("closed")
                for _, answer in batch:
                    if not answer.done():
                        answer.set_exception(told)
                if not isinstance(error, Exception):
                    raise
                continue
            for (_, answer), verdict in zip(batch, verdicts, strict=True):
                if not answer.done():
                    answer.set_result(verdict)

    def _batch(self) -> list[tuple[Entry, asyncio.Future[Refusal | None]]]:
        """One claim of a request at a time: the second is judged after the first."""
        batch: list[tuple[Entry, asyncio.Future[Refusal | None]]] = []
        later, keys = [], set()
        for item in self._waiting:
            key = item[0].request_key
            if key in keys or len(batch) == LARGEST_BATCH:
                later.append(item)
                continue
            keys.add(key)
            batch.append(item)
        self._waiting = later
        return batch

    async def _asked(self, ask: Callable[[Link], Awaitable[T]]) -> T:
        try:
            if self._link is None or self._link.closed:
                self._link = await psycopg.AsyncConnection.connect(
                    **self._parameters, autocommit=True
                )
                await self._link.set_isolation_level(psycopg.IsolationLevel.READ_COMMITTED)
                if self._makes_schema:
                    await self._make(self._link)
            answer = await ask(self._link)
        except psycopg.errors.UndefinedTable:
            self.up = False
            raise GuardUnavailable("the guard has no tables here: run orchestrator init") from None
        except (psycopg.Error, OSError) as error:
            self.up = False
            await self._drop()
            state = getattr(error, "sqlstate", None)
            known = advice(str(error), "SIGNING_GUARD_URL")
            raise GuardUnavailable(
                f"{type(error).__name__}{f' ({state})' if state else ''}"
                f"{f'; {known}' if known else ''}"
            ) from None
        except asyncio.CancelledError:
            await self._drop()
            raise
        self.up = True
        return answer

    async def _drop(self) -> None:
        link, self._link = self._link, None
        if link is not None:
            await link.close()

    async def _make(self, link: Link) -> None:
        found = await link.execute("SELECT to_regclass('signing_guard.refusals') IS NOT NULL")
        if (await found.fetchone() or (False,))[0]:
            return
        async with link.transaction():
            await link.execute("SELECT pg_advisory_xact_lock(%s)", [SCHEMA_LOCK])
            await link.execute(SCHEMA)

    async def _read(self, link: Link, rest: str, values: Sequence[Any] = ()) -> list[Entry]:
        statement = f"SELECT {_COLUMNS} FROM signing_guard.digests {rest}"  # noqa: S608
        found = await link.execute(statement.encode(), values)
        return [_entry(row) for row in await found.fetchall()]

    async def _locked(self, link: Link, keys: list[str]) -> tuple[dict[str, list[Entry]], float]:
        """Hold these requests until the transaction ends; what is recorded, and the time. To be
        asked in a pipeline: PostgreSQL runs the statements in this order, and each sees what was
        committed before it began, so the record is read under the locks."""
        stored = [_stored(key) for key in keys]
        await link.execute(_LOCK.encode(), [stored])
        found = await link.execute(_HELD.encode(), [stored])
        now = await link.execute("SELECT extract(epoch FROM clock_timestamp())::float8")
        held: dict[str, list[Entry]] = {key: [] for key in keys}
        for entry in [_entry(row) for row in await found.fetchall()]:
            held[entry.request_key].append(entry)
        return held, float((await now.fetchone() or (0.0,))[0])

    async def _judge(self, link: Link, entries: list[Entry]) -> list[Refusal | None]:
        """In two round trips; returns once the second, with the commit, is answered."""
        async with link.pipeline(), link.transaction():
            held, now = await self._locked(link, [entry.request_key for entry in entries])
            verdicts = [
                judge(entry, held[entry.request_key], now, self._margin) for entry in entries
            ]
            fresh, refused = [], []
            for entry, verdict in zip(entries, verdicts, strict=True):
                if verdict is None:
                    if all(other.digest != entry.digest for other in held[entry.request_key]):
                        fresh.append(_row(entry))
                elif verdict.alarming:
                    why = (_stored(verdict.kind.value), _stored(verdict.detail))
                    refused.append((_stored(entry.request_key), entry.digest, *why))
            async with link.cursor() as cursor:
                if fresh:
                    await cursor.executemany(_INSERT.encode(), fresh)
                if refused:
                    await cursor.executemany(
                        "INSERT INTO signing_guard.refusals (request_key, digest, kind, detail) "
                        "VALUES (%s, %s, %s, %s) ON CONFLICT DO NOTHING",
                        refused,
                    )
        return verdicts

    async def _merge(self, link: Link, given: Sequence[Entry]) -> list[str]:
        found: list[str] = []
        async with link.transaction() as transaction:
            keys = sorted({entry.request_key for entry in given})
            async with link.pipeline():
                held, now = await self._locked(link, keys)
            for entry in given:
                beside = held[entry.request_key]
                why = conflict(entry, beside, now, self._margin)
                if why is not None:
                    found.append(f"{entry.request_key} {entry.digest}: {why}")
                elif all(other.digest != entry.digest for other in beside):
                    beside.append(entry)
            if found:
                raise psycopg.Rollback(transaction)
            async with link.cursor() as cursor:
                await cursor.executemany(_INSERT.encode(), [_row(entry) for entry in given])
        return found


def _row(entry: Entry) -> tuple[Any, ...]:
    proof = None if entry.proof is None else Jsonb(asdict(entry.proof))
    names = _COLUMNS.split(", ")[:-1]
    return (*(_stored(getattr(entry, name)) for name in names), proof)


def _stored(value: Any) -> Any:
    """PostgreSQL's text holds no NUL; ids from outside may."""
    if isinstance(value, str):
        return value.replace("\\", "\\\\").replace("\0", "\\0")
    return value


def _told(value: Any) -> Any:
    if isinstance(value, str):
        return re.sub(r"\\(.)", lambda found: "\0" if found[1] == "0" else found[1], value)
    return value


def _entry(row: Sequence[Any]) -> Entry:
    values = dict(zip(_COLUMNS.split(", "), map(_told, row), strict=True))
    values |= {name: int(values[name]) for name in ("amount", "nonce", "deadline")}
    if values["proof"] is not None:
        values["proof"] = Proof(**values["proof"])
    return Entry(**values)
