"""Starting, watching and ending the stack's child processes, through one supervisor process.

`Supervisor` talks to `supervisor.py` (read there why it is a process of its own). Everything here
is blocking and thread-safe and knows no event loop, so that a stack started in one loop can be
used from another; the parts offer async methods on top (`Part`).
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from orchestrator.dev import supervisor as supervisor_script
from orchestrator.dev.supervisor import process_start_time

LOG_ROTATE_BYTES = 20_000_000


class StackError(RuntimeError):
    """The embedded stack cannot do what was asked; the text says what a person can do."""


@dataclass
class Child:
    """One process of the supervisor."""

    identity: str
    name: str
    log: Path
    pid: int = 0
    error: str | None = None
    code: int | None = None
    started: threading.Event = field(default_factory=threading.Event)
    exited: threading.Event = field(default_factory=threading.Event)

    @property
    def running(self) -> bool:
        return self.started.is_set() and not self.exited.is_set() and self.error is None

    def log_tail(self, lines: int = 15) -> str:
        """The last lines of its log, for error messages."""
        try:
            text = self.log.read_text(errors="replace")
        except OSError:
            return ""
        return "\n".join(text.splitlines()[-lines:])


class Supervisor:
    """The client of one supervisor process. Thread-safe. `close` ends all children."""

    def __init__(self, record_path: Path) -> None:
        self._record_path = record_path
        self._children: dict[str, Child] = {}
        self._lock = threading.Lock()
        self._count = 0
        self._closing = False
        script = str(Path(supervisor_script.__file__).resolve())
        self._process = subprocess.Popen(
            [sys.executable, "-I", "-S", script, str(record_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        self._reader = threading.Thread(target=self._read, name="supervisor-reader", daemon=True)
        self._reader.start()

    @property
    def pid(self) -> int:
        return self._process.pid

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            event = json.loads(line)
            child = self._children[event["id"]]
            if event["event"] == "started":
                child.pid = event["pid"]
            elif event["event"] == "failed":
                child.error = event["error"]
                child.exited.set()
            else:
                child.code = event["code"]
                child.exited.set()
            child.started.set()
        for child in list(self._children.values()):
            child.started.set()
            child.exited.set()

    def _send(self, command: Mapping[str, Any]) -> None:
        assert self._process.stdin is not None
        try:
            with self._lock:
                self._process.stdin.write(json.dumps(command).encode() + b"\n")
                self._process.stdin.flush()
        except (OSError, ValueError) as error:
            raise StackError("the stack's supervisor is gone; start the stack again") from error

    def start(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        cwd: Path,
        env: Mapping[str, str] | None = None,
        user: str | None = None,
    ) -> Child:
        """Start a process; its output is appended to `log`. Secrets belong into `env` or files,
        never into `argv`, which every user of the machine can read.

        Raises `StackError` when it cannot be executed.
        """
        if log.exists() and log.stat().st_size > LOG_ROTATE_BYTES:
            log.replace(log.with_suffix(".log.1"))
        with self._lock:
            self._count += 1
            child = Child(f"{name}#{self._count}", name, log)
            self._children[child.identity] = child
        self._send(
            {
                "op": "start",
                "id": child.identity,
                "name": name,
                "argv": list(argv),
                "env": dict(os.environ if env is None else env),
                "cwd": str(cwd),
                "log": str(log),
                "user": user,
            }
        )
        child.started.wait(30)
        if child.error is not None or not child.pid:
            raise StackError(f"{name} cannot be started: {child.error or 'no answer'}")
        return child

    def run(self, name: str, argv: Sequence[str], *, timeout: float = 60, **options: Any) -> Child:
        """Start a process and wait for its end; raises `StackError` when it fails."""
        child = self.start(name, argv, **options)
        if not child.exited.wait(timeout):
            self.stop(child, signal.SIGKILL)
            raise StackError(f"{name} did not end within {timeout} s; see {child.log}")
        if child.code != 0:
            raise StackError(f"{name} failed ({child.code}); see {child.log}:\n{child.log_tail()}")
        return child

    def send_signal(self, child: Child, number: int) -> None:
        if child.running:
            self._send({"op": "signal", "id": child.identity, "signal": int(number)})

    def stop(self, child: Child, number: int = signal.SIGTERM, timeout: float = 15) -> None:
        """Signal, wait, and SIGKILL when it has not ended after `timeout` seconds."""
        self.send_signal(child, number)
        if not child.exited.wait(timeout):
            self.send_signal(child, signal.SIGKILL)
            child.exited.wait(10)

    def close(self) -> None:
        """End every child and the supervisor itself. Safe to call twice."""
        if self._closing:
            return
        self._closing = True
        if self._process.stdin is not None:
            with contextlib.suppress(OSError):
                self._process.stdin.close()
        try:
            self._process.wait(supervisor_script.GRACE_SECONDS + 5)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def heal_leftovers(record_path: Path, progress: Callable[[str], None]) -> list[str]:
    """End what an earlier stack in this folder left running; returns the names of what it ended.

    Only processes whose pid *and* start time are on record are touched: a pid that was reused by
    somebody else is never signalled. A supervisor that lost its parent is already stopping its
    children, so it is given the time for that first.
    """
    try:
        rows = json.loads(record_path.read_text())
    except (OSError, ValueError):
        return []

    def alive() -> list[dict[str, Any]]:
        return [
            row
            for row in rows
            if row["start_time"] and process_start_time(row["pid"]) == row["start_time"]
        ]

    leftovers = alive()
    if not leftovers:
        record_path.unlink(missing_ok=True)
        return []
    names = [str(row["name"]) for row in leftovers]
    progress(f"ending leftovers of an earlier stack: {', '.join(names)}")
    supervised = any(row["name"] == "supervisor" for row in leftovers)
    patience = supervisor_script.GRACE_SECONDS + 2 if supervised else 0.0
    for number, seconds in ((0, patience), (signal.SIGTERM, 5.0), (signal.SIGKILL, 5.0)):
        for row in alive() if number else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(row["pid"], number)
        deadline = time.monotonic() + seconds
        while alive() and time.monotonic() < deadline:
            time.sleep(0.05)
    if stubborn := alive():
        raise StackError(f"leftovers do not end, please end them: {stubborn}")
    record_path.unlink(missing_ok=True)
    return names


class Part:
    """One startable member of the stack: blocking core, async surface.

    A subclass implements `_start` (returns when the part serves) and names its stop signal. The
    lock makes start, stop and kill of one part exclude each other.
    """

    stop_signal: int = signal.SIGTERM
    stop_timeout_seconds: float = 15

    def __init__(self, name: str, supervisor: Supervisor, folder: Path) -> None:
        self.name = name
        self.folder = folder
        self.log = folder.parent / "logs" / f"{name}.log"
        self._supervisor = supervisor
        self._child: Child | None = None
        self._part_lock = threading.RLock()

    @property
    def pid(self) -> int | None:
        return self._child.pid if self._child is not None and self._child.running else None

    @property
    def running(self) -> bool:
        return self.pid is not None

    def _start(self) -> None:
        raise NotImplementedError

    def _wait_until(self, ready: Callable[[], bool], timeout: float) -> None:
        """Poll `ready` while the child lives; `StackError` with its log when it dies or is late."""
        assert self._child is not None
        deadline = time.monotonic() + timeout
        while True:
            if not self._child.running:
                raise StackError(
                    f"{self.name} ended with {self._child.code} while starting, see {self.log}:\n"
                    f"{self._child.log_tail()}"
                )
            if ready():
                return
            if time.monotonic() > deadline:
                raise StackError(f"{self.name} is not ready after {timeout} s, see {self.log}")
            time.sleep(0.02)

    def start_blocking(self) -> None:
        """Start; nothing happens when it runs already."""
        with self._part_lock:
            if not self.running:
                self.folder.mkdir(parents=True, exist_ok=True)
                self.log.parent.mkdir(parents=True, exist_ok=True)
                self._start()

    def stop_blocking(self) -> None:
        """End in order, keeping all data."""
        with self._part_lock:
            if self._child is not None and self._child.running:
                self._supervisor.stop(self._child, self.stop_signal, self.stop_timeout_seconds)

    def kill_blocking(self) -> None:
        """SIGKILL, as a crash would do it."""
        with self._part_lock:
            if self._child is not None and self._child.running:
                self._supervisor.stop(self._child, signal.SIGKILL)

    def restart_blocking(self) -> None:
        with self._part_lock:
            self.stop_blocking()
            self.start_blocking()

    def pause_blocking(self) -> None:
        """SIGSTOP: it keeps its connections and answers nothing."""
        if self._child is not None:
            self._supervisor.send_signal(self._child, signal.SIGSTOP)

    def resume_blocking(self) -> None:
        if self._child is not None:
            self._supervisor.send_signal(self._child, signal.SIGCONT)

    async def start(self) -> None:
        await asyncio.to_thread(self.start_blocking)

    async def stop(self) -> None:
        await asyncio.to_thread(self.stop_blocking)

    async def kill(self) -> None:
        await asyncio.to_thread(self.kill_blocking)

    async def restart(self) -> None:
        await asyncio.to_thread(self.restart_blocking)

    async def pause(self) -> None:
        await asyncio.to_thread(self.pause_blocking)

    async def resume(self) -> None:
        await asyncio.to_thread(self.resume_blocking)
