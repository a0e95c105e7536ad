"""The sums beside the rows are a function of the rows, whatever way the log took; and what
`GET /overview` makes of them."""

from __future__ import annotations

import importlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from projections.tallies import (
    RELATIVE_ERROR,
    SHORTEST_SECONDS,
    bin_seconds,
    latency_bin,
    percentile,
)
from projections.writer import Writer
from schemas.base import Fact, RequestType
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import ContractEvent, EventName, EventRetracted
from schemas.requests import RequestCompleted, RetractionReported
from tests.projections.conftest import Client, Tables
from tests.projections.facts import (
    CHAIN,
    CONTRACT,
    START,
    USER,
    digest,
    evidence,
    followed,
    included,
    received,
    rejected,
    to_submitted,
    whole_life,
)

FLOW: Any = importlib.import_module("projections.migrations.versions.0004_flow")


def event(number: int, name: EventName = EventName.MINTED, amount: int = 10**18) -> ContractEvent:
    return ContractEvent(
        chain_id=CHAIN,
        block_number=number,
        block_hash=digest("block", number),
        block_timestamp=START,
        tx_hash=digest("tx", number),
        log_index=0,
        contract=CONTRACT,
        event=name,
        request_id=f"m-{number}",
        account=USER,
        amount=amount,
    )


def taken_back(told: ContractEvent) -> EventRetracted:
    shared = told.model_dump(exclude={"contract", "account", "amount"})
    return EventRetracted(**shared, reason="a deep reorganisation")


def reopened(request_id: str) -> list[Fact]:
    """Completed, then its evidence is taken back, then completed again by another event."""
    life = whole_life(request_id)
    again = evidence(life[0].key, log_index=1)
    return [
        *life,
        RetractionReported(
            request_key=life[0].key, event=EventName.MINTED, seat=evidence(life[0].key).seat
        ),
        again,
        RequestCompleted(
            request_key=life[0].key, seat=again.seat, tx_hash=again.tx_hash, block_number=100
        ),
    ]


EVENTS: list[Fact] = [
    event(1),
    event(1),
    event(2, amount=2**255),
    event(3, EventName.REDEEM_REQUESTED),
    event(4, EventName.REDEEMED, 7),
    taken_back(event(2)),
    taken_back(event(99)),
    event(5),
    taken_back(event(5)),
    event(5),
]
LETTERS: list[Fact] = [
    DeadLetter.of(DeadLetterReason.MALFORMED, "not JSON", b"", origin=f"kuro.events/0/{number}")
    for number in range(3)
]
LIVES: list[Fact] = [
    *whole_life("m-1"),
    *whole_life("m-2", type=RequestType.REDEEM),
    received("m-3"),
    *to_submitted("m-3"),
    included("m-3"),
    received("m-4", user="nobody"),
    rejected("m-4"),
    evidence("m-5"),
    received("m-5"),
    *reopened("m-6"),
    *EVENTS,
    *LETTERS,
    *LETTERS,
    followed(CHAIN, 7),
]


SUMS = ("request_flow", "request_latencies", "token_events", "chain_supply")


async def sums(tables: Tables) -> dict[str, list[tuple[Any, ...]]]:
    """Without what has come to nothing: an incremental sum keeps the row, a fresh one has none."""
    found = {}
    for name in SUMS:
        rows = await tables.rows(f"SELECT * FROM {name}")
        found[name] = sorted(rows)
    found["request_flow"] = [row for row in found["request_flow"] if any(row[2:])]
    found["request_latencies"] = [row for row in found["request_latencies"] if row[-1]]
    found["chain_supply"] = [row for row in found["chain_supply"] if any(row[1:])]
    return found


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_incremental_sums_are_those_of_the_rows(tables: Tables, size: int) -> None:
    writer = Writer(tables.connection, kept_states=3)
    batch = tables.log.append(LIVES)
    tables.log.ends.clear()
    for start in range(0, len(batch), size):
        part = batch[start : start + size]
        tables.log.ends.update({(row.topic, row.partition): row.offset + 1 for row in part})
        await tables.write_raw(part, writer)
    kept = await sums(tables)
    await tables.connection.execute("TRUNCATE request_flow, request_latencies, token_events")
    assert not any((await sums(tables)).values())
    for statement in FLOW.fill():
        await tables.connection.execute(statement)
    assert await sums(tables) == kept
    assert all(kept.values()), "a table that stays empty proves nothing"


async def test_an_event_counts_once_and_not_when_taken_back(tables: Tables) -> None:
    await tables.write(*EVENTS)
    rows = await tables.rows("SELECT minted, redeemed FROM chain_supply WHERE chain_id = %s", CHAIN)
    assert rows == [(2 * 10**18, 7)]
    await tables.write(taken_back(event(1)), event(6, EventName.REDEEMED, 3))
    rows = await tables.rows("SELECT minted, redeemed FROM chain_supply")
    assert rows == [(10**18, 10)]


