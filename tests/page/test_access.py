"""Usable by whoever is on call: keyboard, screen readers, contrast, small screens, no motion."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from playwright.async_api import expect

from orchestrator.dev.downloads import npm_modules
from tests.page.conftest import Open, Service
from tests.page.test_page import ROWS

PHONE = {"viewport": {"width": 360, "height": 740}, "has_touch": True}
STANDARDS = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]
RULES = {
    "light": {"type": "tag", "values": STANDARDS},
    "dark": {"type": "rule", "values": ["color-contrast"]},
}
"""The other theme differs in its colours alone."""


@pytest.fixture(scope="session")
def axe() -> str:
    """axe-core's script, installed by hash through npm."""
    modules = npm_modules(Path(__file__).parent / "npm", "axe-core", print)
    return (modules / "axe-core" / "axe.min.js").read_text()


async def violations(page: Any, axe: str, only: dict[str, Any]) -> list[str]:
    await page.evaluate(axe)
    options = {"runOnly": only, "resultTypes": ["violations"]}
    found = await page.evaluate("(options) => axe.run(document, options)", options)
    return [
        f"{item['id']}: {node['target']} {node.get('failureSummary', '')}"
        for item in found["violations"]
        for node in item["nodes"]
    ]


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_no_rule_of_axe_is_broken(
    opened: Open, filled: Service, axe: str, scheme: str
) -> None:
    few = filled.url + "/#status=FAILED"  # axe looks at every node: as many rows as kinds of cells
    page = await opened(few, color_scheme=scheme, bypass_csp=True, reduced_motion="reduce")
    await expect(page.locator(ROWS)).to_have_count(4)
    await expect(page.locator("#lanes article").first).to_be_visible()
    await page.locator("a.open").first.click()
    await expect(page.locator("#story .fact").first).to_be_visible()
    for summary in await page.get_by_text("As a table").all():
        await summary.click()
    await page.get_by_text("More filters").click()
    assert await violations(page, axe, RULES[scheme]) == []


async def test_a_phone_needs_no_scrolling_sideways(opened: Open, filled: Service) -> None:
    page = await opened(filled.url, **PHONE)
    await expect(page.locator(ROWS)).to_have_count(50)
    sideways = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert await page.evaluate(sideways) == 0
    await expect(page.locator("table.requests").get_by_role("row")).to_have_count(51)
    await page.locator("a.open").first.click()
    story = page.locator("#story")
    await expect(story.locator(".fact").first).to_be_visible()
    assert await page.evaluate(sideways) == 0
    box = await story.bounding_box()
    assert (box["x"], box["width"]) == (0, 360)
    assert await story.evaluate("(node) => node.scrollWidth - node.clientWidth") == 0
    await story.get_by_role("button", name="Close the story").click()
    await expect(story).to_be_hidden()


async def test_the_keyboard_does_it_all(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    await expect(page.locator(ROWS)).to_have_count(50)
    await page.keyboard.press("Tab")
    await expect(page.locator("#skip")).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("#requests")).to_be_focused()
    await page.keyboard.press("j")
    await page.keyboard.press("j")
    second = page.locator("a.open").nth(1)
    await expect(second).to_be_focused()
    outline = await second.evaluate("(node) => getComputedStyle(node).outlineStyle")
    assert outline == "solid"
    await page.keyboard.press("Enter")
    story = page.locator("#story")
    await expect(story).to_be_focused()
    await expect(story.locator(".fact").first).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(story).to_be_hidden()
    await expect(second).to_be_focused()
    await page.keyboard.press("/")
    await expect(page.get_by_label("Search requests")).to_be_focused()
    await page.keyboard.type("j?t")
    await expect(page.get_by_label("Search requests")).to_have_value("j?t")
    await page.keyboard.press("Escape")
    await page.keyboard.press("n")
    await expect(page).to_have_url(re.compile("cursor="))
    await page.keyboard.press("?")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    await page.keyboard.press("Escape")
    await expect(page.get_by_role("dialog", name="Keys")).to_be_hidden()


async def test_the_tab_key_visits_everything_in_order(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    await expect(page.locator(ROWS)).to_have_count(50)
    await expect(page.locator("#attention .concern").first).to_be_visible()
    seen: list[str] = []
    for _ in range(60):
        await page.keyboard.press("Tab")
        where = "document.activeElement.closest('header, section, form, aside')"
        name = await page.evaluate(f"{where} ? {where}.id || {where}.className : 'skip'")
        if not seen or seen[-1] != name:
            seen.append(name)
    assert seen[:2] == ["top", "attention"]
    assert seen[2:6] == ["pipeline", "charts", "filters", "requests"]


async def test_dark_and_light(opened: Open, filled: Service) -> None:
    async def ground(page: Any) -> int:
        colour = await page.evaluate("getComputedStyle(document.body).backgroundColor")
        return sum(int(part) for part in re.findall(r"\d+", colour)[:3])

    page = await opened(filled.url, color_scheme="dark")
    assert await ground(page) < 120
    await page.emulate_media(color_scheme="light")
    assert await ground(page) > 600
    await page.get_by_role("button", name="Dark").click()
    assert await ground(page) < 120
    await page.reload()
    assert await ground(page) < 120
    await expect(page.locator(ROWS)).to_have_count(50)
    await page.keyboard.press("t")
    assert await ground(page) > 600


async def test_state_is_never_told_by_colour_alone(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    await expect(page.locator(ROWS)).to_have_count(50)
    shapes = await page.evaluate(
        """() => [...document.querySelectorAll('table.requests .badge')].map((node) =>
          [node.className, node.querySelector('svg').innerHTML, node.textContent])"""
    )
    assert all(text for _, _, text in shapes)
    by_class = {name: shape for name, shape, _ in shapes}
    assert len(by_class) >= 3
    assert len(set(by_class.values())) == len(by_class)


async def test_who_wants_no_motion_sees_none(opened: Open, filled: Service) -> None:
    page = await opened(filled.url, reduced_motion="reduce")
    await expect(page.locator(ROWS)).to_have_count(50)
    await page.locator(ROWS).first.evaluate("(row) => row.classList.add('fresh')")
    name = await page.locator(ROWS).first.evaluate("(row) => getComputedStyle(row).animationName")
    assert name == "none"
