"""Each kind of tampering, planted in a live log, an archive and an anchor, is found and named."""

from __future__ import annotations

import base64
import gzip
import json
from pathlib import Path

import pytest
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from aiokafka.structs import TopicPartition
from cryptography.hazmat.primitives.asymmetric import ec

from orchestrator.core.sealing.seals import read_seal
from tests.core import outsider
from tests.core.test_sealing import signed
from tests.sealing.conftest import BUSY, DAYS, UNTIL, World, make_key


def busy(records: list[dict]) -> list[dict]:
    """The records of the partition that is tampered with, by offset."""
    return sorted(
        (r for r in records if (r["topic"], r["partition"]) == BUSY), key=lambda r: r["offset"]
    )


def one_byte(records: list[dict]) -> None:
    record = busy(records)[9]
    assert record["value"] == '{"n":2}'
    record["value"] = '{"n":3}'


def one_time(records: list[dict]) -> None:
    busy(records)[9]["timestamp_ms"] += 1


def one_header(records: list[dict]) -> None:
    busy(records)[9]["headers"] = [["kind", "M"]]


def one_fewer(records: list[dict]) -> None:
    records.remove(busy(records)[9])


def one_more(records: list[dict]) -> None:
    """Where a transaction that was given up had left a hole."""
    mine = busy(records)
    offsets = {r["offset"] for r in mine}
    free = next(n for n in range(mine[9]["offset"], 99) if n not in offsets)
    records.append({**mine[9], "offset": free})


def exchanged(records: list[dict]) -> None:
    one, other = busy(records)[8:10]
    one["offset"], other["offset"] = other["offset"], one["offset"]


@pytest.mark.parametrize(
    "change",
    [one_byte, one_time, one_header, one_fewer, one_more, exchanged],
    ids=lambda f: f.__name__,
)
async def test_a_restored_log_that_was_tampered_with(world: World, tmp_path: Path, change):
    archive = world.tampered(tmp_path / "log.gz", change)
    seal = read_seal(world.seals.read_bytes().splitlines()[1])
    sealed = next(item for item in seal.partitions if item.seat == BUSY)
    by_archive = await world.verify("--archive", str(archive))
    await world.restore(archive)
    live = await world.verify(servers=world.target)
    for code, told in (by_archive, live):
        assert code == 1
        assert told["differences"] == 1, told
        first = told["first"]
        assert (first["kind"], first["day"]) == ("CHANGED", DAYS[1])
        assert (first["topic"], first["partition"]) == BUSY
        assert (first["start"], first["end"]) == (sealed.start, sealed.end)


async def test_an_untouched_log_verifies_live_restored_and_from_the_archive(world: World):
    await world.restore(world.archive)
    for options in ({}, {"servers": world.target}):
        code, told = await world.verify(**options)
        assert (code, told["same"], told["days"], told["records"]) == (0, True, 3, 34)
    code, told = await world.verify("--archive", str(world.archive))
    assert (code, told["records"]) == (0, 34)


async def test_an_outsider_comes_to_the_sealed_roots_from_the_archive(world: World):
    rows = [json.loads(line) for line in gzip.decompress(world.archive.read_bytes()).splitlines()]
    raw = lambda v: base64.b64decode(v["base64"]) if isinstance(v, dict) else v  # noqa: E731
    records = [
        (
            row["topic"],
            row["partition"],
            row["offset"],
            row["timestamp_ms"],
            raw(row["key"]),
            raw(row["value"]),
            [(name, raw(value)) for name, value in row["headers"]],
        )
        for row in rows[1:-1]
    ]
    assert len(records) == 34
    for line in world.seals.read_bytes().splitlines():
        seal = json.loads(line)
        assert outsider.root(records, seal["partitions"]) == seal["root"]


async def test_a_truncated_log(world: World, tmp_path: Path):
    def cut(records: list[dict]) -> None:
        for record in busy(records)[11:]:
            records.remove(record)

    lines = gzip.decompress(world.archive.read_bytes()).splitlines()[1:-1]
    last = busy([json.loads(line) for line in lines])[10]["offset"] + 1
    archive = world.tampered(tmp_path / "log.gz", cut, {BUSY: last})
    await world.restore(archive)
    for arguments, options in (
        (("--archive", str(archive)), {}),
        ((), {"servers": world.target}),
    ):
        code, told = await world.verify(*arguments, **options)
        assert (code, told["differences"]) == (1, 1)
        assert (told["first"]["kind"], told["first"]["day"]) == ("SHORTER", DAYS[1])
    sealing = await world.run("seal", "--day", "2026-01-04", servers=world.target)
    assert sealing.exit_code == 1
    assert "was sealed up to" in sealing.stderr
    assert len(world.seals.read_bytes().splitlines()) == 3


