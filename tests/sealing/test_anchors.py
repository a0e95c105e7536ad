"""The anchors hold to one contract; and what each does when its place fails."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from orchestrator.adapters.seal_file import FileAnchor
from orchestrator.adapters.seal_s3 import S3Anchor
from orchestrator.errors import AnchorUnavailable, SealRefused
from orchestrator.sealing.settings import checked_anchors
from tests.core.test_sealing import three_days
from tests.sealing.anchor_contract import AnchorContract
from tests.sealing.s3_model import S3Model, s3_model


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "seals.jsonl"


class TestFileAnchor(AnchorContract):
    @pytest.fixture
    def anchor(self, path: Path) -> FileAnchor:
        return FileAnchor(path)

    @pytest.fixture
    def again(self, path: Path) -> FileAnchor:
        return FileAnchor(path)


@pytest.fixture
async def s3(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[S3Model, str]]:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    async with s3_model() as model:
        yield model


@pytest.fixture
async def bucket(s3: tuple[S3Model, str]) -> AsyncIterator[S3Anchor]:
    anchor = S3Anchor("seals", "/orchestrator/", "us-east-1", endpoint_url=s3[1])
    yield anchor
    await anchor.close()


class TestS3Anchor(AnchorContract):
    @pytest.fixture
    def anchor(self, bucket: S3Anchor) -> S3Anchor:
        return bucket

    @pytest.fixture
    async def again(self, s3: tuple[S3Model, str]) -> AsyncIterator[S3Anchor]:
        anchor = S3Anchor("seals", "orchestrator", "us-east-1", endpoint_url=s3[1])
        yield anchor
        await anchor.close()


async def test_every_write_to_s3_is_conditional(s3, bucket):
    model, _ = s3
    _, [seal, *_] = three_days()
    await bucket.put(seal.day, seal.document())
    assert model.puts == [(f"orchestrator/{seal.day}.json", "*")]
    assert bucket.name == "s3://seals/orchestrator"


async def test_a_store_that_ignores_conditions_does_not_overwrite_what_stands(s3, bucket):
    model, _ = s3
    model.forgets_conditions = True
    _, [seal, *_] = three_days()
    model.objects[f"orchestrator/{seal.day}.json"] = b"another"
    assert await bucket.put(seal.day, seal.document()) == b"another"
    assert model.puts == []


async def test_a_conflict_of_writes_is_asked_again_and_ends(s3, bucket):
    model, _ = s3
    _, [seal, *_] = three_days()
    model.conflicts = 2
    assert await bucket.put(seal.day, seal.document()) == seal.document()
    model.conflicts, model.objects = 99, {}
    with pytest.raises(AnchorUnavailable, match="is not there"):
        await bucket.put(seal.day, seal.document())


async def test_foreign_objects_are_none_of_its_business(s3, bucket):
    s3[0].objects |= {
        "orchestrator/readme.txt": b"x",
        "orchestrator/2026-01-01.json.bak": b"x",
        "orchestrator/old/2026-01-01.json": b"x",
        "2026-01-01.json": b"x",
    }
    assert await bucket.days() == []
    assert await bucket.everything() == []


@pytest.mark.parametrize("error", [(403, "AccessDenied"), (500, "InternalError")])
async def test_what_s3_refuses_is_told_by_its_code_alone(s3, bucket, error):
    s3[0].failing = error
    for asked in (bucket.days(), bucket.read("2026-01-01"), bucket.put("2026-01-01", b"x")):
        with pytest.raises(AnchorUnavailable, match=error[1]) as caught:
            await asked
        assert "secret text" not in str(caught.value)


async def test_an_s3_that_is_not_there(monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "key")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    anchor = S3Anchor("seals", "", "us-east-1", endpoint_url="http://127.0.0.1:9")
    with pytest.raises(AnchorUnavailable):
        await anchor.days()
    await anchor.close()
    anchor = S3Anchor("seals", "", "us-east-1", endpoint_url="no url")
    with pytest.raises(AnchorUnavailable, match="no valid URL"):
        await anchor.days()
    await anchor.close()


async def test_a_line_that_a_kill_cut_off_is_no_seal_and_makes_room(path):
    _, seals = three_days()
    anchor = FileAnchor(path)
    await anchor.put(seals[0].day, seals[0].document())
    whole = path.read_bytes()
    for cut in (1, 500, len(seals[1].document())):
        path.write_bytes(whole + seals[1].document()[:cut])
        assert await anchor.days() == [seals[0].day]
        assert await anchor.put(seals[1].day, seals[1].document()) == seals[1].document()
        assert path.read_bytes() == whole + seals[1].document() + b"\n"


KILLED = """
import os, sys
from orchestrator.adapters import seal_file
from tests.core.test_sealing import three_days
import asyncio, pathlib, signal
write = os.write
def half(file, content):
    write(file, content[: len(content) // 2])
    os.kill(os.getpid(), signal.SIGKILL)
os.write = half
_, seals = three_days()
asyncio.run(seal_file.FileAnchor(pathlib.Path(sys.argv[1])).put(seals[0].day, seals[0].document()))
"""


async def test_a_kill_in_the_middle_of_a_line_leaves_no_half_seal(path):
    command = [sys.executable, "-c", KILLED, str(path)]
    killed = await asyncio.to_thread(subprocess.run, command, check=False)
    assert killed.returncode == -9
    assert path.stat().st_size > 100
    anchor = FileAnchor(path)
    assert await anchor.everything() == []
    _, [seal, *_] = three_days()
    assert await anchor.put(seal.day, seal.document()) == seal.document()
    assert await anchor.days() == [seal.day]


async def test_a_line_that_is_no_seal_stops_sealing_and_names_itself(path):
    _, [seal, *_] = three_days()
    path.write_bytes(seal.document() + b"\nnothing\n")
    anchor = FileAnchor(path)
    with pytest.raises(SealRefused, match="line 2"):
        await anchor.days()
    with pytest.raises(SealRefused, match="line 2"):
        await anchor.put("2026-11-21", b"x")
    assert [place for place, _ in await anchor.everything()] == ["line 1", "line 2"]


async def test_a_file_that_cannot_be_written(tmp_path, monkeypatch):
    anchor = FileAnchor(tmp_path / "no" / "folder")
    assert await anchor.days() == []
    with pytest.raises(AnchorUnavailable, match="No such file"):
        await anchor.put("2026-11-20", b"x")
    _, [seal, *_] = three_days()
    anchor = FileAnchor(tmp_path / "seals")
    await anchor.put(seal.day, seal.document())
    held = (tmp_path / "seals").read_bytes()
    write = os.write

    def full(file: int, content: bytes) -> int:
        write(file, content[:10])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    with pytest.raises(AnchorUnavailable, match="No space left"):
        await anchor.put("2026-11-21", b"x" * 100)
    assert (tmp_path / "seals").read_bytes() == held


@pytest.mark.parametrize(
    "text", ["seals.jsonl", "file:seals.jsonl", "s3://B/x", "s3://b", "http://x", "file:/a,gs://b"]
)
def test_what_is_no_anchor_is_refused(text):
    with pytest.raises(ValueError, match="is no anchor"):
        checked_anchors(text)
