"""What `orchestrator doctor` says of `STATE_DIR`: could a role of this user keep states there?"""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from orchestrator.commands.findings import Check, State
from orchestrator.errors import ArchiveUnavailable

LITTLE_BYTES = 256 * 2**20
SUBJECT = "STATE_DIR"
REMEDY = "give it to the user of the roles alone (chown, chmod go-w), or set none: they replay then"


def state_folder(folder: Path, prefix: str) -> Check:
    """A file is written and taken away again where the folder is there already; a folder that is
    not is not made, only the one above it looked at."""
    from orchestrator.adapters.state_folder import checked_folder

    if not folder.exists():
        return _of_missing(folder)
    try:
        with tempfile.TemporaryFile(dir=folder) as probe:
            probe.write(bytes(65536))
            probe.flush()
            os.fsync(probe.fileno())
        for found in sorted(folder.glob(f"{prefix}-*")):
            checked_folder(found)
        free = shutil.disk_usage(folder).free
    except (OSError, ArchiveUnavailable) as error:
        return Check(SUBJECT, State.BROKEN, f"{folder} cannot be used: {error}", REMEDY)
    detail = f"{folder} can be written; {free / 2**30:.1f} GiB are free"
    if free < LITTLE_BYTES:
        remedy = "make room: what cannot be put away stays in memory"
        return Check(SUBJECT, State.WARNING, detail, remedy)
    return Check(SUBJECT, State.WELL, detail)


def _of_missing(folder: Path) -> Check:
    above = next(found for found in folder.absolute().parents if found.exists())
    if above.is_dir() and os.access(above, os.W_OK | os.X_OK):
        return Check(SUBJECT, State.WELL, f"{folder} is made when a role first needs it")
    return Check(SUBJECT, State.BROKEN, f"{folder} is missing, {above} cannot be written", REMEDY)
