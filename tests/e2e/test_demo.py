"""The demonstration as a newcomer runs it: it ends by itself with a true verdict, or by Ctrl-C."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from tests.e2e.harness import until


async def started(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "orchestrator",
        "demo",
        *arguments,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "COLUMNS": "120"},
    )


async def test_so_many_requests_complete_and_the_exit_code_says_so() -> None:
    process = await started("--requests", "10")
    output, _ = await asyncio.wait_for(process.communicate(), 180)
    text = output.decode()
    assert process.returncode == 0, text
    assert "All 10 requests completed, each once" in text
    assert "API: http://127.0.0.1:" in text


async def test_ctrl_c_leaves_nothing_running(tmp_path: Path) -> None:
    process = await started("--data", str(tmp_path / "demo"))
    assert process.stdout is not None
    heard: list[str] = []

    async def at_work() -> bool:
        assert process.stdout is not None
        line = await process.stdout.readline()
        heard.append(line.decode())
        return "asked" in heard[-1]

    await until(at_work, "the demonstration shows progress", patience_seconds=120)
    process.send_signal(signal.SIGINT)
    rest, _ = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 0, "".join(heard) + rest.decode()
    assert not processes_about(tmp_path)


def processes_about(folder: Path) -> list[str]:
    """Command lines of running processes that name the folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            except OSError:
                continue
            if str(folder) in line:
                found.append(line)
    return found
