"""The log as a file, and back: every committed record at the very offset that it had.

Offsets matter: facts name the positions of other facts, cursors and projections count in them. A
log has holes where transactions ended (a marker takes one offset) or were given up (their records
are there, and invisible). They are made again: one hole by committing the record before it in a
transaction of its own, more than one by a transaction of fillers that is aborted.

A file is gzip-compressed lines of JSON: a header (format, version, each topic's ends), a line a
record, a footer with their count and the sha256 of their lines.
"""

from __future__ import annotations

import asyncio
import base64
import gzip
import hashlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, ConsumerRecord, TopicPartition
from aiokafka.errors import KafkaError

from orchestrator.adapters.kafka_restoring import Restoring
from orchestrator.closing import closed
from orchestrator.errors import LogUnavailable, OrchestratorError
from orchestrator.kafka_access import KafkaAccess
from schemas.topics import TOPICS

FORMAT = "stablecoin-orchestrator-log"
VERSION = 1
TOLD_EVERY = 1000

Progress = Callable[[int, int], object]
"""Called with how many records are done, and how many offsets there are in all (holes included)."""


class ArchiveRefused(OrchestratorError):
    """The file, or the log that it should go to, is not fit for it; says why and what to do."""


def _text(value: bytes | None) -> Any:
    """Text where it is text, else base64 in an object."""
    if value is None:
        return None
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}


def record_bytes(value: Any) -> bytes | None:
    if isinstance(value, dict):
        return base64.b64decode(value["base64"])
    return None if value is None else str(value).encode()


def _line(record: ConsumerRecord) -> bytes:
    body = {
        "topic": record.topic,
        "partition": record.partition,
        "offset": record.offset,
        "timestamp_ms": record.timestamp,
        "key": _text(record.key),
        "headers": [[name, _text(value)] for name, value in record.headers],
        "value": _text(record.value),
    }
    return orjson.dumps(body) + b"\n"


async def _opened(kafka: KafkaAccess) -> AIOKafkaConsumer:
    consumer = kafka.consumer(
        client_id="orchestrator-archive",
        isolation_level="read_committed",
        enable_auto_commit=False,
        auto_offset_reset="none",
        max_partition_fetch_bytes=4 * 1024 * 1024,
    )
    try:
        await consumer.start()
    except KafkaError as error:
        await closed(consumer.stop())
        raise LogUnavailable(f"cannot reach Kafka: {error!r}") from error
    return consumer


async def _lines(
    consumer: AIOKafkaConsumer, ends: dict[TopicPartition, int]
) -> Any:  # an async generator of (partition, line)
    """Every committed record below `ends`, in order within each partition."""
    unfinished = {seat for seat, end in ends.items() if end > 0}
    consumer.assign(list(unfinished))
    for seat in unfinished:
        consumer.seek(seat, 0)
    while unfinished:
        found = await consumer.getmany(*unfinished, timeout_ms=200, max_records=5000)
        for seat, records in found.items():
            for record in records:
                if record.offset < ends[seat]:
                    yield seat, record.offset, _line(record)
        for seat in list(unfinished):
            if await consumer.position(seat) >= ends[seat]:
                unfinished.discard(seat)
                consumer.pause(seat)


def _seats() -> list[TopicPartition]:
    return [TopicPartition(t.name, n) for t in TOPICS.values() for n in range(t.partitions)]


async def export_log(kafka: KafkaAccess, file: Path, progress: Progress) -> dict[str, Any]:
    """Write the archive; it takes its name when it is whole. Raises LogUnavailable, OSError."""
    consumer = await _opened(kafka)
    partial = file.with_name(file.name + ".partial")
    digest, count = hashlib.sha256(), 0
    try:
        ends = await consumer.end_offsets(_seats())
        header = {
            "format": FORMAT,
            "version": VERSION,
            "topics": {
                name: [ends[TopicPartition(name, n)] for n in range(topic.partitions)]
                for name, topic in TOPICS.items()
            },
        }
        with gzip.open(partial, "wb", compresslevel=6) as out:
            out.write(orjson.dumps(header) + b"\n")
            async for _, _, line in _lines(consumer, ends):
                out.write(line)
                digest.update(line)
                count += 1
                if count % TOLD_EVERY == 0:
                    progress(count, sum(ends.values()))
            footer = {"records": count, "sha256": digest.hexdigest()}
            out.write(orjson.dumps(footer) + b"\n")
        partial.rename(file)
        progress(count, count)
        return footer
    except KafkaError as error:
        raise LogUnavailable(f"exporting: {error!r}") from error
    finally:
        partial.unlink(missing_ok=True)
        await closed(consumer.stop())


