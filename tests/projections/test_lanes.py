"""Lanes over HTTP: nonces, who owns each, what waits and what blocks."""

from __future__ import annotations

from typing import Any

from schemas.lanes import (
    LaneHalted,
    LaneOpened,
    NonceTaken,
    RelayRefusal,
    RelayRefused,
    TransactionOrphaned,
    WalletRestored,
    WalletSetAside,
)
from tests.projections.conftest import Client, Tables
from tests.projections.facts import (
    CHAIN,
    SEAT,
    WALLET,
    broadcast,
    digest,
    final,
    followed,
    mined,
    prepared,
    relay_of,
)
from tests.projections.test_api import get

PATH = f"/lanes/{CHAIN}/{WALLET}"
OPENED = LaneOpened(**SEAT, first_nonce=7)


async def test_what_waits_and_what_is_out(api: Client, tables: Tables) -> None:
    await tables.write(
        OPENED,
        *(relay_of(f"m-{number}") for number in range(4)),
        prepared(7, "m-0:1", block=100),
        broadcast(7, "m-0:1", block=100),
        prepared(8, "m-1:1", block=101),
        followed(CHAIN, 103),
    )
    body = await get(api, PATH)
    assert (body["nextNonce"], body["inFlight"], body["waiting"], body["stuck"]) == (9, 2, 2, 0)
    assert body["halted"] is None and body["setAside"] is None
    assert body["waitingRequests"] == ["m-2", "m-3"]
    first, second = body["slots"]
    assert (first["nonce"], first["state"], first["requestKey"]) == (7, "BROADCAST", "m-0")
    assert first["blocks"] == 3 and first["txHash"] == digest("sent", 7, 0)
    assert (second["nonce"], second["state"], second["blocks"]) == (8, "PREPARED", 2)
    assert body["blockedBy"]["nonce"] == 7 and body["blockedBy"]["code"] == "NOT_MINED"
    [listed] = (await get(api, "/lanes"))["items"]
    assert listed == {name: body[name] for name in listed}
    assert (await get(api, PATH.lower()))["wallet"] == WALLET
    assert listed["links"]["self"] == PATH


async def test_replacements_in_order_then_final(api: Client, tables: Tables) -> None:
    await tables.write(
        OPENED,
        relay_of("m-0"),
        prepared(7, "m-0:1", block=10),
        broadcast(7, "m-0:1", block=10),
        prepared(7, "m-0:1", version=1, block=15),
        broadcast(7, "m-0:1", version=1, block=15),
        prepared(7, "m-0:1", version=2, block=20),
    )
    [slot] = (await get(api, PATH))["slots"]
    assert [version["txHash"] for version in slot["versions"]] == [
        digest("sent", 7, number) for number in range(3)
    ]
    assert slot["versions"][1]["replaces"] == digest("sent", 7, 0)
    assert slot["state"] == "BROADCAST" and slot["txHash"] == digest("sent", 7, 1)
    await tables.write(mined(7, "m-0:1", 21, version=1))
    [slot] = (await get(api, PATH))["slots"]
    assert (slot["state"], slot["txHash"]) == ("INCLUDED", digest("sent", 7, 1))
    await tables.write(
        TransactionOrphaned(
            **SEAT,
            nonce=7,
            relay="m-0:1",
            tx_hash=digest("sent", 7, 1),
            block_hash=digest("block", 21),
        )
    )
    assert (await get(api, PATH))["slots"][0]["state"] == "BROADCAST", "version 0 is still out"
    await tables.write(mined(7, "m-0:1", 22), final(7, "m-0:1", 22))
    body = await get(api, PATH)
    assert (body["inFlight"], body["waiting"], body["blockedBy"]) == (0, 0, None)
    assert [slot["state"] for slot in body["slots"]] == ["FINAL"]
    assert body["slots"][0]["txHash"] == digest("sent", 7, 0)


async def test_a_stuck_nonce_blocks_those_behind(api: Client, tables: Tables) -> None:
    await tables.write(
        OPENED,
        *(relay_of(f"m-{number}") for number in range(3)),
        *(prepared(7 + number, f"m-{number}:1", block=10 + number) for number in range(3)),
        *(broadcast(7 + number, f"m-{number}:1", block=10 + number) for number in range(3)),
        followed(CHAIN, 31),
    )
    body = await get(api, PATH)
    assert body["stuck"] == 2, "the third is not old enough"
    assert body["blockedBy"]["nonce"] == 7 and body["blockedBy"]["code"] == "STUCK"
    await tables.write(mined(7, "m-0:1", 30))
    body = await get(api, PATH)
    assert body["stuck"] == 0, "the lane moved"
    assert body["blockedBy"] == {
        "nonce": 8,
        "code": "NOT_MINED",
        "reason": "nonce 8 is not mined yet after 20 blocks",
    }


