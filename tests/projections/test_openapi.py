"""The document is what is committed, what is routed, and what is served."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from pydantic import BaseModel
from yarl import URL

from orchestrator.client import models
from projections import docs_routes
from projections.answers import PROBLEMS
from projections.api import make_app
from projections.openapi import ALWAYS, DOCUMENT, OPERATIONS, UNDESCRIBED, document, encoded
from projections.store import Store
from schemas.controls import WorkPaused
from schemas.lanes import WalletSetAside
from tests.projections.conftest import Client, Tables
from tests.projections.facts import (
    CHAIN,
    SEAT,
    WALLET,
    evidence,
    followed,
    lane_story,
    mint_ok,
    received,
    rejected,
    relay_of,
    whole_life,
)
from tests.projections.test_past import story

EXAMPLES = 12
"""For each operation; the whole run takes some seconds."""
LONGEST_ADDRESS = 8000
"""Of a longer one the server reads no more than the first line's 8190 bytes."""


def test_the_committed_document_is_the_generated_one() -> None:
    told = "python -m projections.openapi writes it anew"
    assert DOCUMENT.read_text(encoding="utf-8") == encoded(), told
    assert document()["openapi"] == "3.1.0"


def test_every_route_is_described_and_every_description_routed() -> None:
    app = make_app(Store("postgresql://nobody@127.0.0.1:1/none"), None, [])
    routed = {
        re.sub(r"_(\w)", lambda found: found[1].upper(), resource.canonical)
        for resource in app.router.resources()
    }
    assert routed == {*OPERATIONS, *UNDESCRIBED}
    for route in app.router.routes():
        assert route.method in ("GET", "HEAD"), "this API only reads"


def test_every_reference_leads_somewhere() -> None:
    found = document()
    for name in re.findall(r"#/components/schemas/(\w+)", encoded()):
        assert name in found["components"]["schemas"], name
    assert len({one.name for one in OPERATIONS.values()}) == len(OPERATIONS)
    assert {problem["name"] for problem in found["x-problems"]} == {str(name) for name in PROBLEMS}
    assert set(ALWAYS) <= set(PROBLEMS)


async def filled(tables: Tables) -> None:
    await tables.write(
        *story(),
        mint_ok("m-9"),
        *whole_life("m-9", fiat_ref="fiat-9"),
        received("bad", user="nobody"),
        rejected("bad"),
        evidence("unbacked"),
        relay_of("m-8"),
        WalletSetAside(**SEAT, number=2, reason="without funds"),
        followed(CHAIN, 200),
        WorkPaused(scope="all", order="o-1", who="ann", why="fees"),
        *lane_story()[-1:],
    )


PATHS: list[tuple[str, type[BaseModel]]] = [
    ("/status?limit=3", models.StatusPage),
    ("/status", models.StatusPage),
    ("/status/m-1", models.StatusWithTimeline),
    ("/status/unbacked", models.StatusWithTimeline),
    ("/status/m-1/explain", models.Explanation),
    ("/status/m-2/explain", models.Explanation),
    ("/status/unbacked/explain", models.Explanation),
    ("/lanes", models.Lanes),
    (f"/lanes/{CHAIN}/{WALLET}", models.Lane),
    ("/controls", models.Controls),
    ("/webhooks", models.Webhooks),
    ("/overview", models.Overview),
    ("/health", models.Health),
    ("/health/ready", models.Ready),
    ("/health/live", models.Live),
    ("/metrics/queues", models.Queues),
    ("/status/nope", models.Problem),
    ("/status/nope/certificate", models.Problem),
    ("/status/m-1/certificate", models.Problem),
    ("/status/bad/certificate", models.Problem),
    ("/status?limit=0", models.Problem),
    ("/feed", models.Problem),
    ("/nowhere", models.Problem),
]


def dumped(model: type[BaseModel], body: Any) -> Any:
    """What the model makes of the answer; a field that it does not know is missing in it."""
    read = model.model_validate(body)
    return read.model_dump(mode="json", by_alias=True, exclude_unset=True)


