"""What the page says while it waits, when there is nothing, and when something is wrong."""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any

from playwright.async_api import expect

from orchestrator.dev.ports import chosen_port
from orchestrator.tokens import Scope, Token, new_token, sha256_of
from projections.access import Access
from projections.api import make_app
from projections.store import Store
from tests.page.conftest import Open, Service, serving
from tests.page.test_page import ROWS
from tests.page.world import CHAINS

PATIENCE = 60_000


def without(page: Any, *allowed: str) -> None:
    """Takes out complaints that the browser itself makes of answers that are no 2xx."""
    page.seen.errors = [
        text for text in page.seen.errors if not any(part in text for part in allowed)
    ]


async def test_nothing_yet(opened: Open, quiet: Service) -> None:
    page = await opened(quiet.url)
    await expect(page.locator("#requests")).to_contain_text("No request yet")
    await expect(page.locator("#lanes")).to_contain_text("No lane yet")
    await expect(page.locator("#chart-supply")).to_contain_text("No chain is configured")
    await expect(page.locator("#chart-latency")).to_contain_text("Nothing completed")
    await expect(page.locator("#connection-word")).to_contain_text("Stale")
    await expect(page.locator("#attention")).to_contain_text("no projection has run")
    without(page, "503")  # health says so with its status too


async def test_every_panel_shows_that_it_waits(opened: Open, filled: Service) -> None:
    page = await opened("about:blank")
    let_go = asyncio.Event()

    async def later(route: Any) -> None:
        await let_go.wait()
        await route.continue_()

    await page.route(re.compile("/(overview|health|status)"), later)
    await page.goto(filled.url + "/#request=bad-00001")
    for panel in ("pipeline", "requests", "lanes", "health", "story", "chart-latency"):
        await expect(page.locator(f"#{panel} .skeleton")).to_be_visible()
    await expect(page.locator("#connection-word")).to_have_text("Connecting")
    let_go.set()
    await expect(page.locator(ROWS)).to_have_count(50)
    await expect(page.locator(".skeleton:visible")).to_have_count(0)


async def test_an_api_that_goes_and_comes_back(opened: Open, filled: Service) -> None:
    """First absent, then there, then gone, then back: the page heals without being loaded anew."""
    port = chosen_port()
    address = f"http://127.0.0.1:{port}"
    async with serving(make_app(Store(filled.database), None, CHAINS), port):
        page = await opened(address)
        await expect(page.locator(ROWS)).to_have_count(50)
    await page.keyboard.press("r")
    await expect(page.locator("#connection-word")).to_contain_text("Disconnected")
    await expect(page.locator("#as-of")).to_contain_text("data as of")
    await expect(page.locator(ROWS)).to_have_count(50)  # old rows stay, the head says their age
    await page.locator("a.open").first.click()
    await expect(page.locator("#story")).to_contain_text("The story cannot be shown")
    async with serving(make_app(Store(filled.database), None, CHAINS), port):
        await expect(page.locator("#connection-word")).to_have_text("Polling", timeout=PATIENCE)
        await page.locator("#story").get_by_role("button", name="Try again").click()
        await expect(page.locator("#story .fact").first).to_be_visible()
        without(page, "ERR_CONNECTION_REFUSED", "ERR_CONNECTION_RESET", "ERR_EMPTY_RESPONSE")
        await page.close()


async def test_a_database_that_does_not_answer(opened: Open, filled: Service) -> None:
    page = await opened("about:blank")
    down = True

    async def answer(route: Any) -> None:
        if not down:
            return await route.continue_()
        body = json.dumps({"error": "the database does not answer"})
        return await route.fulfill(
            status=503,
            body=body,
            headers={"Retry-After": "1", "Content-Type": "application/problem+json"},
        )

    await page.route(re.compile("/overview"), answer)
    await page.goto(filled.url)
    for panel in ("pipeline", "requests", "lanes", "attention"):
        await expect(page.locator(f"#{panel}")).to_contain_text("the database does not answer")
    await expect(page.locator("#connection-word")).to_contain_text("API in trouble")
    down = False
    await expect(page.locator(ROWS)).to_have_count(50, timeout=PATIENCE)
    await expect(page.locator("#pipeline .problem")).to_have_count(0)
    without(page, "503")


async def test_the_limit_of_the_api_is_kept(opened: Open, filled: Service) -> None:
    page = await opened("about:blank")
    asked = 0

    async def limited(route: Any) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            return await route.continue_()
        headers = {"Retry-After": "3", "Content-Type": "application/problem+json"}
        return await route.fulfill(status=429, body='{"error": "too many"}', headers=headers)

    await page.route(re.compile("/overview"), limited)
    await page.goto(filled.url)
    await expect(page.locator("#connection-word")).to_contain_text("Limit reached")
    await expect(page.locator("#as-of")).to_contain_text("asking again in")
    assert asked == 1
    await expect(page.locator(ROWS)).to_have_count(50, timeout=PATIENCE)
    without(page, "429")


async def test_a_filter_that_the_api_refuses(opened: Open, filled: Service) -> None:
    page = await opened(filled.url + "/#txHash=0x12")
    await expect(page.locator("#requests .problem")).to_contain_text("does not accept this filter")
    await expect(page.locator("#requests .problem")).to_contain_text("txHash")
    without(page, "400")


async def test_a_token_is_asked_for_and_kept_for_the_tab(opened: Open, filled: Service) -> None:
    secret = new_token()
    access = Access((Token("page", Scope.READ, sha256_of(secret)),))
    async with serving(make_app(Store(filled.database), None, CHAINS, access=access)) as address:
        page = await opened(address)
        dialog = page.get_by_role("dialog", name="Access token")
        await expect(dialog).to_contain_text("This API wants a token")
        await dialog.get_by_label("Bearer token").fill("wrong")
        await dialog.get_by_role("button", name="Use it").click()
        await expect(dialog).to_contain_text("does not accept this token")
        await dialog.get_by_label("Bearer token").fill(secret)
        await page.keyboard.press("Enter")
        await expect(dialog).to_be_hidden()
        await expect(page.locator(ROWS)).to_have_count(50)
        await page.reload()
        await expect(page.locator(ROWS)).to_have_count(50)
        kept = await page.evaluate("[JSON.stringify(localStorage), document.cookie, location.href]")
        assert not any(secret in text for text in kept)
        without(page, "401")
        await page.close()
