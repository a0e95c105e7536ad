"""The process that owns every child of an embedded stack, so that none outlives the stack.

Run as a script by `processes.Supervisor`, with the standard library only (`python -I -S`), so that
it starts in milliseconds and imports nothing of the project.

Why a process of its own: the stack's Python may die in any way, even by kill -9, and may have
threads, in which a fork is unsafe. This process has one thread, forks, and reads commands from a
pipe. When the pipe ends, its parent is gone: it stops all children and exits. On Linux the
children also carry PR_SET_PDEATHSIG, so a kill -9 of this process leaves none behind either.
PR_SET_PDEATHSIG follows the *thread* that forked, which is why the stack does not fork itself.

Protocol, one JSON object a line. Commands on stdin:
    {"op": "start", "id", "name", "argv", "env", "cwd", "log", "user": null|"namespace"|"nobody"}
    {"op": "signal", "id", "signal"}
Events on stdout:
    {"event": "started", "id", "pid"}, {"event": "failed", "id", "error"},
    {"event": "exited", "id", "code"}  (code < 0: killed by that signal, as in `subprocess`)
"""

from __future__ import annotations

import ctypes
import json
import os
import pwd
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any

GRACE_SECONDS = 8.0
"""After the parent died: how long children may take to end in order before SIGKILL."""

_PR_SET_PDEATHSIG = 1
_CLONE_NEWUSER = 0x10000000


def process_start_time(pid: int) -> str | None:
    """When the process started, as an opaque text; None when there is no such process.

    A pid alone names nobody: pids are reused. Pid and start time together do. Linux counts in
    clock ticks since boot (proc(5), field 22); elsewhere `ps` tells it to the second.
    """
    if sys.platform == "linux":
        try:
            stat = Path(f"/proc/{pid}/stat").read_text()
        except OSError:
            return None
        fields = stat.rpartition(")")[2].split()
        return None if fields[0] in ("Z", "X") else fields[19]
    with os.popen(f"ps -o state=,lstart= -p {int(pid)}") as answer:
        text = answer.read().strip()
    return None if not text or text.startswith("Z") else text.partition(" ")[2].strip()


def _die_with(parent_pid: int) -> None:
    """Ask the kernel for SIGKILL when the parent dies; Linux only, elsewhere nothing."""
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent_pid:
        os._exit(1)


def _enter_namespace() -> None:
    """Root stops being uid 0 without a helper user and without changing any file's owner.

    A new user namespace maps root to `nobody`: PostgreSQL, which refuses to run as uid 0, then
    sees another uid, while files of root are still its own. Some containers forbid it.
    """
    nobody = pwd.getpwnam("nobody")
    library = ctypes.CDLL(None, use_errno=True)
    if library.unshare(_CLONE_NEWUSER) != 0:
        raise OSError(ctypes.get_errno(), "unshare(CLONE_NEWUSER)")
    Path("/proc/self/uid_map").write_text(f"{nobody.pw_uid} 0 1")
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/gid_map").write_text(f"{nobody.pw_gid} 0 1")


def _become_nobody() -> None:
    nobody = pwd.getpwnam("nobody")
    os.setgroups([])
    os.setgid(nobody.pw_gid)
    os.setuid(nobody.pw_uid)


