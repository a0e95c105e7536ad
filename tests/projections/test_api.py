"""Every endpoint and every error, on real tables."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import quote

import pytest
from yarl import URL

from schemas.base import RequestType
from schemas.dead_letters import DeadLetter, DeadLetterReason
from schemas.evm import ChainHalted, ChainResumed
from tests.projections.conftest import Client, Tables
from tests.projections.facts import (
    CHAIN,
    USER,
    WALLET,
    compared,
    digest,
    evidence,
    followed,
    lane_story,
    mint_ok,
    received,
    refused,
    rejected,
    to_signed,
    to_submitted,
    whole_life,
)

STATUS_FIELDS = {
    "requestId",
    "requestKey",
    "type",
    "status",
    "stage",
    "reason",
    "userAddress",
    "amount",
    "chainId",
    "txHash",
    "errorMessage",
    "fiatRef",
    "attempt",
    "createdAt",
    "updatedAt",
    "links",
}


async def get(api: Client, path: str, status: int = 200) -> dict[str, Any]:
    answer = await api.get(URL(path, encoded=True))
    text = await answer.text()
    assert answer.status == status, text
    assert answer.headers["X-Request-Id"]
    body: dict[str, Any] = json.loads(text)
    if answer.content_type == "application/problem+json":
        assert {"type", "title", "status", "detail", "error", "requestId"} <= set(body)
        assert body["status"] == status and body["detail"] == body["error"]
        assert body["requestId"] == answer.headers["X-Request-Id"]
    else:
        assert answer.content_type == "application/json"
        assert status in (200, 503), "errors are problem details; health tells in its own words"
    return body


async def test_one_request_with_its_timeline(api: Client, tables: Tables) -> None:
    await tables.write(mint_ok("m-1"), *whole_life("m-1", fiat_ref="fiat-m-1"))
    body = await get(api, "/status/m-1")
    timeline = body.pop("timeline")
    assert set(body) == STATUS_FIELDS
    assert body["requestId"] == body["requestKey"] == "m-1"
    assert (body["type"], body["status"], body["stage"]) == ("MINT", "COMPLETED", "COMPLETED")
    assert (body["userAddress"], body["chainId"]) == (USER, CHAIN)
    assert body["amount"] == "1000000000000000000"
    assert body["txHash"] == digest("m-1", "evidence")
    assert body["errorMessage"] is None and body["fiatRef"] == "fiat-m-1"
    assert body["createdAt"] == "2025-10-09T08:53:22.000Z" < body["updatedAt"]
    assert [fact["kind"] for fact in timeline] == [
        "MintOk",
        "RequestReceived",
        "ApprovalDrafted",
        "ApprovalSigned",
        "RelayAssigned",
        "SubmissionReported",
        "InclusionReported",
        "EvidenceReported",
        "RequestCompleted",
    ]
    assert timeline[6]["blockNumber"] == 100 and timeline[6]["blockHash"] == digest("block", 100)
    assert timeline[5]["txHash"] == digest("m-1", "tx", 1)
    assert timeline[0]["verdict"] is None and timeline[1]["verdict"] == "APPLIED"
    assert timeline[1]["topic"] == "requests" and timeline[1]["offset"] == 0


async def test_bad_ends_say_why(api: Client, tables: Tables) -> None:
    await tables.write(
        received("bad", user="nobody"),
        rejected("bad"),
        evidence("unbacked"),
        received("open"),
        *to_submitted("open"),
        refused("open"),
    )
    bad = await get(api, "/status/bad")
    assert (bad["status"], bad["reason"]) == ("FAILED", "INVALID_ADDRESS")
    assert bad["errorMessage"] == "INVALID_ADDRESS: 'nobody' is no address"
    unbacked = await get(api, "/status/unbacked")
    assert (unbacked["status"], unbacked["stage"]) == ("FAILED", "UNBACKED")
    assert "no fact allows it" in unbacked["errorMessage"]
    assert unbacked["amount"] == str(10**18) and unbacked["userAddress"] == USER
    still_open = await get(api, "/status/open")
    assert (still_open["status"], still_open["reason"]) == ("PROCESSING", "REVERTED")
    assert still_open["errorMessage"] is None


async def test_one_id_on_several_chains(api: Client, tables: Tables) -> None:
    await tables.write(
        received("r-1", type=RequestType.REDEEM, chain_id=1),
        received("r-1", type=RequestType.REDEEM, chain_id=2),
        received("r-2", type=RequestType.REDEEM, chain_id=2),
    )
    conflict = await get(api, "/status/r-1", 409)
    assert conflict["keys"] == ["redeem:1:r-1", "redeem:2:r-1"]
    assert "redeem:1:r-1, redeem:2:r-1" in conflict["error"] and "?chainId=" in conflict["error"]
    assert (await get(api, "/status/r-1?chainId=2"))["requestKey"] == "redeem:2:r-1"
    assert (await get(api, "/status/redeem:1:r-1"))["chainId"] == 1
    assert (await get(api, "/status/redeem%3A1%3Ar-1"))["chainId"] == 1
    assert (await get(api, "/status/r-2"))["requestKey"] == "redeem:2:r-2"
    await tables.write(received("r-1"))
    assert (await get(api, "/status/r-1"))["type"] == "MINT"
    await get(api, "/status/r-1?chainId=3", 404)
    await get(api, "/status/r-1?chainId=zero", 400)
    assert "allowed: at, chainId" in (await get(api, "/status/r-1?chain=1", 400))["error"]


@pytest.mark.parametrize(
    "odd", ["a:b", "a/b", "a%2Fb", "a?b#c", "100%", "~!@$&'()*+,;=[]{}|\\^`\"<>", "ü😀", "a b\x00c"]
)
async def test_any_printable_id(api: Client, tables: Tables, odd: str) -> None:
    await tables.write(received(odd))
    assert (await get(api, "/status/" + quote(odd, safe="")))["requestId"] == odd
    assert (await get(api, "/status"))["items"][0]["requestId"] == odd


async def test_paging_is_stable_with_ties_and_newcomers(api: Client, tables: Tables) -> None:
    for number in range(23):
        tables.log.clock = 1_760_000_000 + number // 10
        await tables.write(received(f"m-{number:02}"))
    seen: list[str] = []
    following = ""
    while True:
        page = await get(api, f"/status?limit=5{following}")
        seen += [item["requestId"] for item in page["items"]]
        if page["next"] is None:
            break
        following = f"&cursor={page['next']}"
        tables.log.clock = 1_770_000_000
        await tables.write(received(f"new-{len(seen)}"), *to_submitted(f"m-{len(seen):02}")[:1])
    assert seen == [f"m-{number:02}" for number in range(22, -1, -1)]
    assert len((await get(api, "/status?limit=200"))["items"]) > 23
    exact = await get(api, "/status?limit=1&user=" + USER.lower() + "&createdTo=2025-10-10")
    assert exact["next"] is not None


async def test_filters(api: Client, tables: Tables) -> None:
    await tables.write(
        *whole_life("m-1", fiat_ref="f 1"),
        *whole_life("r-1", type=RequestType.REDEEM, chain_id=7, user="0xAbC"),
        received("m-2"),
        received("m-3"),
        *to_signed("m-3"),
    )

    async def found(query: str) -> set[str]:
        return {item["requestId"] for item in (await get(api, f"/status?{query}"))["items"]}

    assert await found("") == {"m-1", "m-2", "m-3", "r-1"}
    assert await found("type=redeem") == await found("chainId=7") == {"r-1"}
    assert await found("status=PROCESSING") == await found("stage=SIGNED") == {"m-3"}
    assert await found("user=0xabc") == {"r-1"}
    assert await found("fiatRef=f%201") == {"m-1"}
    assert await found("txHash=" + digest("m-1", "evidence").upper().replace("X", "x")) == {"m-1"}
    assert await found("type=MINT&status=COMPLETED") == {"m-1"}
    assert await found("createdFrom=2025-10-09T08:53:30Z") == {"m-2", "m-3"}
    assert await found("createdTo=2025-10-09T10:53:22%2B02:00") == {"m-1"}
    assert await found("status=FAILED") == set()
    for word in ("m-1", "f%201", digest("m-1", "evidence"), "m-1".upper().lower()):
        assert await found(f"search={word}") == {"m-1"}, word
    assert await found("search=m-") == {"m-1", "m-2", "m-3"}, "the start of a key"
    assert await found("search=r-1") == await found("search=0xABC") == {"r-1"}
    assert await found("search=redeem:7") == {"r-1"}
    assert await found("search=%25") == await found("search=nothing") == set()
    assert await found("search=m-&status=COMPLETED") == {"m-1"}


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("limit=0", "limit: '0' is not a whole number from 1 to 200"),
        ("limit=201", "1 to 200"),
        ("limit=ten", "limit"),
        ("type=BURN", "type: 'BURN' is not one of MINT, REDEEM"),
        ("status=DONE", "PENDING, PROCESSING, COMPLETED, FAILED"),
        ("stage=x", "UNBACKED, RECEIVED"),
        ("chainId=-1", "chainId"),
        ("chainId=99999999999999999999", "chainId"),
        ("txHash=0x12", "64 hex digits"),
        ("createdFrom=yesterday", "RFC 3339"),
        ("createdTo=0001-01-01T00:00:00%2B14:00", "RFC 3339"),
        ("cursor=abc", "cursor: not one of ours"),
        ("cursor=WyIyMDI1IiwgMV0", "cursor"),
        ("user=", "user: must have 1 to"),
        ("page=2", "page: unknown parameter; allowed: at, chainId, createdFrom"),
        ("at=then", "at: 'then' is not an RFC 3339 time"),
        ("type=MINT&type=REDEEM", "type: given more than once"),
    ],
)
async def test_bad_queries_are_told_why(api: Client, query: str, says: str) -> None:
    assert says in (await get(api, f"/status?{query}", 400))["error"]


async def test_errors_are_json(api: Client) -> None:
    assert "no request 'nope'" in (await get(api, "/status/nope", 404))["error"]
    assert "no such route" in (await get(api, "/nowhere", 404))["error"]
    answer = await api.post("/status", data=b"x" * 100_000)
    assert answer.status == 405 and answer.headers["Allow"] == "GET, HEAD"
    assert "not allowed" in (await answer.json())["error"]
    head = await api.head("/health/live", headers={"X-Request-Id": "mine-1"})
    assert head.status == 200 and head.headers["X-Request-Id"] == "mine-1"
    forged = await api.get("/health/live", headers={"X-Request-Id": "a b"})
    assert forged.headers["X-Request-Id"] != "a b"


async def test_an_unforeseen_error_shows_nothing(
    serve: Callable[..., Awaitable[Client]], database: str
) -> None:
    class Broken:
        async def ends(self) -> None:
            raise ValueError("secret detail")

        async def close(self) -> None:
            pass

    api = await serve(database, Broken())
    body = await get(api, "/health", 500)
    assert "secret" not in str(body) and body["type"] == "/docs#problem-internal"


async def test_without_a_schema(
    serve: Callable[..., Awaitable[Client]], empty_database: str
) -> None:
    api = await serve(empty_database)
    assert "schema" in (await get(api, "/status", 503))["error"]
    assert "schema" in (await get(api, "/metrics/queues", 503))["error"]
    assert not (await get(api, "/health/ready", 503))["checks"]["migrations"]["ok"]


async def test_without_a_database(serve: Callable[..., Awaitable[Client]]) -> None:
    api = await serve("postgresql://who:hunter2@127.0.0.1:1/none")
    assert (await get(api, "/health/live"))["status"] == "ok"
    ready = await get(api, "/health/ready", 503)
    assert not ready["checks"]["database"]["ok"]
    answer = await api.get("/status/x")
    assert answer.status == 503 and "hunter2" not in await answer.text()
    assert answer.headers["Retry-After"]


async def test_queues_are_true(api: Client, tables: Tables) -> None:
    zero = {"waiting": 0, "active": 0, "completed": 0, "failed": 0}
    assert await get(api, "/metrics/queues") == {"mint": zero, "redeem": zero}
    await tables.write(
        received("m-1"),
        received("m-2"),
        *to_signed("m-2"),
        received("m-3", user="nobody"),
        rejected("m-3"),
        *whole_life("m-4"),
        *whole_life("r-1", type=RequestType.REDEEM),
        received("r-2", type=RequestType.REDEEM),
    )
    assert await get(api, "/metrics/queues") == {
        "mint": {"waiting": 1, "active": 1, "completed": 1, "failed": 1},
        "redeem": {"waiting": 1, "active": 0, "completed": 1, "failed": 0},
    }


async def test_metrics_tell_what_stands_in_the_tables(api: Client, tables: Tables) -> None:
    letter = DeadLetter.of(DeadLetterReason.MALFORMED, "not JSON", b"x", origin="kuro.events/0/1")
    await tables.write(
        *whole_life("m-1"), received("m-2"), followed(CHAIN, 41), letter, letter, *lane_story()
    )
    await get(api, "/status/m-1")
    text = await (await api.get("/metrics")).text()
    for line in (
        'orchestrator_requests{stage="COMPLETED",type="MINT"} 1.0',
        'orchestrator_requests{stage="FAILED",type="REDEEM"} 0.0',
        'orchestrator_chain_followed_block{chain_id="5920"} 41.0',
        'orchestrator_dead_letters{reason="MALFORMED"} 1.0',
        f'orchestrator_lane_in_flight{{chain_id="5920",wallet="{WALLET}"}} 1.0',
        f'orchestrator_lane_halted{{chain_id="5920",wallet="{WALLET}"}} 1.0',
        "orchestrator_database_up 1.0",
    ):
        assert line in text, line
    assert 'orchestrator_oldest_open_request_age_seconds{stage="RECEIVED",type="MINT"}' in text
    assert 'route="/status/{request_key}",status="200"' in text
    assert "orchestrator_consumer_lag_records{" not in text
    states = await tables.rows("SELECT nonce, state FROM lane_transactions ORDER BY nonce, state")
    assert states == [(7, "DROPPED"), (7, "FINAL"), (8, "PREPARED")]
    timeline = (await get(api, "/status/m-1"))["timeline"]
    assert {"TransactionPrepared", "TransactionFinal"} <= {fact["kind"] for fact in timeline}


async def test_health_names_each_dependency(api: Client, tables: Tables) -> None:
    body = await get(api, "/health", 503)
    assert body["status"] == "down"
    assert body["checks"]["database"]["ok"] and body["checks"]["migrations"]["ok"]
    assert "no projection has run" in body["checks"]["projection"]["detail"]
    assert not body["chains"]["5920"]["ok"]
    await tables.write(followed(CHAIN, 12))
    await tables.connection.execute(
        "INSERT INTO projection_state (writer, beat_at, fresh_at) VALUES ('w', now(), now())"
    )
    assert (await get(api, "/health/ready"))["status"] == "ok"
    body = await get(api, "/health")
    assert body["chains"]["5920"]["block"] == 12
    assert body["status"] == "degraded", "that block is far in the past"
    await tables.connection.execute("UPDATE projection_state SET fresh_at = now() - interval '2m'")
    ready = await get(api, "/health/ready", 503)
    assert "120 s behind the log" in ready["checks"]["projection"]["detail"]


async def test_a_chain_whose_supply_nobody_compares_is_not_well(
    api: Client, tables: Tables
) -> None:
    async def told() -> tuple[bool, str]:
        chain = (await (await api.get("/health")).json())["chains"][str(CHAIN)]
        return chain["ok"], chain["detail"]

    await tables.write(followed(CHAIN, 12), compared(CHAIN, 12, total=70, by_events=70))
    fresh = "UPDATE chain_heads SET followed_at = now()"
    await tables.connection.execute(f"{fresh}, supply_at = now()")
    ok, detail = await told()
    assert ok and detail.startswith("followed to block 12, ") and "totalSupply" not in detail
    await tables.connection.execute(f"{fresh}, supply_at = now() - interval '11m'")
    ok, detail = await told()
    assert not ok and "; its totalSupply was not compared with the log for 66" in detail
    await tables.connection.execute(f"{fresh}, supply_at = NULL")
    ok, detail = await told()
    assert not ok and detail.endswith("; its totalSupply was never compared with the log")


async def test_a_released_chain_is_no_longer_called_halted(api: Client, tables: Tables) -> None:
    async def told() -> tuple[bool, str, bool]:
        chain = (await (await api.get("/health")).json())["chains"][str(CHAIN)]
        metrics = await (await api.get("/metrics")).text()
        alarm = f'orchestrator_chain_halted{{chain_id="{CHAIN}"}} 1.0' in metrics
        return chain["ok"], chain["detail"], alarm

    first, second = (
        ChainHalted(chain_id=CHAIN, block_number=7, block_hash=digest(name), reason=name)
        for name in ("a deep fork", "another one")
    )
    await tables.write(followed(CHAIN, 7), first)
    assert await told() == (False, "halted: a deep fork", True)
    await tables.write(released(second))
    assert await told() == (False, "halted: a deep fork", True), "meant for another halt"
    await tables.write(released(first))
    ok, detail, alarm = await told()
    assert not ok and detail.startswith("no block followed for ") and not alarm, "long ago"
    await tables.connection.execute("UPDATE chain_heads SET resumed_at = now()")
    ok, detail, alarm = await told()
    assert ok and detail.startswith("released 0 s ago; ") and not alarm, detail
    await tables.write(second, released(first))
    assert await told() == (False, "halted: another one", True), "a release counts once"
    await tables.write(released(second), followed(CHAIN, 9))
    body = await (await api.get("/health")).json()
    assert body["chains"][str(CHAIN)]["block"] == 9
    assert await tables.rows("SELECT halt, resumed_at FROM chain_heads") == [(None, None)]


def released(halt: ChainHalted) -> ChainResumed:
    return ChainResumed(chain_id=CHAIN, halt=halt.id, who="ann", why="looked at")
