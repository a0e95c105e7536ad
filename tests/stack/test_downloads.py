"""The cache of downloads survives interruptions, damage and two starts at once. No network."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from orchestrator.dev.downloads import KAFKA_LOCK_FILE, PACKAGE_FOLDER, cache_folder, install_once

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ORCHESTRATOR_CACHE_DIR", str(tmp_path / "cache"))
    return cache_folder()


def _quiet(_text: str) -> None:
    pass


def test_an_entry_is_built_once_and_again_when_damaged() -> None:
    builds = []

    def build(folder: Path) -> None:
        builds.append(folder)
        (folder / "file").write_text("content")

    entry = install_once("thing", "1", build, _quiet)
    assert install_once("thing", "1", build, _quiet) == entry
    assert len(builds) == 1
    (entry / "file").write_text("con")
    assert install_once("thing", "1", build, _quiet) == entry
    assert (entry / "file").read_text() == "content"
    assert install_once("thing", "2", build, _quiet) != entry
    assert len(builds) == 3


def test_a_failed_build_leaves_nothing(cache: Path) -> None:
    def build(folder: Path) -> None:
        (folder / "half").write_text("x")
        raise OSError("no network")

    with pytest.raises(OSError, match="no network"):
        install_once("thing", "1", build, _quiet)
    assert [path.suffix for path in cache.iterdir()] == [".lock"]


def test_an_interrupted_build_is_cleaned_up(cache: Path) -> None:
    entry = install_once("thing", "1", lambda folder: None, _quiet)
    abandoned = cache / f"{entry.name}.abc.partial"
    abandoned.mkdir()
    (entry / ".complete").unlink()
    install_once("thing", "1", lambda folder: None, _quiet)
    assert not abandoned.exists()


def test_two_processes_build_once(cache: Path) -> None:
    script = """
import sys, time
from orchestrator.dev.downloads import install_once
def build(folder):
    print("built", flush=True)
    time.sleep(0.5)
    (folder / "file").write_text("content")
entry = install_once("thing", "1", build, lambda text: None)
assert (entry / "file").read_text() == "content"
"""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script], env=environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(3)
    ]
    outputs = [process.communicate(timeout=30)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert "".join(outputs).count("built") == 1


def test_locks_are_pinned_and_name_no_registry() -> None:
    lines = [line for line in KAFKA_LOCK_FILE.read_text().splitlines() if line[0] != "#"]
    assert len(lines) == 46
    assert all(len(line.rpartition(" sha256:")[2]) == 64 for line in lines)
    for folder in (PACKAGE_FOLDER, ROOT / "contracts"):
        lock = (folder / "package-lock.json").read_text()
        assert '"resolved"' not in lock
        assert '"integrity"' in lock