def _spawn(command: dict[str, Any]) -> int:
    """Fork and execute; raises OSError with the child's own error when that fails."""
    read_end, write_end = os.pipe()
    parent_pid = os.getpid()
    pid = os.fork()
    if pid:
        os.close(write_end)
        with os.fdopen(read_end, "rb") as pipe:
            error = pipe.read().decode()
        if error:
            os.waitpid(pid, 0)
            raise OSError(error)
        return pid
    try:
        os.close(read_end)
        os.setsid()
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGPIPE):
            signal.signal(number, signal.SIG_DFL)
        log = os.open(command["log"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(log, 1)
        os.dup2(log, 2)
        os.chdir(command["cwd"])
        if command.get("user") == "namespace":
            _enter_namespace()
        elif command.get("user") == "nobody":
            _become_nobody()
        _die_with(parent_pid)
        os.execvpe(command["argv"][0], command["argv"], command["env"])
    except BaseException as error:  # noqa: BLE001 - told to the parent, then the fork ends
        os.write(write_end, f"{type(error).__name__}: {error}".encode())
    os._exit(127)


class _Children:
    """Who runs, and the file that tells the next start about it should this process vanish."""

    def __init__(self, record_path: Path) -> None:
        self.record_path = record_path
        self.pids: dict[str, int] = {}
        self.names: dict[str, str] = {}
        self.record()

    def record(self) -> None:
        """Write pid, start time and name of this process and every child, atomically."""
        rows: list[dict[str, Any]] = [{"name": "supervisor", "pid": os.getpid()}]
        rows += [{"name": self.names[key], "pid": pid} for key, pid in self.pids.items()]
        for row in rows:
            row["start_time"] = process_start_time(row["pid"]) or ""
        partial = self.record_path.with_suffix(".partial")
        partial.write_text(json.dumps(rows))
        partial.replace(self.record_path)

    def signal(self, identity: str, number: int) -> None:
        pid = self.pids.get(identity)
        if pid is None:
            return
        try:
            os.killpg(pid, number)
        except (ProcessLookupError, PermissionError):
            os.kill(pid, number)

    def reap(self) -> list[tuple[str, int]]:
        """Those that ended since the last call, with their codes."""
        ended = []
        for identity, pid in list(self.pids.items()):
            done, status = os.waitpid(pid, os.WNOHANG)
            if done:
                del self.pids[identity]
                ended.append((identity, os.waitstatus_to_exitcode(status)))
        if ended:
            self.record()
        return ended

    def stop_all(self) -> None:
        """SIGTERM, then SIGKILL for who is left after `GRACE_SECONDS`."""
        for identity in list(self.pids):
            self.signal(identity, signal.SIGTERM)
        deadline = time.monotonic() + GRACE_SECONDS
        while self.pids and time.monotonic() < deadline:
            self.reap()
            time.sleep(0.02)
        for identity in list(self.pids):
            self.signal(identity, signal.SIGKILL)
        while self.pids:
            self.reap()
            time.sleep(0.02)


def _handle(command: dict[str, Any], children: _Children) -> dict[str, Any] | None:
    identity = command["id"]
    if command["op"] == "signal":
        children.signal(identity, command["signal"])
        return None
    try:
        pid = _spawn(command)
    except OSError as error:
        return {"event": "failed", "id": identity, "error": str(error)}
    children.pids[identity] = pid
    children.names[identity] = command["name"]
    children.record()
    return {"event": "started", "id": identity, "pid": pid}


def main(record_path: str) -> None:
    """Serve commands until stdin ends or SIGTERM comes; then leave no child behind."""
    parent_pid = os.getppid()
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    wake_read, wake_write = os.pipe()
    os.set_blocking(wake_write, False)
    signal.set_wakeup_fd(wake_write, warn_on_full_buffer=False)
    stopping: list[int] = []
    signal.signal(signal.SIGCHLD, lambda _number, _frame: None)
    signal.signal(signal.SIGTERM, lambda number, _frame: stopping.append(number))
    children = _Children(Path(record_path))
    buffer = b""

    def emit(event: dict[str, Any]) -> None:
        try:
            os.write(1, json.dumps(event).encode() + b"\n")
        except OSError:
            stopping.append(0)

    while not stopping and os.getppid() == parent_pid:
        ready, _, _ = select.select([0, wake_read], [], [], 0.5)
        if wake_read in ready:
            os.read(wake_read, 4096)
        if 0 in ready:
            chunk = os.read(0, 65536)
            if not chunk:
                break
            *lines, buffer = (buffer + chunk).split(b"\n")
            for line in lines:
                answer = _handle(json.loads(line), children)
                if answer is not None:
                    emit(answer)
        for identity, code in children.reap():
            emit({"event": "exited", "id": identity, "code": code})
    children.stop_all()
    children.record_path.unlink(missing_ok=True)


if __name__ == "__main__":
    main(sys.argv[1])