async def test_a_log_whose_beginning_was_deleted(world: World):
    await world.restore(world.archive)
    seals = [read_seal(line) for line in world.seals.read_bytes().splitlines()]
    middle = next(item for item in seals[1].partitions if item.seat == BUSY).start + 2
    admin = AIOKafkaAdminClient(bootstrap_servers=world.target)
    await admin.start()
    await admin.delete_records({TopicPartition(*BUSY): RecordsToDelete(middle)})
    await admin.close()
    code, told = await world.verify(servers=world.target)
    assert (code, told["differences"]) == (1, 1)
    assert (told["first"]["kind"], told["first"]["day"]) == ("DELETED", DAYS[0])
    code, told = await world.verify("--since", DAYS[2], servers=world.target)
    assert code == 0, told


async def test_an_anchor_that_was_tampered_with(world: World, tmp_path: Path):
    lines = world.seals.read_bytes().splitlines(keepends=True)
    second = read_seal(lines[1].rstrip())
    stranger = ec.generate_private_key(ec.SECP256R1())
    forged = signed(second.statement, second.partitions, stranger)
    resigned = b"".join(
        [lines[0], second.document().replace(_b64(second.signature), _b64(forged.signature)), b"\n"]
    )
    cases = {
        "changed": (lines[0], lines[1].replace(b'"records":7', b'"records":6', 1), lines[2]),
        "taken out": (lines[0], lines[2]),
        "taken off": lines[:2],
        "taken off the front": lines[1:],
        "by another key": (lines[0], forged.document() + b"\n", lines[2]),
        "signed anew": (resigned, lines[2]),
        "out of order": (lines[2], lines[0], lines[1]),
        "no seal": (lines[0], b"no\n", lines[2]),
        "twice": (*lines, lines[1]),
    }
    expected = {
        "changed": ["UNTRUSTED", "MISSING"],
        "taken out": ["MISSING"],
        "taken off": ["DISAGREEING"],
        "taken off the front": ["UNLINKED"],
        "by another key": ["UNTRUSTED", "MISSING"],
        "signed anew": ["UNTRUSTED", "MISSING"],
        "out of order": [],
        "no seal": ["UNREADABLE", "MISSING"],
        "twice": ["DISAGREEING"],
    }
    for name, content in cases.items():
        changed = tmp_path / f"{name}.jsonl"
        changed.write_bytes(b"".join(content))
        places = ["--seals", f"file:{changed}"]
        if name == "taken off":
            places += ["--seals", f"file:{world.seals}"]
        code, told = await world.verify(*places)
        assert code == (1 if expected[name] else 0), (name, told)
        assert sorted(f["kind"] for f in told["found"]) == sorted(expected[name]), (name, told)


def _b64(content: bytes) -> bytes:
    return base64.b64encode(content)


async def test_the_newest_seal_taken_off_the_only_anchor_is_a_missing_day(
    world: World, tmp_path: Path
):
    changed = tmp_path / "seals.jsonl"
    changed.write_bytes(b"".join(world.seals.read_bytes().splitlines(keepends=True)[:2]))
    result = await world.run("verify", "--chain", "--json", "--seals", f"file:{changed}")
    told = json.loads(result.stdout)
    assert result.exit_code == 1
    assert (told["first"]["kind"], told["first"]["day"]) == ("MISSING", DAYS[2])


async def test_what_cannot_be_told(world: World, tmp_path: Path):
    nothing = await world.run("verify", "--chain", *UNTIL, "--seals", f"file:{tmp_path}/none")
    assert nothing.exit_code == 2
    assert "nothing to compare with" in nothing.stderr
    damaged = tmp_path / "log.gz"
    damaged.write_bytes(world.archive.read_bytes()[:-20])
    code, told = await world.verify("--archive", str(damaged))
    assert (code, "cannot be read" in told["error"]) == (2, True)
    code, told = await world.verify(servers="127.0.0.1:9")
    assert (code, "Kafka" in told["error"]) == (2, True)
    code, told = await world.verify(AWS_ENDPOINT_URL_KMS="http://127.0.0.1:9")
    assert (code, "KMS" in told["error"]) == (2, True)
    code, told = await world.verify(SEAL_KMS_KEY_ID=None)
    assert (code, "no public key" in told["error"]) == (2, True)
    refused = await world.run("verify", "--since", DAYS[0])
    assert refused.exit_code == 2
    assert "need --chain" in refused.output


async def test_a_key_in_a_file_is_enough_and_another_is_not(world: World, stack, tmp_path: Path):
    pem = tmp_path / "seals.pem"
    assert (await world.run("seal", "key", "--out", str(pem))).exit_code == 0
    archived = ["--archive", str(world.archive), "--key", str(pem)]
    code, told = await world.verify(*archived, SEAL_KMS_KEY_ID=None, AWS_REGION=None)
    assert (code, told["same"]) == (0, True)
    other = await make_key(stack, "ECC_NIST_P256")
    refused = await world.verify(SEAL_KMS_KEY_ID=other)
    assert refused[0] == 2
    assert "none of those to trust" in refused[1]["error"]
    code, told = await world.verify(SEAL_KMS_KEY_ID=other, SEAL_PUBLIC_KEYS_FILE=str(pem))
    assert (code, told["same"]) == (0, True)
