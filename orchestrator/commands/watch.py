"""`orchestrator watch`: the service live, from the API's answers and its feed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.live import Live

from orchestrator.commands.asking import PATIENCE_SECONDS, Json, NotAnswered, place, words_of
from orchestrator.commands.showing import console, show_json
from orchestrator.commands.watch_screen import View, line_of, screen

if TYPE_CHECKING:
    from orchestrator.client import Client, FeedItem


def watch(
    every: Annotated[
        float, typer.Option(min=0.5, max=600, help="Seconds between two looks at the sums.")
    ] = 2.0,
    as_json: Json = False,
) -> None:
    """Watch the service live: queues, stages, chains, lanes, and the newest facts. Ctrl-C ends it.

    Where the output is no terminal: each fact as a line, and a line of sums when they changed.
    """
    with suppress(KeyboardInterrupt):
        asyncio.run(_watch(every, as_json))


async def _watch(every: float, as_json: bool) -> None:
    from orchestrator.client import ApiError, Client

    url, token = place()
    view = View()
    try:
        async with Client(url, token, PATIENCE_SECONDS) as api:
            await _look(api, view)
            if as_json or not console.is_terminal:
                show = _lines(view, as_json)
                await _together(api, view, every, show, show)
                return
            wall = Console(highlight=False)
            with Live(console=wall, screen=True, auto_refresh=False) as live:

                def draw() -> None:
                    live.update(screen(view, wall), refresh=True)

                # Facts may come by the thousand: they are drawn with the sums, four times a second.
                drawing = asyncio.ensure_future(_repeatedly(draw))
                try:
                    await _together(api, view, every, lambda _: None, lambda _: None)
                finally:
                    drawing.cancel()
    except ApiError as error:
        raise NotAnswered(words_of(error)) from None


async def _repeatedly(draw: Callable[[], None]) -> None:
    while True:
        draw()
        await asyncio.sleep(0.25)


Show = Callable[["FeedItem | None"], None]


async def _together(api: Client, view: View, every: float, fact: Show, sums: Show) -> None:
    """The feed and the sums beside each other, until one of them cannot go on."""
    tasks = [
        asyncio.ensure_future(_follow(api, view, fact)),
        asyncio.ensure_future(_look_again(api, view, every, sums)),
    ]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()


async def _follow(api: Client, view: View, show: Show) -> None:
    async for item in api.feed("now"):
        view.newest.append(item)
        show(item)


async def _look_again(api: Client, view: View, every: float, show: Show) -> None:
    from orchestrator.client import ApiError

    while True:
        show(None)
        await asyncio.sleep(every)
        try:
            await _look(api, view)
        except ApiError as error:
            view.problem = words_of(error)


async def _look(api: Client, view: View) -> None:
    view.overview, found = await api.overview(), await api.lanes()
    view.lanes, view.problem = found.items, None


def _lines(view: View, as_json: bool) -> Show:
    """Prints facts as they come, sums and problems when they changed."""
    told: list[Any] = [None, None]

    def show(item: FeedItem | None) -> None:
        if item is not None:
            if as_json:
                show_json({"fact": item.event.model_dump(mode="json", by_alias=True)})
            else:
                console.print(line_of(item))
            return
        if view.problem != told[1]:
            told[1] = view.problem
            if view.problem is not None:
                console.print(view.problem, markup=False) if not as_json else show_json(
                    {"problem": view.problem}
                )
        sums = sums_of(view)
        if sums != told[0]:
            told[0] = sums
            show_json(sums) if as_json else console.print(words_of_sums(sums), markup=False)

    return show


def sums_of(view: View) -> dict[str, Any]:
    """Queues, open stages and lanes, without what only the clock moves."""
    seen = view.overview
    return {
        "queues": None if seen is None else seen.queues.model_dump(mode="json", by_alias=True),
        "stages": []
        if seen is None
        else [{"type": row.type, "stage": row.stage, "count": row.count} for row in seen.stages],
        "deadLetters": {} if seen is None else dict(seen.dead_letters),
        "lanes": [lane.model_dump(mode="json", by_alias=True) for lane in view.lanes],
    }


def words_of_sums(sums: dict[str, Any]) -> str:
    queues = [
        f"{name}: " + ", ".join(f"{count} {what}" for what, count in queue.items())
        for name, queue in (sums["queues"] or {}).items()
    ]
    flying = sum(lane["inFlight"] for lane in sums["lanes"])
    stopped = sum(bool(lane["halted"] or lane["setAside"]) for lane in sums["lanes"])
    letters = sum(sums["deadLetters"].values())
    lanes = f"lanes: {flying} in flight, {stopped} stopped"
    return "   ".join([*queues, lanes, f"dead letters: {letters}"])
