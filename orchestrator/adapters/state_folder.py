"""The folder and the files in which a role keeps states: for this user alone, and for one process.

Whoever could write there could put states of requests under this service, so a folder that others
may write to is refused, and so is a file that belongs to somebody else.
"""

from __future__ import annotations

import fcntl
import os
import stat
from pathlib import Path

from orchestrator.errors import ArchiveUnavailable


def usable_folder(folder: Path) -> None:
    """Make the folder, for this user alone. Raises ArchiveUnavailable for one in which somebody
    else could put states of requests."""
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ArchiveUnavailable(f"{folder}: {error.strerror}") from None
    checked_folder(folder)


def checked_folder(folder: Path) -> None:
    """As `usable_folder`, of one that is there."""
    try:
        found = folder.stat()
    except OSError as error:
        raise ArchiveUnavailable(f"{folder}: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise ArchiveUnavailable(f"{folder} is no folder")
    if found.st_uid != os.geteuid():
        raise ArchiveUnavailable(f"{folder} belongs to another user")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise ArchiveUnavailable(f"{folder} can be written by others; chmod go-w")


def private_file(path: Path) -> int:
    """A descriptor of this file, made if it was missing, that nobody else may read or write; to be
    closed by the caller. Raises ArchiveUnavailable."""
    try:
        found = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise ArchiveUnavailable(f"{path}: {error.strerror}") from None
    try:
        about = os.fstat(found)
        if not stat.S_ISREG(about.st_mode) or about.st_uid != os.geteuid():
            raise ArchiveUnavailable(f"{path} is no file of this user's")
        if stat.S_IMODE(about.st_mode) != 0o600:
            os.fchmod(found, 0o600)
    except OSError as error:
        os.close(found)
        raise ArchiveUnavailable(f"{path}: {error.strerror}") from None
    except ArchiveUnavailable:
        os.close(found)
        raise
    return found


def locked(path: Path) -> int:
    """The lock beside this file, held until the descriptor is closed or the process ends, however
    it does. Raises ArchiveUnavailable when another process has it."""
    found = private_file(path.with_name(f"{path.name}.lock"))
    try:
        fcntl.flock(found, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(found)
        taken = isinstance(error, BlockingIOError)
        why = f"another process holds {path}" if taken else f"{path}: {error.strerror}"
        raise ArchiveUnavailable(why) from None
    return found
