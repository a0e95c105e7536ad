"""Sealing itself: once, resumed, killed, raced, refused; and which key it takes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from aiokafka import AIOKafkaProducer

from orchestrator.adapters.kafka_sealing import KafkaSealableLog
from orchestrator.adapters.kms_seal import KmsSealKey
from orchestrator.adapters.seal_file import FileAnchor
from orchestrator.adapters.seal_s3 import S3Anchor
from orchestrator.core.sealing.seals import NONE, read_seal
from orchestrator.dev.stack import REGION
from orchestrator.errors import LogUnavailable, SealRefused, SigningError, StartRefused
from orchestrator.kafka_access import KafkaAccess
from orchestrator.sealing.running import Done, NotYet, Sealing, newest_due
from tests.sealing.conftest import BUSY, DAYS, World, at, ended, make_key
from tests.sealing.s3_model import s3_model

NOON = at("2026-01-04", 12 * 3600) / 1000


@pytest.fixture(autouse=True)
def _credentials(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "embedded")


async def seal(world: World, stack, anchors, day=None, *, clock=lambda: NOON, key=None) -> Done:
    source = KafkaSealableLog(KafkaAccess(world.source))
    kms = key or KmsSealKey(
        world.environment["SEAL_KMS_KEY_ID"], REGION, endpoint_url=stack.kms.base_url
    )
    sealing = Sealing("orchestrator", source, kms, anchors, earlier_keys={}, clock=clock)
    try:
        return await sealing.run(day)
    finally:
        await kms.close()
        await source.close()


def file(folder: Path, name: str = "seals.jsonl") -> FileAnchor:
    return FileAnchor(folder / name)


async def held(anchor) -> list:
    return [read_seal(body) for _, body in await anchor.everything()]


async def test_the_seals_follow_each_other_and_read_a_day_each(world: World):
    seals = [read_seal(line) for line in world.seals.read_bytes().splitlines()]
    assert [s.day for s in seals] == list(DAYS)
    assert seals[0].statement.previous == NONE
    for before, after in pairwise(seals):
        assert after.statement.previous == before.statement.hash
    busy = [next(item for item in s.partitions if item.seat == BUSY) for s in seals]
    assert [item.records for item in busy] == [7, 7, 7]
    assert all(item.end - item.start > item.records for item in busy), "there are holes"


async def test_sealed_again_it_has_the_same_root_or_says_that_nothing_is_to_do(
    world: World, stack, tmp_path: Path
):
    stands = world.seals.read_bytes()
    again = await world.run("seal", "--day", DAYS[1], "--json")
    assert again.exit_code == 0
    told = json.loads(again.stdout)
    assert (told["sealed"], told["newest"]["day"]) == ([], DAYS[2])
    assert world.seals.read_bytes() == stands
    words = await world.run("seal", "--day", DAYS[1])
    assert f"nothing to seal: {DAYS[2]} is the newest seal" in words.stdout
    other = file(tmp_path)
    for day in DAYS:
        await seal(world, stack, [other], day)
    first = [read_seal(line) for line in stands.splitlines()]
    second = await held(other)
    assert [s.statement.root for s in first] == [s.statement.root for s in second]
    assert first != second, "signed anew"


async def test_days_that_were_missed_are_made_up_for(world: World, stack, tmp_path: Path):
    anchor = file(tmp_path)
    await seal(world, stack, [anchor], DAYS[0])
    done = await seal(world, stack, [anchor])
    assert [item.seal.day for item in done.sealed] == [DAYS[1], DAYS[2]]
    roots = [read_seal(line).statement.root for line in world.seals.read_bytes().splitlines()]
    assert [s.statement.root for s in await held(anchor)] == roots


async def test_a_day_that_is_not_over_is_not_sealed(world: World, stack, tmp_path: Path):
    anchor = file(tmp_path)
    for clock in (at("2026-01-02", 299) / 1000, at(DAYS[0], 40_000) / 1000):
        with pytest.raises(NotYet):
            await seal(world, stack, [anchor], DAYS[0], clock=lambda moment=clock: moment)
    assert await anchor.days() == []
    assert newest_due(at("2026-01-02", 300) / 1000) == DAYS[0]
    refused = await world.run("seal", "--day", "2999-01-01")
    assert refused.exit_code == 2
    assert (await world.run("seal", "--day", "soon")).exit_code == 2


async def test_a_bucket_that_was_away_gets_what_the_file_has(world: World, stack, tmp_path: Path):
    async with s3_model() as (model, url):
        bucket = S3Anchor("seals", "log", REGION, endpoint_url=url)
        anchors = [file(tmp_path), bucket]
        await seal(world, stack, anchors, DAYS[0])
        model.failing = (403, "AccessDenied")
        names = ",".join(anchor.name for anchor in anchors)
        result = await world.run("seal", SEAL_ANCHORS=names, AWS_ENDPOINT_URL_S3=url)
        assert result.exit_code == 2
        assert "AccessDenied" in result.stderr
        model.failing = None
        await seal(world, stack, anchors[:1], DAYS[1])
        done = await seal(world, stack, anchors, DAYS[2])
        assert done.copied == [(DAYS[1], "s3://seals/log")]
        assert await held(anchors[0]) == await held(bucket)
        del model.objects[f"log/{DAYS[0]}.json"]
        done = await seal(world, stack, anchors, DAYS[2])
        assert done.copied == [(DAYS[0], "s3://seals/log")]
        await bucket.close()


async def test_anchors_that_disagree_stop_sealing(world: World, stack, tmp_path: Path):
    one, other = file(tmp_path, "one"), file(tmp_path, "other")
    await seal(world, stack, [one], DAYS[0])
    await seal(world, stack, [other], DAYS[0])
    with pytest.raises(SealRefused, match="different seals"):
        await seal(world, stack, [one, other], DAYS[1])
    assert len(await held(one)) == len(await held(other)) == 1


async def test_two_that_seal_at_once_make_one_seal(world: World, stack, tmp_path: Path):
    anchors = [file(tmp_path) for _ in range(4)]
    await asyncio.gather(*(seal(world, stack, [anchor], DAYS[0]) for anchor in anchors))
    await asyncio.gather(*(seal(world, stack, [anchor], DAYS[1]) for anchor in anchors))
    assert [s.day for s in await held(anchors[0])] == [DAYS[0], DAYS[1]]


KILLED = """
import os, signal, sys
point = sys.argv.pop(1)
from orchestrator.adapters import kms_seal, seal_file, kafka_sealing
from orchestrator.cli import main