async def test_what_is_served_fits_the_models_exactly(api: Client, tables: Tables) -> None:
    await filled(tables)
    for path, model in PATHS:
        body = await (await api.get(path)).json()
        assert dumped(model, body) == body, path
        body["unforeseen"] = 1
        model.model_validate(body)


async def test_the_page_needs_no_other_host(api: Client) -> None:
    page = await api.get("/docs")
    assert page.status == 200 and page.content_type == "text/html"
    text = await page.text()
    for name in re.findall(r'(?:src|href)="(/docs/[^"]+)"', text):
        part = await api.get(name)
        assert part.status == 200 and part.content_type in ("text/css", "text/javascript")
        text += await part.text()
    assert "http://" not in text and "https://" not in text and "<style" not in text
    assert not re.search(r"<script(?![^>]*src=)", text), "no inline script: the CSP forbids it"
    assert (await api.get("/docs/secret")).status == 404
    served = await api.get("/openapi.json")
    assert await served.text() == encoded()
    for file in (Path(docs_routes.__file__).parent / "docs").iterdir():
        assert file.stat().st_size < 20_000


CHECKS = [
    schemathesis.checks.not_a_server_error,
    schemathesis.checks.status_code_conformance,
    schemathesis.checks.content_type_conformance,
    schemathesis.checks.response_schema_conformance,
]


def _fuzz(base_url: str) -> int:
    """Every operation with made-up parameters, good and bad. The number of answers checked."""
    asked: list[int] = []

    def ask(case: Any) -> None:
        response = case.call(base_url=base_url)
        if len(str(response.request.url)) > LONGEST_ADDRESS:
            assert response.status_code in (400, 404), (
                "the HTTP server's own refusal, in plain text"
            )
            return
        if response.status_code == 503 and case.path in ("/health", "/health/ready", "/feed"):
            case.validate_response(response, checks=CHECKS[1:])  # no projector, no Kafka here
        elif response.status_code == 501 and case.path.endswith("/certificate"):
            case.validate_response(response, checks=CHECKS[1:])  # no nodes here
        else:
            case.validate_response(response, checks=CHECKS)
        asked.append(response.status_code)

    bounded = settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    for result in schemathesis.openapi.from_dict(document()).get_all_operations():
        operation = result.ok()
        for mode in (schemathesis.GenerationMode.POSITIVE, schemathesis.GenerationMode.NEGATIVE):
            if mode is schemathesis.GenerationMode.NEGATIVE and not operation.query:
                continue
            bounded(given(case=operation.as_strategy(generation_mode=mode))(ask))()
    assert {200, 400, 404} <= set(asked)
    return len(asked)


async def test_made_up_questions_bring_no_5xx_and_no_undocumented_answer(
    api: Client, tables: Tables
) -> None:
    await filled(tables)
    asked = await asyncio.to_thread(_fuzz, str(api.make_url("")).rstrip("/"))
    assert asked >= EXAMPLES * len(OPERATIONS)


HOSTILE = [
    "%00",
    "..%2F..%2Fetc%2Fpasswd",
    "%F0%9F%92%A9" * 200,
    "'; DROP TABLE requests; --".replace(" ", "%20"),
    "%E2%90%800",
    "%ED%A0%80",
    "%FF%FE",
    "a" * 7000,
    "%2e%2e",
    "%25",
]


@pytest.mark.parametrize("text", HOSTILE)
async def test_hostile_texts_everywhere(api: Client, text: str) -> None:
    places = [
        f"/status/{text}",
        f"/status/{text}/explain",
        f"/lanes/{text}/{text}",
        f"/lanes/1/{text}",
    ]
    places += [
        f"/status?{name}={text}"
        for name in ("search", "user", "fiatRef", "cursor", "at", "txHash", "limit", text)
    ]
    for place in places:
        response = await api.get(URL(place, encoded=True))
        assert response.status in (200, 400, 404), (place[:60], await response.text())
