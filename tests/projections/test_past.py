"""As of a past moment: folded anew from the facts up to then, equal to what was served then."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from schemas.base import Fact, instant
from schemas.controls import WorkPaused, WorkResumed
from schemas.lanes import LaneOpened, WalletRestored, WalletSetAside
from tests.projections.conftest import Client, Tables
from tests.projections.facts import (
    CHAIN,
    SEAT,
    WALLET,
    broadcast,
    evidence,
    final,
    followed,
    included,
    mined,
    prepared,
    received,
    relay_of,
    to_submitted,
    whole_life,
)
from tests.projections.test_api import get

LANE = f"/lanes/{CHAIN}/{WALLET}"


def story() -> list[Fact]:
    """Two mints through one lane, in the order that the log would hold, and a wallet set aside."""
    first, second = whole_life("m-1"), [received("m-2"), *to_submitted("m-2")]
    opened = LaneOpened(**SEAT, first_nonce=7)
    return [
        *first[:4],
        opened,
        relay_of("m-1"),
        prepared(7, "m-1:1", block=90),
        *second[:4],
        broadcast(7, "m-1:1", block=90),
        first[4],
        relay_of("m-2"),
        WalletSetAside(**SEAT, number=1, reason="without funds"),
        mined(7, "m-1:1", 100),
        included("m-1"),
        WalletRestored(**SEAT, number=1),
        prepared(8, "m-2:1", block=101),
        prepared(8, "m-2:1", version=1, block=106),
        final(7, "m-1:1", 100),
        evidence("m-1"),
        first[-1],
        prepared(9, None, block=107),
        broadcast(8, "m-2:1", version=1, block=107),
        second[4],
    ]


def without_heads(body: Any) -> Any:
    """How far the chain was followed is not kept: blocks may differ, and what follows from them."""
    if isinstance(body, dict):
        skipped = ("blocks", "links")
        return {name: without_heads(part) for name, part in body.items() if name not in skipped}
    return [without_heads(part) for part in body] if isinstance(body, list) else body


async def test_the_past_is_what_was_served_then(api: Client, tables: Tables) -> None:
    """After each fact all answers are taken; at the end each moment is asked for again."""
    served: list[tuple[str, dict[str, tuple[int, Any]]]] = []
    paths = ("/status/m-1", "/status/m-2", LANE, "/status")
    for fact in story():
        await tables.write(fact)
        answers = {}
        for path in paths:
            response = await api.get(path)
            answers[path] = (response.status, await response.json())
        served.append((instant(tables.log.clock), answers))
    tables.log.clock += 1000
    await tables.write(received("m-3"), followed(CHAIN, 500))
    for moment, answers in served:
        for path, (status, body) in answers.items():
            response = await api.get(f"{path}?at={moment}")
            assert response.status == status, (path, moment)
            if status == 200:
                assert without_heads(await response.json()) == without_heads(body), (path, moment)


async def test_explanations_of_the_past(api: Client, tables: Tables) -> None:
    codes: list[tuple[str, str]] = []
    for fact in story():
        await tables.write(fact)
        moment = instant(tables.log.clock)
        response = await api.get(f"/status/m-1/explain?at={moment}")
        if response.status == 200:
            body = await response.json()
            assert body["asOf"] == moment
            if not codes or codes[-1][1] != body["code"]:
                codes.append((moment, body["code"]))
    assert [code for _, code in codes] == [
        "TO_BE_DRAFTED",
        "TO_BE_SIGNED",
        "TO_BE_ASSIGNED",
        "TO_BE_HANDED_OVER",
        "WAITING_FOR_NONCE",
        "TO_BE_BROADCAST",
        "TO_BE_MINED",
        "CONFIRMING",
        "AWAITING_EVIDENCE",
        "EVIDENCE_TO_BE_JUDGED",
        "COMPLETED",
    ]
    for moment, code in codes:
        assert (await get(api, f"/status/m-1/explain?at={moment}"))["code"] == code


async def test_the_present_is_explained(api: Client, tables: Tables) -> None:
    await tables.write(*story())
    done = await get(api, "/status/m-1/explain")
    assert (done["code"], done["turn"], done["waitingFor"]) == ("COMPLETED", "nobody", None)
    now = datetime.now(UTC).timestamp()
    tables.log.clock = int(now)
    await tables.write(followed(CHAIN, 108))
    body = await get(api, "/status/m-2/explain")
    assert (body["code"], body["turn"]) == ("TO_BE_MINED", "chain")
    assert body["usual"]["count"] == 1 and body["usual"]["seconds"] == 4.0
    assert body["approvalDeadline"] == "2025-10-10T08:53:20.000Z"
    assert [fact["kind"] for fact in body["evidence"]][-1] == "SubmissionReported"
    assert body["evidence"][0].keys() == {"topic", "partition", "offset", "kind"}
    await tables.write(received("redeem-like/explain"))
    odd = await get(api, "/status/redeem-like%2Fexplain")
    assert odd["links"]["explain"] == "/status/redeem-like%2Fexplain/explain"
    assert (await get(api, odd["links"]["explain"]))["requestKey"] == "redeem-like/explain"
    await get(api, "/status/nope/explain", 404)
    await get(api, "/status/m-1/explain?at=1999-01-01", 404)
    await get(api, "/status/m-1/explain?until=1", 400)


async def test_the_links_lead_somewhere(api: Client, tables: Tables) -> None:
    await tables.write(*story())
    body = await get(api, "/status/m-2")
    links = body["links"]
    assert links["lane"] == LANE and links["feed"] == "/feed?requestKey=m-2"
    assert (await get(api, links["self"]))["requestKey"] == "m-2"
    assert (await get(api, links["lane"]))["slots"][-1]["requestKey"] is None
    await get(api, links["explain"])


async def test_pages_of_the_past(api: Client, tables: Tables) -> None:
    """What changed since is filtered as it was; a page may be short, and yet lead on."""
    keys = [f"m-{number:02}" for number in range(12)]
    for key in keys:
        await tables.write(received(key))
    then = instant(tables.log.clock)
    for key in keys[::2]:
        await tables.write(*to_submitted(key))
    await tables.write(received("later"))
    for query, expected in (
        ("", keys),
        ("&status=PENDING", keys),
        ("&stage=SUBMITTED", []),
        ("&search=m-03", ["m-03"]),
    ):
        seen: list[str] = []
        following = ""
        while True:
            page = await get(api, f"/status?at={then}&limit=5{query}{following}")
            assert len(page["items"]) <= 5
            assert all(item["status"] == "PENDING" for item in page["items"])
            seen += [item["requestId"] for item in page["items"]]
            if page["next"] is None:
                break
            following = f"&cursor={page['next']}"
        assert seen == expected[::-1], query


@pytest.mark.parametrize("scope", ["all", f"chain:{CHAIN}", "request:m-1"])
async def test_pauses(api: Client, tables: Tables, scope: str) -> None:
    await tables.write(received("m-1"))
    told = {"who": "ann", "why": "fees"}
    await tables.write(WorkPaused(scope=scope, order="o-1", **told))
    paused_at = instant(tables.log.clock)
    [shown] = (await get(api, "/controls"))["paused"]
    assert shown == {"scope": scope, "order": "o-1", "at": paused_at, **told}
    explained = await get(api, "/status/m-1/explain")
    assert (explained["code"], explained["since"]) == ("PAUSED", paused_at)
    await tables.write(
        WorkPaused(scope=scope, order="o-2", who="bob", why="again"),
        WorkResumed(scope=scope, order="o-3", **told),
        WorkPaused(scope=scope, order="o-1", **told),
    )
    assert (await get(api, "/controls"))["paused"] == [], "an order given again is the same one"
    assert (await get(api, f"/controls?at={paused_at}"))["paused"] == [shown]
    assert (await get(api, "/status/m-1/explain"))["code"] == "DRAFTING_LATE"