def dies(owner, name, times=1):
    real, left = getattr(owner, name), [times]
    async def killed(*args, **kwargs):
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        return await real(*args, **kwargs)
    setattr(owner, name, killed)

match point:
    case "before signing":
        dies(kms_seal.KmsSealKey, "sign")
    case "after signing":
        dies(seal_file.FileAnchor, "put")
    case "between anchors":
        dies(seal_file.FileAnchor, "put", 2)
    case "in a line":
        write = os.write
        def half(file, content):
            if content.startswith(b'{"day"'):
                content = content[: len(content) // 2]
                write(file, content)
                os.kill(os.getpid(), signal.SIGKILL)
            return write(file, content)
        os.write = half
main()
"""


@pytest.mark.parametrize(
    "point", ["before signing", "after signing", "between anchors", "in a line"]
)
async def test_a_kill_while_sealing_leaves_no_half_seal(world: World, stack, tmp_path, point):
    one, other = file(tmp_path, "one"), file(tmp_path, "other")
    await seal(world, stack, [one, other], DAYS[0])
    environment = {
        **os.environ,
        **world.environment,
        "KAFKA_BOOTSTRAP_SERVERS": world.source,
        "SEAL_ANCHORS": f"{one.name},{other.name}",
    }
    arguments = ["-c", KILLED, point, "seal", "--day", DAYS[1]]
    killed = await asyncio.create_subprocess_exec(sys.executable, *arguments, env=environment)
    assert await killed.wait() == -signal.SIGKILL
    expected = 2 if point == "between anchors" else 1
    assert len(await held(one)) == expected
    assert len(await held(other)) == 1
    left = await held(one)
    done = await seal(world, stack, [one, other], DAYS[1])
    assert await held(one) == await held(other)
    assert [s.day for s in await held(one)] == [DAYS[0], DAYS[1]]
    assert (await held(one))[:expected] == left
    assert len(done.copied) == expected - 1
    places = [f"--seals={anchor.name}" for anchor in (one, other)]
    code, told = await world.verify(*places)
    assert (code, told["same"]) == (0, True)


async def test_the_issuers_key_can_seal_nothing(world: World, stack, tmp_path: Path):
    issuer = world.environment["KMS_KEY_ID"]
    signed_before = await stack.kms.signatures()
    same = await world.run("seal", "--day", DAYS[2], SEAL_KMS_KEY_ID=issuer)
    assert "is the issuer's key" in repr(same.exception)
    for spec in (issuer, await make_key(stack, "ECC_SECG_P256K1")):
        key = KmsSealKey(spec, REGION, endpoint_url=stack.kms.base_url)
        with pytest.raises(StartRefused, match="seals need ECC_NIST_P256"):
            await seal(world, stack, [file(tmp_path)], DAYS[0], key=key)
    assert await file(tmp_path).days() == []
    assert await stack.kms.signatures() == signed_before
    arn = f"arn:aws:kms:{REGION}:000000000000:key/{issuer}"
    renamed = await world.run("seal", KMS_KEY_ID=None, SEAL_KMS_KEY_ID=arn)
    assert renamed.exit_code == 2
    assert "seals need ECC_NIST_P256" in renamed.stderr


async def test_kms_in_trouble(world: World, stack, tmp_path: Path):
    anchor = file(tmp_path)
    try:
        await stack.kms.set_faults(throttle_every=2)
        await seal(world, stack, [anchor], DAYS[0])
        await seal(world, stack, [anchor], DAYS[1])
        await stack.kms.set_faults(throttle_every=0, down=True)
        with pytest.raises(SigningError):
            await seal(world, stack, [anchor], DAYS[2])
    finally:
        await stack.kms.clear_faults()
    assert await anchor.days() == [DAYS[0], DAYS[1]]


async def test_a_signature_that_is_not_the_keys_is_not_anchored(world, stack, tmp_path):
    class Lying(KmsSealKey):
        async def sign(self, text: bytes) -> bytes:
            return await super().sign(text + b"x")

    key = Lying(world.environment["SEAL_KMS_KEY_ID"], REGION, endpoint_url=stack.kms.base_url)
    with pytest.raises(SigningError, match="BAD_SIGNATURE"):
        await seal(world, stack, [file(tmp_path)], DAYS[0], key=key)
    assert await file(tmp_path).days() == []


async def test_a_seal_by_a_key_that_nobody_named_stops_sealing(world, stack, tmp_path):
    anchor = file(tmp_path)
    await seal(world, stack, [anchor], DAYS[0])
    other = await make_key(stack, "ECC_NIST_P256")
    key = KmsSealKey(other, REGION, endpoint_url=stack.kms.base_url)
    with pytest.raises(SealRefused, match="none of those to trust"):
        await seal(world, stack, [anchor], DAYS[1], key=key)
    pem = tmp_path / "earlier.pem"
    assert (await world.run("seal", "key", "--out", str(pem))).exit_code == 0
    result = await world.run(
        "seal",
        "--day",
        DAYS[1],
        SEAL_ANCHORS=anchor.name,
        SEAL_KMS_KEY_ID=other,
        SEAL_PUBLIC_KEYS_FILE=str(pem),
    )
    assert result.exit_code == 0, result.output
    assert len(await held(anchor)) == 2


async def test_a_transaction_that_is_open_is_of_a_later_day(world: World, stack, tmp_path: Path):
    """On the target's broker, for it writes."""
    await world.restore(world.archive)
    owned = AIOKafkaProducer(bootstrap_servers=world.target, transactional_id="open")
    await owned.start()
    await owned.begin_transaction()
    await owned.send_and_wait("controls", b"{}", partition=0, timestamp_ms=at(DAYS[0], 1))
    anchor = file(tmp_path)
    there = World(world.target, world.target, world.environment, world.seals, world.archive)
    await seal(there, stack, [anchor], DAYS[0])
    await owned.commit_transaction()
    await owned.stop()
    await ended(world.target, ("controls", 0), 2)
    await seal(there, stack, [anchor], DAYS[1])
    days = [next(p for p in s.partitions if p.topic == "controls") for s in await held(anchor)]
    assert [item.records for item in days] == [0, 1]
    code, _ = await world.verify(f"--seals={anchor.name}", servers=world.target)
    assert code == 0


async def test_a_log_that_is_not_there(stack, world: World, tmp_path: Path):
    nowhere = World("127.0.0.1:9", "", world.environment, world.seals, world.archive)
    with pytest.raises(LogUnavailable):
        await seal(nowhere, stack, [file(tmp_path)], DAYS[0])
    missing = await world.run("seal", SEAL_ANCHORS=None, SEAL_KMS_KEY_ID=None)
    for name in ("SEAL_ANCHORS", "SEAL_KMS_KEY_ID"):
        assert name in repr(missing.exception)
