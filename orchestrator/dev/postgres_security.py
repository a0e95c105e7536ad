"""A PostgreSQL that speaks TLS to everybody: the server's own, no proxy before it.

The server in the wheel was built without TLS; `binaries` is the folder of one that has it.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path

RULES = """\
hostssl all all 127.0.0.1/32 scram-sha-256
hostssl all all ::1/128 scram-sha-256
"""
"""Whoever asks for no TLS finds no rule, and is turned away."""


@dataclass(frozen=True, slots=True)
class PostgresSecurity:
    """`certificate` and `key` are the server's, PEM."""

    binaries: Path
    certificate: Path
    key: Path

    def install(self, folder: Path, data: Path) -> dict[str, str]:
        """Files that the server's user owns and nobody else reads; the settings that name them."""
        settings = {"ssl": "on", "ssl_min_protocol_version": "TLSv1.2"}
        owner = data.stat()
        for name, source in (("ssl_cert_file", self.certificate), ("ssl_key_file", self.key)):
            own = folder / f"server-{source.name}"
            shutil.copyfile(source, own)
            own.chmod(0o600)
            shutil.chown(own, owner.st_uid, owner.st_gid)
            settings[name] = str(own)
        (data / "pg_hba.conf").write_text(RULES)
        return settings
