"""Made-up rows are what the projection would write, and pages over many of them use indexes."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import UTC, datetime

import orjson
import pytest

from orchestrator.core.lifecycle import Stage
from orchestrator.dev import fill
from orchestrator.dev.stack import EmbeddedStack
from projections.database import connect
from projections.queries import Cursor, parse_list_query
from projections.rows import decode_state, row_of
from projections.store import Store, page_statement
from projections.writer import REQUEST_COLUMNS
from schemas.base import RequestType
from schemas.topics import REQUESTS
from tests.projections.conftest import new_database
from tests.projections.test_counts import COUNTED, KEPT

MANY = 50_000


def shown(value: object) -> str:
    if isinstance(value, datetime):
        return value.strftime("%Y-%m-%dT%H:%M:%S.") + f"{value.microsecond // 1000:03d}Z"
    return "\\N" if value is None else str(value)


def test_a_row_is_what_the_projection_writes() -> None:
    assert fill.COLUMNS == REQUEST_COLUMNS
    seen: Counter[tuple[str, str]] = Counter()
    for row, facts in fill.Generator(3000, datetime.now(UTC)).rows():
        values = dict(zip(fill.COLUMNS, row.split("\t"), strict=True))
        state = decode_state(orjson.loads(values.pop("state")))
        expected = {name: shown(value) for name, value in row_of(state).items() if name in values}
        assert values == expected
        for text in facts():
            assert REQUESTS.decode(text.encode()).fact.key == state.key
        seen[values["type"], values["stage"]] += 1
    assert seen[RequestType.MINT, Stage.COMPLETED] > seen[RequestType.REDEEM, Stage.COMPLETED]
    assert {stage for _, stage in seen} >= {Stage.REJECTED, Stage.FAILED, Stage.COMPLETED}


@pytest.fixture(scope="module")
async def filled(stack: EmbeddedStack, template: str) -> str:
    url = new_database(stack, template)
    await asyncio.to_thread(fill.fill, url, MANY, 1000)
    return url


async def test_filled_tables_have_true_counts_and_are_filled_once(filled: str) -> None:
    link = await connect(filled)
    try:
        counted = await (await link.execute(COUNTED)).fetchall()
        assert await (await link.execute(KEPT)).fetchall() == counted
        assert sum(row[4] for row in counted) == MANY
    finally:
        await link.close()
    with pytest.raises(fill.CannotFill, match="hold requests already"):
        fill.fill(filled, 1, 0)


BUSY = "0x" + "0" * 8 + "5eed" * 8
WORD = "0x" + "ab" * 32
QUERIES = [
    {},
    {"type": "REDEEM"},
    {"status": "FAILED"},
    {"status": "FAILED", "chainId": "5922"},
    {"status": "PENDING", "chainId": "1"},
    {"stage": "REJECTED"},
    {"stage": "UNBACKED"},
    {"stage": "REJECTED", "createdTo": "2020-01-01"},
    {"stage": "COMPLETED", "createdFrom": "2020-01-01"},
    {"type": "MINT", "stage": "SUBMITTED"},
    {"chainId": "5923"},
    {"chainId": "1"},
    {"user": BUSY},
    {"user": BUSY, "createdFrom": "2020-01-01"},
    {"user": BUSY, "status": "PENDING"},
    {"user": "nobody"},
    {"fiatRef": "wire-7"},
    {"txHash": WORD},
    {"createdFrom": "2020-01-01"},
    {"createdTo": "2020-01-01"},
    {"search": "m-00000123"},
    {"search": "m-"},
    {"search": BUSY},
    {"search": WORD},
    {"search": "nothing", "status": "FAILED"},
]


@pytest.mark.parametrize("query", QUERIES, ids=str)
@pytest.mark.parametrize("deep", [False, True], ids=["first", "deep"])
async def test_no_page_reads_the_whole_table(
    filled: str, query: dict[str, str], deep: bool
) -> None:
    asked = dict(query)
    if deep:
        asked["cursor"] = Cursor(datetime(2025, 1, 1, tzinfo=UTC), "m-1").encode()
    statement, values = page_statement(parse_list_query(asked.items()))
    link = await connect(filled)
    try:
        found = await link.execute(f"EXPLAIN {statement}", values)  # type: ignore[arg-type]
        plan = "\n".join(row[0] for row in await found.fetchall())
    finally:
        await link.close()
    assert "Seq Scan" not in plan, plan
    assert "Index" in plan or "One-Time Filter" in plan, plan


async def test_a_search_finds_each_kind_of_word_once(filled: str) -> None:
    store = Store(filled)
    await store.open()
    try:
        rows, _ = await store.page(parse_list_query([("limit", "200")]))
        sample = next(row for row in rows if row["fiat_ref"] and row["tx_hash"])
        key = sample["request_key"]
        for name in ("request_key", "request_id", "fiat_ref", "tx_hash"):
            found, _ = await store.page(parse_list_query([("search", str(sample[name]))]))
            assert [row["request_key"] for row in found] == [key], name
        user = sample["user_address"].upper().replace("0X", "0x")
        searched, _ = await store.page(parse_list_query([("search", user), ("limit", "200")]))
        filtered, _ = await store.page(parse_list_query([("user", user), ("limit", "200")]))
        assert key in [row["request_key"] for row in searched] and searched == filtered
        paged: list[str] = []
        cursor: str | None = None
        while len(paged) < 300:
            pairs = [("search", "m-000"), ("limit", "50")]
            rows, cursor = await store.page(
                parse_list_query([*pairs, *([("cursor", cursor)] if cursor else [])])
            )
            paged += [row["request_key"] for row in rows]
            assert cursor is not None
        assert len(set(paged)) == len(paged)
        assert all(name.startswith("m-000") for name in paged)
    finally:
        await store.close()
