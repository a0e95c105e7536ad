"""Seals in a file: a line each, appended and synced, never changed.

A file on the machine of the log is a weak anchor: keep it elsewhere, or copy it. What stands behind
the last end of line was cut off by a kill and is no seal; the next append takes its place.
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from orchestrator.core.sealing.seals import UnreadableSeal, read_seal
from orchestrator.errors import AnchorUnavailable, SealRefused

_DAY = re.compile(rb'\{"day":"(\d{4}-\d{2}-\d{2})",')


class FileAnchor:
    """`ports.SealAnchor` on one file, locked by readers and writers: none sees half a line."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self.name = f"file:{path}"

    async def days(self) -> list[str]:
        return sorted(self._by_day(await self.everything()))

    async def read(self, day: str) -> bytes | None:
        return self._by_day(await self.everything()).get(day)

    async def newest(self) -> tuple[str, bytes] | None:
        return max(await asyncio.to_thread(self._dated), default=None)

    async def everything(self) -> list[tuple[str, bytes]]:
        return await asyncio.to_thread(self._lines)

    async def put(self, day: str, document: bytes) -> bytes:
        return await asyncio.to_thread(self._put, day, document)

    async def close(self) -> None:
        pass

    def _by_day(self, lines: list[tuple[str, bytes]]) -> dict[str, bytes]:
        found: dict[str, bytes] = {}
        for place, line in lines:
            try:
                found.setdefault(read_seal(line).day, line)
            except UnreadableSeal as error:
                raise SealRefused(f"{self.name}, {place}: {error}") from None
        return found

    def _dated(self) -> list[tuple[str, bytes]]:
        """Each line with its day, which is the first thing in a seal's one form."""
        dated = []
        for place, line in self._lines():
            found = _DAY.match(line)
            if found is None:
                raise SealRefused(f"{self.name}, {place}: not a seal")
            dated.append((found[1].decode(), line))
        return dated

    def _lines(self) -> list[tuple[str, bytes]]:
        if not self._path.exists():
            return []
        with self._locked(os.O_RDONLY, fcntl.LOCK_SH) as file:
            return _numbered(_content(file))

    def _put(self, day: str, document: bytes) -> bytes:
        with self._locked(os.O_RDWR | os.O_CREAT | os.O_APPEND, fcntl.LOCK_EX) as file:
            content = _content(file)
            held = self._by_day(_numbered(content)).get(day)
            if held is not None:
                return held
            whole = content.rfind(b"\n") + 1
            if whole < len(content):
                os.ftruncate(file, whole)
            try:
                _append(file, document + b"\n")
                os.fsync(file)
            except OSError:
                os.ftruncate(file, whole)
                raise
        return document

    @contextmanager
    def _locked(self, flags: int, lock: int) -> Iterator[int]:
        """Raises AnchorUnavailable. Closing it lets go of the lock."""
        try:
            file = os.open(self._path, flags, 0o644)
            try:
                fcntl.flock(file, lock)
                yield file
            finally:
                os.close(file)
            if flags & os.O_CREAT:
                _sync_folder(self._path)
        except OSError as error:
            raise AnchorUnavailable(f"{self.name}: {error.strerror}") from None


def _content(file: int) -> bytes:
    parts = []
    os.lseek(file, 0, os.SEEK_SET)
    while part := os.read(file, 1 << 20):
        parts.append(part)
    return b"".join(parts)


def _numbered(content: bytes) -> list[tuple[str, bytes]]:
    lines = content.split(b"\n")[:-1]
    return [(f"line {number}", line) for number, line in enumerate(lines, 1)]


def _append(file: int, content: bytes) -> None:
    while content:
        content = content[os.write(file, content) :]


def _sync_folder(path: Path) -> None:
    """So that the file's name outlives a loss of power too."""
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
