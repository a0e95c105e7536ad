"""The project's own files: tracked, or new and not ignored."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent


@cache
def files() -> tuple[Path, ...]:
    """Relative to the root, in order."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, check=True).stdout
    paths = {Path(name) for name in listed.decode().split("\0") if name}
    return tuple(sorted(path for path in paths if (ROOT / path).is_file()))


def python_files() -> list[Path]:
    return [path for path in files() if path.suffix == ".py"]


def text_of(path: Path) -> str | None:
    """None for what is no text."""
    try:
        return (ROOT / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None