async def test_rows_that_go_take_their_sums_with_them(tables: Tables) -> None:
    await tables.write(*LIVES)
    await tables.connection.execute("DELETE FROM requests")
    kept = await sums(tables)
    assert (kept["request_flow"], kept["request_latencies"]) == ([], [])
    await tables.connection.execute("TRUNCATE requests, request_facts")
    assert not any((await sums(tables)).values())


async def test_bins_of_sql_and_of_python_are_the_same(tables: Tables) -> None:
    await tables.write(*LIVES)
    statement = "SELECT extract(epoch FROM changed_at - created_at)::float8 FROM requests "
    rows = await tables.rows(statement + "WHERE status = 'COMPLETED'")
    held = await tables.rows(
        "SELECT bin FROM request_latencies WHERE width_seconds = 10 AND count > 0"
    )
    assert {latency_bin(seconds) for (seconds,) in rows} == {number for (number,) in held}


@given(st.lists(st.floats(SHORTEST_SECONDS, 1e7), min_size=1), st.floats(0.01, 1))
def test_percentiles_are_known_to_the_relative_error(values: list[float], share: float) -> None:
    bins: dict[int, int] = {}
    for value in values:
        bins[latency_bin(value)] = bins.get(latency_bin(value), 0) + 1
    exact = sorted(values)[max(1, -int(-share * len(values) // 1)) - 1]
    found = percentile(bins, share)
    assert found is not None
    assert abs(found - exact) <= exact * RELATIVE_ERROR * 1.000001


def test_no_values_have_no_percentile() -> None:
    assert percentile({}, 0.5) is None
    assert bin_seconds(latency_bin(0)) == pytest.approx(SHORTEST_SECONDS, rel=0.03)


async def test_the_overview_shows_what_the_log_holds(tables: Tables, api: Client) -> None:
    await tables.write(*LIVES)
    answer = await api.get("/overview?window=24h")
    body = await answer.json()
    assert answer.status == 200, body
    assert body["queues"] == await (await api.get("/metrics/queues")).json()
    assert body["deadLetters"] == {"MALFORMED": 3}
    assert body["tokenDecimals"] == 18
    (chain,) = body["chains"]
    assert (chain["chainId"], chain["followedBlock"], chain["halted"]) == (CHAIN, 7, None)
    assert chain["minted"] == str(2 * 10**18)
    assert chain["supply"] == str(2 * 10**18 - 7)
    assert chain["ageSeconds"] >= 0
    included_rows = [row for row in body["stages"] if row["stage"] == "INCLUDED"]
    assert [(row["count"], row["type"]) for row in included_rows] == [(1, "MINT")]
    assert included_rows[0]["oldestSeconds"] > 0
    listed = await (await api.get("/status")).json()
    strip = [{k: v for k, v in item.items() if k != "links"} for item in listed["items"]]
    shown = [{k: v for k, v in item.items() if k != "links"} for item in body["requests"]["items"]]
    assert shown == strip


async def test_the_flow_of_the_last_minutes_adds_up(tables: Tables, api: Client) -> None:
    tables.log.clock = int((await tables.rows("SELECT extract(epoch FROM now())::int"))[0][0]) - 60
    await tables.write(*whole_life("m-1"), received("m-2"), received("m-3"), rejected("m-3"))
    body = await (await api.get("/overview?window=15m")).json()
    points = body["throughput"]["points"]
    assert len(points) == 90
    assert sum(point["received"] for point in points) == 3
    assert sum(point["completed"] for point in points) == 1
    assert sum(point["failed"] for point in points) == 1
    assert points[-1]["open"] == 1
    assert points[0]["open"] == 0
    (known,) = [point for point in body["latency"]["points"] if point["count"]]
    assert known["p50Seconds"] == pytest.approx(7, rel=0.03)


async def test_nothing_new_costs_no_body(tables: Tables, api: Client) -> None:
    await tables.write(*LIVES)
    first = await api.get("/overview?window=24h")
    held = {"If-None-Match": first.headers["ETag"]}
    again = await api.get("/overview?window=24h", headers=held)
    if again.status == 200:  # the grid moved on between the two
        held = {"If-None-Match": again.headers["ETag"]}
        again = await api.get("/overview?window=24h", headers=held)
    assert again.status == 304
    await tables.write(received("m-9"))
    assert (await api.get("/overview?window=24h", headers=held)).status == 200


@pytest.mark.parametrize("query", ["window=2h", "window=1h&window=1h", "x=1"])
async def test_a_wrong_parameter_is_named(api: Client, query: str) -> None:
    answer = await api.get(f"/overview?{query}")
    assert answer.status == 400
    assert query.partition("=")[0] in (await answer.json())["error"]
