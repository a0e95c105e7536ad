"""Part p: where the processes' time goes, by sampling them from outside (py-spy) under load.

Kept as text: the share of each function itself, and of each with what it called. A flame graph of
one role: `py-spy record --pid … -o flame.svg` while `python -m orchestrator.dev.bench --only b`
runs.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections import Counter
from pathlib import Path

from orchestrator.dev.bench.figures import Findings
from orchestrator.dev.bench.throughput import CHAIN, mint
from orchestrator.dev.bench.world import ROLES, Run, world

_SHOWN = 14
_OURS = re.compile(r"^(.*) \((.*):\d+\)$")


async def profile(run: Run) -> Findings:
    """Samples every role while mints run through it."""
    seconds = run.size(25, 12)
    findings = Findings()
    async with world(chain_ids=[CHAIN]) as place:
        await place.start(*ROLES)
        await mint(place, [CHAIN], 20)
        folder = place.stack.data_dir
        recorders = [
            await asyncio.create_subprocess_exec(
                str(Path(sys.executable).with_name("py-spy")),
                *("record", "--nonblocking", "--rate", "100", "--format", "raw"),
                *("--duration", str(seconds), "--pid", str(service.pid)),
                *("--output", str(folder / f"{role}.raw")),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            for role, service in place.services.items()
            if role != "api"
        ]
        await mint(place, [CHAIN], run.size(3000, 1000))
        await asyncio.gather(*(recorder.wait() for recorder in recorders))
        for role in place.services:
            path = folder / f"{role}.raw"
            if path.exists():
                findings.remarks.append(_summary(role, path.read_text(encoding="utf-8")))
    if not findings.remarks:
        raise RuntimeError("py-spy may not look into processes here")
    return findings


def _summary(role: str, raw: str) -> str:
    """Two columns of shares from lines of `frame;frame;… count`."""
    itself: Counter[str] = Counter()
    whole: Counter[str] = Counter()
    for line in raw.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = [_named(frame) for frame in stack.split(";")]
        if not count.isdigit() or not frames:
            continue
        itself[frames[-1]] += int(count)
        for name in set(frames):
            whole[name] += int(count)
    total = itself.total() or 1
    lines = [f"## {role}", "", "```", f"{total} samples", "itself"]
    lines += [f"{count / total:6.1%}  {name}" for name, count in itself.most_common(_SHOWN)]
    lines += ["with what it called"]
    lines += [f"{count / total:6.1%}  {name}" for name, count in whole.most_common(3 * _SHOWN)]
    return "\n".join([*lines, "```"])


def _named(frame: str) -> str:
    """Function and file; lines would scatter one function over many rows."""
    match = _OURS.match(frame)
    return f"{match[1]} ({match[2]})" if match else frame
