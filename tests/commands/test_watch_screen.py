"""What `watch` draws fits every terminal, and never hides what needs somebody."""

from __future__ import annotations

import io
from datetime import UTC, datetime
from typing import Any

import pytest
from rich.console import Console

from orchestrator.client import FeedItem, models
from orchestrator.client.models import FeedEvent
from orchestrator.commands.watch_screen import View, screen

NOW = datetime(2026, 1, 31, 12, tzinfo=UTC)
STOPPED = {"reason": "nonce 7 was used by somebody else", "at": NOW}
SIZES = [(80, 24), (200, 50), (60, 16), (40, 12), (132, 43)]


def chain(number: int, **more: Any) -> models.ChainShown:
    values = {"chainId": 5920 + number, "followedBlock": 10**7, "followedAt": NOW}
    values |= {"ageSeconds": 1.0, "halted": None, "minted": "5", "redeemed": "5"}
    return models.ChainShown.model_validate({**values, "supply": str(10**18), **more})


def lane(number: int, **more: Any) -> models.LaneSummary:
    values: dict[str, Any] = {"chainId": 5920 + number, "wallet": f"0x{number:040x}"}
    values |= {"nextNonce": 12_345, "inFlight": 64, "waiting": 1_000, "stuck": 0}
    values |= {"halted": None, "setAside": None, "links": {"self": "/lanes/x", "feed": "/feed"}}
    return models.LaneSummary.model_validate(values | more)


def view_of(chains: int, lanes: int, facts: int = 60) -> View:
    stages = [
        {"type": kind, "stage": stage, "count": 7, "oldestAt": NOW, "oldestSeconds": 12.3}
        for kind in ("MINT", "REDEEM")
        for stage in ("RECEIVED", "DRAFTED", "SIGNED", "RELAYING", "SUBMITTED", "INCLUDED")
    ]
    queue = {"waiting": 3, "active": 4, "completed": 1_234_567, "failed": 1}
    series = {"bucketSeconds": 60, "points": []}
    overview = models.Overview.model_validate(
        {
            **{"now": NOW, "window": "1h", "queues": {"mint": queue, "redeem": queue}},
            **{"stages": stages, "throughput": series, "latency": series, "deadLetters": {}},
            "chains": [chain(number) for number in range(chains)],
        }
    )
    view = View(overview, [lane(number) for number in range(lanes)])
    for offset in range(facts):
        values = {"topic": "requests", "partition": 3, "offset": offset, "at": NOW, "fact": None}
        values |= {"kind": "ApprovalDrafted", "requestKey": f"m-{offset}", "chainId": 5920}
        view.newest.append(FeedItem("", FeedEvent.model_validate(values)))
    return view


def drawn(view: View, width: int, height: int) -> list[str]:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None)
    return [
        "".join(segment.text for segment in line)
        for line in console.render_lines(screen(view, console), console.options)
    ]


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_it_is_as_wide_and_as_high_as_the_terminal(size):
    lines = drawn(view_of(5, 5), *size)
    assert all(len(line) <= size[0] for line in lines)
    if size[1] >= 24:
        assert len(lines) == size[1]
        assert lines[-1].startswith("12:00:00.000 requests/3/59 ApprovalDrafted m-59")
        for word in ("completed", "next nonce", "in flight", "supply"):
            assert word in "\n".join(lines)


def test_wallets_are_whole_where_there_is_room():
    assert f"0x{4:040x}" in "\n".join(drawn(view_of(5, 5), 120, 40))
    assert "0x0000…0004" in "\n".join(drawn(view_of(5, 5), 80, 24))


def test_of_many_those_that_need_somebody_stay_and_the_rest_is_counted():
    view = view_of(30, 40)
    assert view.overview is not None
    view.lanes[33] = lane(33, halted=STOPPED)
    view.lanes[35] = lane(35, stuck=2)
    view.overview.chains[29] = chain(29, ageSeconds=400.0)
    view.overview.dead_letters["MALFORMED"] = 4
    lines = drawn(view, 80, 40)
    text = "\n".join(lines)
    assert len(lines) <= 40
    assert "HALTED 5953" in text and "nonce 7 was used" in text
    assert "5955 " in text and "5949 " in text and "400 s" in text
    assert "4 MALFORMED" in text and text.count(" more") == 2


def test_what_is_old_and_what_is_not_there_is_said():
    view = view_of(1, 0, facts=0)
    assert view.overview is not None
    view.problem = "no answer from somewhere"
    view.overview.chains[0] = chain(0, supply=str(-15 * 10**17))
    text = "\n".join(drawn(view, 80, 24))
    assert "what stands here is old: no answer from somewhere" in text
    assert "no lanes yet" in text and "none since the start" in text and "-1.5" in text
    assert drawn(View(problem="not yet"), 80, 24)


def test_supply_is_in_whole_tokens_of_the_configured_decimals():
    view = view_of(1, 0)
    assert view.overview is not None and view.overview.model_extra is not None
    view.overview.chains[0] = chain(0, supply="1234567")
    for decimals, text in ((6, " 1.234567 "), (0, " 1234567 "), (2, " 12345.67 ")):
        view.overview.model_extra["tokenDecimals"] = decimals
        assert text in "\n".join(drawn(view, 80, 24))
