"""The page as an operator uses it: table, filters, links, story, lanes, charts, live updates."""

from __future__ import annotations

import re
from typing import Any
from urllib.parse import quote, urlsplit

import aiohttp
from playwright.async_api import expect

from projections.assets import FOLDER
from schemas.topics import KURO_EVENTS, REQUESTS
from tests.page.conftest import Live, Open, Service
from tests.page.world import EVIL
from tests.projections.facts import evidence, included, received, to_signed, to_submitted

ROWS = "table.requests tbody tr"


async def fetched(url: str) -> Any:
    async with aiohttp.ClientSession() as session, session.get(url) as answer:
        return await answer.json()


async def test_nothing_comes_from_elsewhere_and_nothing_is_inline(
    opened: Open, filled: Service
) -> None:
    page = await opened(filled.url)
    await expect(page.locator(ROWS)).to_have_count(50)
    assert page.seen.hosts == {urlsplit(filled.url).netloc}
    async with aiohttp.ClientSession() as session, session.get(filled.url) as answer:
        policy, text = answer.headers["Content-Security-Policy"], await answer.text()
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"<script(?![^>]*src=)|<style|style=|\son\w+=", text)
    tried = "document.body.append(Object.assign(document.createElement('script'), {text: 'x'}))"
    refused = await page.evaluate(
        f"() => {{ try {{ {tried}; return '' }} catch (e) {{ return e.name }} }}"
    )
    assert refused == "TypeError", "trusted types are enforced"
    page.seen.errors.clear()  # the browser reports what the test tried


def test_no_module_can_make_html_of_text() -> None:
    banned = re.compile(
        r"innerHTML|outerHTML\s*=|insertAdjacentHTML|document\.write|eval\(|Function\("
    )
    for path in sorted(FOLDER.glob("*.js")):
        text = path.read_text()
        assert not banned.search(text), path
        hosts = set(re.findall(r"https?://[\w.]+", text))
        assert hosts <= {"http://www.w3.org"}, path
        assert text.count("\n") < 450, path


async def test_what_the_log_brings_stays_text(opened: Open, filled: Service) -> None:
    page = await opened(filled.url + "/#status=FAILED")
    await expect(page.locator(ROWS)).to_have_count(4)
    await page.locator("a.open", has_text="bad-00001").click()
    story = page.locator("#story")
    await expect(story).to_contain_text(EVIL)
    await expect(story.locator("script, img")).to_have_count(0)
    assert await page.evaluate("window.hacked") is None


async def test_amounts_are_shown_in_the_decimals_of_the_token(
    opened: Open, filled: Service
) -> None:
    page = await opened(filled.url)
    await expect(page.locator("#foot")).to_contain_text("tokens of 18 decimals")
    shown = await page.evaluate(
        """async () => {
             const main = document.querySelector("script[type=module]").src;
             const format = await import(new URL("format.js", main).href);
             const values = ["0", "7", "1234567", "-1000000", "100000000000000000000"];
             return [6, 0, 18].map((count) => {
               format.showAs(count);
               return values.map((value) => format.tokens(value));
             });
           }"""
    )
    assert shown == [
        ["0", "0.000007", "1.234567", "−1", "100,000,000,000,000"],
        ["0", "7", "1,234,567", "−1,000,000", "1.000e20"],
        ["0", "<0.000001", "<0.000001", "−<0.000001", "100"],
    ]


