"""How a long command tells where it is: a bar on a terminal, plain lines elsewhere, JSON lines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import orjson
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

Tell = Callable[[str, int, int], None]
"""Step, done, total."""

LINE_SECONDS = 5.0


@contextmanager
def progress(as_json: bool) -> Iterator[Tell]:
    """On standard error, so that what is printed to standard output stays one document."""
    if as_json or not sys.stderr.isatty():
        yield _lines(as_json)
        return
    columns = (TextColumn("{task.description:>12}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), console=Console(stderr=True)) as shown:
        tasks: dict[str, Any] = {}

        def tell(step: str, done: int, total: int) -> None:
            if step not in tasks:
                tasks[step] = shown.add_task(step)
            shown.update(tasks[step], completed=done, total=max(total, done))

        yield tell


def _lines(as_json: bool) -> Tell:
    told: dict[str, float] = {}

    def tell(step: str, done: int, total: int) -> None:
        now = time.monotonic()
        if step in told and done < total and now - told[step] < LINE_SECONDS:
            return
        told[step] = now
        if as_json:
            line = orjson.dumps({"step": step, "done": done, "total": total}).decode()
        else:
            line = f"{step}: {done} of {total}"
        print(line, file=sys.stderr, flush=True)  # noqa: T201 - the command's progress

    return tell