def read_archive(file: Path) -> Iterator[tuple[dict[str, Any], bytes]]:
    """The header, then every record with its line; the footer is checked. Raises ArchiveRefused."""
    digest, count = hashlib.sha256(), 0
    try:
        with gzip.open(file, "rb") as lines:
            header = orjson.loads(next(lines, b""))
            if header.get("format") != FORMAT or header.get("version") != VERSION:
                raise ArchiveRefused(f"{file}: not an archive of this service in version {VERSION}")
            yield header, b""
            for line in lines:
                body = orjson.loads(line)
                if "topic" not in body:
                    found = {"records": count, "sha256": digest.hexdigest()}
                    if body != found:
                        raise ArchiveRefused(f"{file}: damaged: holds {found}, promises {body}")
                    return
                digest.update(line)
                count += 1
                yield body, line
    except (OSError, EOFError, ValueError, AttributeError) as error:
        raise ArchiveRefused(f"{file}: cannot be read: {error}") from None
    raise ArchiveRefused(f"{file}: cut off: it has no footer")


def _checked(file: Path) -> tuple[dict[TopicPartition, int], int]:
    """The ends of every partition and the count of records, once the whole file was read."""
    records = read_archive(file)
    header, _ = next(records)
    known = {name: topic.partitions for name, topic in TOPICS.items()}
    found = {name: len(ends) for name, ends in header["topics"].items()}
    if found != known:
        raise ArchiveRefused(
            f"{file}: its topics and partitions are {found}, here they are {known}"
        )
    ends = {
        TopicPartition(name, number): end
        for name, numbers in header["topics"].items()
        for number, end in enumerate(numbers)
    }
    return ends, sum(1 for _ in records)


async def import_log(kafka: KafkaAccess, file: Path, progress: Progress) -> None:
    """Restore the archive into empty topics. Raises ArchiveRefused, LogUnavailable.

    A restoration that broke off leaves topics that are not empty: make them anew and start again.
    """
    ends, total = await asyncio.to_thread(_checked, file)
    consumer = await _opened(kafka)
    try:
        held = {seat: end for seat, end in (await consumer.end_offsets(_seats())).items() if end}
    except KafkaError as error:
        raise LogUnavailable(f"importing: {error!r}") from error
    finally:
        await closed(consumer.stop())
    if held:
        seat, end = next(iter(held.items()))
        raise ArchiveRefused(
            f"the log is not empty: {seat.topic}/{seat.partition} ends at {end}. Restore into "
            "a cluster without these topics"
        )
    records = read_archive(file)
    next(records)
    async with Restoring(kafka, ends) as restoring:
        for count, (body, _) in enumerate(records, 1):
            await restoring.put(
                TopicPartition(body["topic"], body["partition"]),
                body["offset"],
                {
                    "key": record_bytes(body["key"]),
                    "value": record_bytes(body["value"]),
                    "headers": [
                        (name, record_bytes(value) or b"") for name, value in body["headers"]
                    ],
                    "timestamp_ms": body["timestamp_ms"],
                },
            )
            if count % TOLD_EVERY == 0:
                progress(count, total)
    progress(total, total)


async def verify_log(kafka: KafkaAccess, file: Path, progress: Progress) -> dict[str, Any]:
    """Compare the archive with the log up to the archive's ends, byte for byte.

    Answers `records`, `differences` and `first`, which names the first difference or is None.
    """
    ends, total = await asyncio.to_thread(_checked, file)
    wanted: dict[TopicPartition, dict[int, bytes]] = {}
    records = read_archive(file)
    next(records)
    for body, line in records:
        seat = TopicPartition(body["topic"], body["partition"])
        wanted.setdefault(seat, {})[body["offset"]] = hashlib.sha256(line).digest()
    problems: list[str] = []
    consumer = await _opened(kafka)
    try:
        now = await consumer.end_offsets(_seats())
        for seat, end in ends.items():
            if now[seat] < end:
                problems.append(f"{seat.topic}/{seat.partition} ends at {now[seat]}, not at {end}")
        count = 0
        upto = {seat: min(end, now[seat]) for seat, end in ends.items()}
        async for seat, offset, line in _lines(consumer, upto):
            digest = wanted.get(seat, {}).pop(offset, None)
            if digest != hashlib.sha256(line).digest():
                what = "is not in the archive" if digest is None else "is another one"
                problems.append(f"{seat.topic}/{seat.partition}/{offset} {what}")
            count += 1
            if count % TOLD_EVERY == 0:
                progress(count, total)
    except KafkaError as error:
        raise LogUnavailable(f"verifying: {error!r}") from error
    finally:
        await closed(consumer.stop())
    problems += [
        f"{seat.topic}/{seat.partition}/{offset} is missing"
        for seat, left in wanted.items()
        for offset in sorted(left)
    ]
    progress(total, total)
    first = problems[0] if problems else None
    return {"records": total, "differences": len(problems), "first": first}
