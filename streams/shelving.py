"""Books with an archive on disk, as `STATE_DIR` asks for: where each partition's file is, and what
it must be of to be taken."""

from __future__ import annotations

from pathlib import Path

import structlog

from orchestrator.adapters.kafka_log import KafkaLog
from orchestrator.adapters.sqlite_archive import Fold, SqliteArchive
from orchestrator.config import Config
from orchestrator.core.owing import at_rest
from orchestrator.errors import LogUnavailable
from schemas.topics import REQUESTS
from streams import packing
from streams.books import Book
from streams.retrying import Backoff

log = structlog.get_logger(__name__)


def folder_of(config: Config, role: str) -> Path | None:
    """Where a role keeps its requests at rest; None where it keeps none."""
    if config.settings.state_dir is None:
        return None
    return Path(config.settings.state_dir) / f"{config.settings.kafka_prefix}-{role}"


async def shelved(config: Config, role: str, reader: KafkaLog) -> Book:
    """With `STATE_DIR`, what is at rest is found again by the next process of this role."""
    folder = folder_of(config, role)
    if folder is None:
        return Book(reader)
    if packing.VERSION is None:
        log.warning("STATE_DIR is not used: this code has no sources to tell its version by")
        return Book(reader)
    cluster = await _cluster(reader)
    fold = Fold(packing.packed, packing.unpacked, packing.approval_in, at_rest, packing.VERSION)

    def archive(partition: int) -> SqliteArchive:
        name = f"{REQUESTS.name}-{partition}"
        return SqliteArchive(folder / f"{name}.sqlite", fold, f"{name} of {role} on {cluster}")

    return Book(reader, archive)


async def _cluster(reader: KafkaLog) -> str:
    backoff = Backoff()
    while True:
        try:
            return await reader.cluster()
        except LogUnavailable as error:
            log.warning("waiting for Kafka", reason=str(error))
            await backoff.sleep()
