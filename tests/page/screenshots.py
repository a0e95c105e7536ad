"""The pictures in docs/images, taken from a running demonstration: `make screenshots`.

Everything in them is real: five chains, Kafka, PostgreSQL, KMS and Kuro run on this machine, mints
and redeems flow, and a few are asked for with values that must be rejected.
"""

from __future__ import annotations

import asyncio
import io
import os
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.terminal_theme import DIMMED_MONOKAI

from orchestrator.dev.demo import Demo
from orchestrator.dev.http_client import HttpError, request_json
from orchestrator.dev.ports import assign_ports
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack
from tests.page.conftest import CHROMIUM, MISSING

IMAGES = Path(__file__).parents[2] / "docs" / "images"
LARGEST_BYTES = 200_000
RUN_SECONDS = 100
WIDE = {"width": 1360, "height": 850}
STORY = {"width": 1360, "height": 716}
PHONE = {"width": 360, "height": 740}
BAD = ({"user": "0x12", "fiatRef": "SEPA-2026-0077"}, {"amount": "-5", "fiatRef": "SEPA-2026-0078"})


async def main() -> int:
    if CHROMIUM is None:
        print(MISSING, file=sys.stderr)
        return 1
    with tempfile.TemporaryDirectory(prefix="orchestrator-screenshots-") as folder:
        async with EmbeddedStack(folder, block_time=1.0, progress=print) as stack:
            port = assign_ports(["api"], {}, Path(folder) / "ports.json")["api"]
            environment = service_environment(stack)
            service = Service(stack, "service", ["run"], environment, api_port=port)
            await service.start()
            demo = asyncio.create_task(Demo(stack, service, Console(quiet=True), None, 4).run())
            try:
                await run_for(stack, RUN_SECONDS)
                await shoot(service.base_url)
                await shoot_watch(service.base_url)
            finally:
                demo.cancel()
                await asyncio.gather(demo, return_exceptions=True)
                await service.stop()
    large = [path.name for path in IMAGES.glob("*.png") if path.stat().st_size > LARGEST_BYTES]
    if large:
        print(f"larger than {LARGEST_BYTES} bytes: {', '.join(large)}", file=sys.stderr)
    return 1 if large else 0


async def run_for(stack: EmbeddedStack, seconds: float) -> None:
    good = {"user": stack.holders.address, "amount": str(10**18), "chainId": stack.chain_ids[0]}
    for change in BAD:
        await asyncio.sleep(seconds / (len(BAD) + 1))
        await stack.kuro.mint({**good, **change})
    await asyncio.sleep(seconds / (len(BAD) + 1))


async def shoot(url: str) -> None:
    from playwright.async_api import async_playwright

    IMAGES.mkdir(parents=True, exist_ok=True)
    async with async_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        for name, size, scheme, view in (
            ("page-light", WIDE, "light", "window=15m"),
            ("page-dark", WIDE, "dark", "window=15m"),
            ("page-story", STORY, "light", "window=15m"),
            ("page-lanes", WIDE, "dark", "window=15m"),
            ("page-phone", PHONE, "light", "window=15m"),
        ):
            context = await browser.new_context(viewport=size, color_scheme=scheme)
            page = await context.new_page()
            await page.goto(f"{url}/#{view}")
            await page.locator("table.requests tbody tr").nth(20).wait_for()
            await page.locator('#connection[data-state="live"]').wait_for()
            await asyncio.sleep(3)
            await prepare(page, name, url)
            await asyncio.sleep(1.5)
            await page.screenshot(path=IMAGES / f"{name}.png")
            print(f"{name}.png {(IMAGES / f'{name}.png').stat().st_size} bytes")
            await context.close()
        await browser.close()


async def shoot_watch(url: str) -> None:
    """`orchestrator watch` as a terminal of 100 by 30 shows it, by the code that draws it there."""
    from playwright.async_api import async_playwright

    from orchestrator.client import Client
    from orchestrator.commands.watch_screen import View, screen

    view = View()
    async with Client(url) as api:
        view.overview, found = await api.overview(), await api.lanes()
        view.lanes = found.items
        with suppress(TimeoutError):
            async with asyncio.timeout(10):
                async for item in api.feed("now"):
                    view.newest.append(item)
    wall = Console(record=True, width=100, height=30, file=io.StringIO(), highlight=False)
    wall.print(screen(view, wall))
    html = wall.export_html(inline_styles=True, theme=DIMMED_MONOKAI)
    async with async_playwright() as playwright:
        flags = ["--no-sandbox"] if os.geteuid() == 0 else []
        browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        page = await browser.new_page(viewport={"width": 1200, "height": 800})
        await page.set_content(html)
        await page.add_style_tag(content="body { margin: 0 } pre { float: left; margin: 12px }")
        width, height = await page.evaluate(
            "(b => [b.right + 12, b.bottom + 12])(document.querySelector('pre')"
            ".getBoundingClientRect())"
        )
        clip = {"x": 0, "y": 0, "width": width, "height": height}
        await page.screenshot(path=IMAGES / "watch.png", clip=clip)
        await browser.close()


async def prepare(page: Any, name: str, url: str) -> None:
    if name == "page-story":
        path = f"{url}/status?type=MINT&status=COMPLETED&limit=1"
        try:
            found = await asyncio.to_thread(request_json, "GET", path)
        except (HttpError, OSError) as error:
            raise SystemExit(f"the API does not answer: {error}") from None
        await page.evaluate(f"location.hash += '&request={found['items'][0]['requestKey']}'")
        await page.locator("#story .fact").nth(6).wait_for()
    elif name == "page-lanes":
        await page.keyboard.press("g")


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