async def test_filters_live_in_the_address(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    await expect(page.locator(ROWS)).to_have_count(50)
    await page.get_by_role("combobox", name="Status").select_option("FAILED")
    await expect(page.locator(ROWS)).to_have_count(4)
    assert "status=FAILED" in page.url
    copy = await opened(page.url)
    await expect(copy.locator(ROWS)).to_have_count(4)
    await expect(copy.get_by_role("combobox", name="Status")).to_have_value("FAILED")
    await copy.get_by_role("button", name="Remove filter Status FAILED").click()
    await expect(copy.locator(ROWS)).to_have_count(50)
    await copy.go_back()
    await expect(copy.locator(ROWS)).to_have_count(4)
    await copy.get_by_role("combobox", name="Chain").select_option("5922")
    await expect(copy.locator("#requests")).to_contain_text("No request fits these filters")
    await copy.keyboard.press("Escape")
    await copy.keyboard.press("x")
    await expect(copy.locator(ROWS)).to_have_count(50)


async def test_every_filter_of_the_list_is_offered(opened: Open, filled: Service) -> None:
    first = (await fetched(f"{filled.url}/status?status=COMPLETED&type=MINT&limit=1"))["items"][0]
    page = await opened(filled.url)
    await page.get_by_text("More filters").click()
    await page.get_by_label("Fiat reference", exact=True).fill(first["fiatRef"])
    await page.get_by_label("Account", exact=True).fill(first["userAddress"])
    await page.get_by_label("Transaction", exact=True).fill(first["txHash"])
    await page.get_by_role("combobox", name="Stage").select_option("COMPLETED")
    await page.get_by_label("Created from").fill("2020-01-01T00:00:00")
    await page.get_by_role("button", name="Apply").click()
    await expect(page.locator(ROWS)).to_have_count(1)
    await expect(page.locator(ROWS)).to_contain_text(first["requestId"])
    for part in ("fiatRef=", "user=0x", "txHash=0x", "stage=COMPLETED", "createdFrom=2020-01-01"):
        assert part in page.url


async def test_search_finds_what_one_has_at_hand(opened: Open, filled: Service) -> None:
    item = (await fetched(f"{filled.url}/status?status=COMPLETED&type=MINT&limit=1"))["items"][0]
    page = await opened(filled.url)
    for text in (item["requestId"], item["fiatRef"], item["txHash"]):
        await page.keyboard.press("/")
        await page.get_by_label("Search requests").fill(text)
        await page.keyboard.press("Enter")
        await expect(page.locator(ROWS)).to_have_count(1)
        await expect(page.locator(ROWS)).to_contain_text(item["requestId"])
        await page.keyboard.press("Escape")
        await page.keyboard.press("x")
        await expect(page.locator(ROWS)).to_have_count(50)


async def test_as_of_a_past_moment(opened: Open, filled: Service) -> None:
    item = (await fetched(f"{filled.url}/status?status=COMPLETED&type=MINT&limit=1"))["items"][0]
    page = await opened(f"{filled.url}/#at={item['createdAt']}&request={item['requestKey']}")
    story = page.locator("#story")
    await expect(story).to_contain_text("later facts are left out")
    await expect(story.locator(".story-name")).to_contain_text("Received")
    await expect(page.locator("tr", has_text=item["requestId"])).to_contain_text("Received")


async def test_the_story_explains_itself(opened: Open, filled: Service) -> None:
    item = (await fetched(f"{filled.url}/status?stage=SUBMITTED&limit=1"))["items"][0]
    told = await fetched(f"{filled.url}/status/{quote(item['requestKey'], safe='')}/explain")
    page = await opened(f"{filled.url}/#request={quote(item['requestKey'], safe='')}")
    explained = page.get_by_role("region", name="Explanation")
    await expect(explained).to_contain_text(told["summary"])
    await expect(explained).to_contain_text(told["code"])
    await expect(explained).to_contain_text(told["waitingFor"])
    for action in told["operatorCan"]:
        await expect(explained).to_contain_text(action["text"])


async def test_what_operators_paused(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    await expect(page.locator("#controls")).to_contain_text("chain:5921")
    await expect(page.locator("#controls")).to_contain_text(f"bridge repair {EVIL}")
    await expect(page.locator("#controls")).to_contain_text("by night shift")
    await expect(page.locator("#attention")).to_contain_text("Paused: chain:5921, by night shift")


def test_every_fact_of_a_story_has_words() -> None:
    told = set(re.findall(r"^  (\w+): ", (FOLDER / "telling.js").read_text(), re.MULTILINE))
    told_of = {*KURO_EVENTS.kinds, *REQUESTS.kinds, "RetryOrdered", "CancelOrdered"}
    assert told_of <= told


async def test_the_stages_lead_to_their_requests(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    overview = await fetched(f"{filled.url}/overview")
    count = next(
        row["count"]
        for row in overview["stages"]
        if (row["type"], row["stage"]) == ("MINT", "SUBMITTED")
    )
    await page.get_by_role("link", name=f"Submitted: {count} mint requests").click()
    await expect(page.locator(ROWS)).to_have_count(count)
    assert "stage=SUBMITTED" in page.url


async def test_pages_of_the_list(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    await expect(page.locator(ROWS)).to_have_count(50)
    first = await page.locator("a.open").first.inner_text()
    await page.get_by_role("button", name="Older").click()
    await expect(page.locator("a.open").first).not_to_have_text(first)
    assert "cursor=" in page.url
    await page.get_by_role("button", name="Older").click()
    await page.get_by_role("button", name="Newer").click()
    await page.get_by_role("button", name="Newest").click()
    await expect(page.locator("a.open").first).to_have_text(first)


async def test_a_story_with_its_facts(opened: Open, filled: Service) -> None:
    item = (await fetched(f"{filled.url}/status?status=COMPLETED&type=MINT&limit=1"))["items"][0]
    whole = await fetched(f"{filled.url}/status/{item['requestKey']}")
    page = await opened(
        f"{filled.url}/#request={item['requestKey']}",
        permissions=["clipboard-read", "clipboard-write"],
    )
    story = page.get_by_role("complementary", name="Story")
    await expect(story.locator(".fact")).to_have_count(len(whole["timeline"]))
    await expect(story).to_contain_text("The contract's own event is final: evidence")
    await expect(story).to_contain_text(f"{item['amount'][:3]}")
    await story.get_by_role("button", name=f"Copy transaction hash {item['txHash']}").first.click()
    assert await page.evaluate("navigator.clipboard.readText()") == item["txHash"]
    await expect(page.locator("#toast")).to_have_text("Copied transaction hash")
    await story.get_by_role("button", name="Close the story").click()
    await expect(story).to_be_hidden()
    assert "request=" not in page.url


async def test_an_unknown_request_is_said_to_be_unknown(opened: Open, filled: Service) -> None:
    page = await opened(filled.url + "/#request=nothing-like-it")
    await expect(page.locator("#story")).to_contain_text("No such request")
    page.seen.errors = [text for text in page.seen.errors if "404" not in text]


async def test_lanes_as_pictures(opened: Open, filled: Service) -> None:
    page = await opened(filled.url)
    lanes = (await fetched(f"{filled.url}/overview"))["lanes"]
    await expect(page.locator("#lanes article")).to_have_count(len(lanes))
    lane = page.locator("#lanes article").first
    await expect(lane.locator(".slot")).to_have_count(len(lanes[0]["slots"]))
    await expect(lane).to_contain_text(f"Nonces {lanes[0]['slots'][0]['nonce']} to")
    last = lane.locator(".slot[tabindex='0']")
    await last.focus()
    await page.keyboard.press("ArrowLeft")
    chosen = lanes[0]["slots"][-2]
    focused = page.locator(".slot:focus")
    await expect(focused).to_have_attribute("aria-label", re.compile(f"Nonce {chosen['nonce']}: "))
    await page.keyboard.press("Enter")
    await expect(page.locator("#story")).to_be_visible()
    assert f"request={chosen['requestKey'].replace(':', '%3A')}" in page.url
    await expect(page.locator("#attention")).to_contain_text("is stuck")


async def test_charts_have_a_tooltip_and_a_table(opened: Open, filled: Service) -> None:
    page = await opened(filled.url + "/#window=6h")
    chart = page.locator("#chart-supply")
    await chart.get_by_text("As a table").click()
    overview = await fetched(f"{filled.url}/overview?window=6h")
    await expect(chart.locator("tbody tr")).to_have_count(len(overview["chains"]))
    minted = int(overview["chains"][0]["minted"]) // 10**18
    await expect(chart.locator("tbody tr", has_text="Chain 5920")).to_contain_text(f"{minted:,}")
    plot = page.locator("#chart-throughput svg[role=img]")
    assert "done" in await plot.get_attribute("aria-label")
    await plot.focus()
    await page.keyboard.press("End")
    tip = page.locator("#chart-throughput .tip")
    await expect(tip).to_be_visible()
    await expect(tip).to_contain_text("received")
    await page.keyboard.press("Escape")
    await expect(tip).to_be_hidden()
    await expect(page.locator("#chart-throughput .legend li")).to_have_count(3)


async def test_the_log_moves_the_page_by_itself(opened: Open, live: Live) -> None:
    page = await opened(live.url)
    patience = 60_000
    await expect(page.locator("#connection-word")).to_have_text("Live", timeout=patience)
    asked = page.seen.paths.count("/overview")
    first = received("live-1", fiat_ref="SEPA-LIVE")
    await live.append(first)
    row = page.locator("tr", has_text="live-1")
    await expect(row).to_contain_text("Received", timeout=patience)
    await expect(row).to_contain_text("SEPA-LIVE")
    await row.locator("a.open").click()
    story = page.locator("#story")
    await expect(story.locator(".fact")).to_have_count(1, timeout=patience)
    await live.append(*to_signed("live-1"))
    await expect(row).to_contain_text("Signed", timeout=patience)
    await expect(story.locator(".fact")).to_have_count(3, timeout=patience)
    await live.append(*to_submitted("live-1")[2:], included("live-1"))
    await expect(row).to_contain_text("Included", timeout=patience)
    await live.append(evidence("live-1"))
    await expect(story.locator(".fact")).to_have_count(7, timeout=patience)
    await expect(story.locator(".story-name")).to_contain_text("Included", timeout=patience)
    more = page.seen.paths.count("/overview") - asked
    assert more <= 12, f"{more} polls: the feed is there so that the page need not ask"


async def test_held_updates_wait_until_they_are_wanted(opened: Open, live: Live) -> None:
    page = await opened(live.url)
    await expect(page.locator("#connection-word")).to_have_text("Live", timeout=60_000)
    await page.keyboard.press("p")
    await expect(page.locator("#connection-word")).to_have_text("Held")
    await live.append(received("held-1"))
    other = await opened(live.url)
    await expect(other.locator("tr", has_text="held-1")).to_have_count(1, timeout=60_000)
    await expect(page.locator("tr", has_text="held-1")).to_have_count(0)
    await page.get_by_role("button", name="Go on").click()
    await expect(page.locator("tr", has_text="held-1")).to_have_count(1, timeout=60_000)