async def test_displaced_by_an_outsider_and_by_our_own_no_op(api: Client, tables: Tables) -> None:
    await tables.write(
        OPENED,
        relay_of("m-0"),
        relay_of("m-1"),
        prepared(7, "m-0:1"),
        broadcast(7, "m-0:1"),
        prepared(8, "m-1:1"),
        NonceTaken(**SEAT, nonce=7, relay="m-0:1", block_number=50),
        prepared(8, None, version=1),
        broadcast(8, None, version=1),
        final(8, None, 51, version=1),
    )
    body = await get(api, PATH)
    assert sorted(body["waitingRequests"]) == ["m-0", "m-1"] and body["inFlight"] == 0
    assert [slot["state"] for slot in body["slots"]] == ["DROPPED", "FINAL"]
    facts = await tables.rows("SELECT kind FROM lane_facts ORDER BY at")
    assert [kind for (kind,) in facts] == [
        "LaneOpened",
        "TransactionPrepared",
        "TransactionBroadcast",
        "TransactionFinal",
    ]


async def test_stopped_lanes_say_why(api: Client, tables: Tables) -> None:
    await tables.write(
        OPENED,
        relay_of("m-0"),
        WalletSetAside(**SEAT, number=1, reason="without funds"),
    )
    body = await get(api, PATH)
    assert body["setAside"]["reason"] == "without funds" and body["setAside"]["at"]
    assert body["blockedBy"]["code"] == "SET_ASIDE"
    await tables.write(
        RelayRefused(
            **SEAT,
            relay="m-0:1",
            reason=RelayRefusal.WALLET_UNFIT,
            detail="set aside",
            block_number=1,
            block_timestamp=1,
        ),
        WalletRestored(**SEAT, number=1),
        LaneHalted(**SEAT, reason="the chain was reset", chain_nonce=0, log_nonce=7),
    )
    body = await get(api, PATH)
    assert body["setAside"] is None and body["waiting"] == 0
    assert body["halted"]["reason"] == "the chain was reset"
    assert body["blockedBy"] == {"nonce": None, "code": "HALTED", "reason": "the chain was reset"}


async def test_every_batching_gives_the_same_rows(tables: Tables) -> None:
    story: list[Any] = [
        OPENED,
        relay_of("m\x00-0"),
        relay_of("m-1"),
        prepared(7, "m\x00-0:1"),
        prepared(8, "m-1:1"),
        broadcast(7, "m\x00-0:1"),
        NonceTaken(**SEAT, nonce=7, relay="m\x00-0:1", block_number=50),
        prepared(9, "m\x00-0:1"),
        prepared(8, None, version=1),
        final(8, None, 51, version=1),
        prepared(10, "m-1:1"),
        final(9, "m\x00-0:1", 52),
    ]
    for fact in story:
        await tables.write(fact)
    shown = "SELECT relay, request_key, state, nonce, closed_at IS NULL FROM lane_work ORDER BY 1"
    rows = await tables.rows(shown)
    assert rows == [
        ("m-1:1", "m-1", "WORKING", 10, True),
        ("m\u24000-0:1", "m\u24000-0", "DONE", 9, False),
    ]
    sent = "SELECT nonce, tx_hash, relay, state FROM lane_transactions ORDER BY 1, 2"
    one_by_one = await tables.rows(sent)
    await tables.rows("DELETE FROM lane_work RETURNING 1")
    await tables.rows("DELETE FROM lane_transactions RETURNING 1")
    await tables.write(*story)
    assert await tables.rows(shown) == rows
    assert await tables.rows(sent) == one_by_one


async def test_unknown_lanes(api: Client, tables: Tables) -> None:
    assert (await get(api, "/lanes"))["items"] == []
    body = await get(api, PATH, 404)
    assert body["type"] == "/docs#problem-unknown-lane"
    await get(api, "/lanes/zero/0x1", 400)
    await get(api, "/lanes?x=1", 400)
