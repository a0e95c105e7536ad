"""What a process that always runs tells of the seals, and what `doctor` says of them."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path

import pytest
import yaml
from aiohttp.test_utils import TestClient, TestServer
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client.parser import text_string_to_metric_families

from orchestrator.adapters.seal_file import FileAnchor
from orchestrator.adapters.seal_s3 import S3Anchor
from orchestrator.core.sealing.growing import day_end_ms
from orchestrator.core.sealing.seals import next_day
from orchestrator.dev.stack import REGION
from orchestrator.errors import LogUnavailable, SealRefused
from orchestrator.sealing.repeating import seal_repeatedly
from orchestrator.sealing.running import Done
from orchestrator.sealing.watching import OVERDUE_SECONDS, SealWatch, Standing
from projections.api import make_app
from projections.store import Store
from tests.core.test_sealing import KEYS, LOG, sealed, three_days
from tests.sealing.conftest import World, make_key
from tests.tidy.project import ROOT

NOWHERE = "postgresql://nobody@127.0.0.1:1/none"
RECORDS, SEALS = three_days()
LAST = SEALS[-1].day
MORNING = day_end_ms(LAST) / 1000 + 600


def kept(folder: Path, *documents: bytes, name: str = "seals.jsonl") -> FileAnchor:
    file = folder / name
    file.write_bytes(b"".join(document + b"\n" for document in documents))
    return FileAnchor(file)


def watch(*anchors, now: float = MORNING, keys=KEYS, **settings) -> SealWatch:
    return SealWatch(LOG, anchors, keys, clock=lambda: now, **settings)


async def standing(*anchors, **settings) -> Standing:
    [found] = await watch(*anchors, **settings).look()
    return found


DOCUMENTS = [seal.document() for seal in SEALS]


async def test_the_newest_seal_is_found_whatever_the_order(tmp_path: Path):
    for order in (DOCUMENTS, DOCUMENTS[::-1]):
        found = await standing(kept(tmp_path, *order))
        assert (found.day, found.trusted, found.stands) == (LAST, True, True)
        assert found.age_seconds(MORNING) == 600
        assert found.trouble(MORNING) is None


async def test_an_overdue_seal_is_told_and_one_that_is_due_is_not(tmp_path: Path):
    found = await standing(kept(tmp_path, *DOCUMENTS))
    late = day_end_ms(LAST) / 1000 + OVERDUE_SECONDS
    assert found.trouble(late) is None
    assert f"overdue: the newest sealed day, {LAST}" in (found.trouble(late + 1) or "")


async def test_the_newest_seals_taken_off_show_at_the_next_look(tmp_path: Path):
    watching = watch(kept(tmp_path, *DOCUMENTS), now=MORNING + 90_000)
    [before] = await watching.look()
    assert before.trouble(watching.now) is None
    kept(tmp_path, *DOCUMENTS[:-1])
    [after] = await watching.look()
    assert after.day == SEALS[-2].day
    assert "overdue" in (after.trouble(watching.now) or "")


STRANGER = sealed(RECORDS, key=ec.generate_private_key(ec.SECP256R1()))
REFUSED = {
    "another key": (STRANGER.document(), "none of those to trust"),
    "another log": (sealed(RECORDS, log="elsewhere").document(), "of the log 'elsewhere'"),
    "a day to come": (sealed(RECORDS, day=next_day(LAST, 400)).document(), "not over by this"),
    "changed": (DOCUMENTS[-1].replace(b'"records":', b'"records":1', 1), "bounds|another root"),
    "no seal": (b"no", "line 2: not a seal"),
    "half of one": (DOCUMENTS[-1][:200], "not a JSON object of its shape"),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_newest_seal_that_is_none_of_ours_is_refused(tmp_path: Path, name: str):
    document, words = REFUSED[name]
    before = DOCUMENTS[:1] if name == "no seal" else []
    found = await standing(kept(tmp_path, *before, document))
    assert found.refused and not found.stands and found.age_seconds(MORNING) is None
    assert any(word in found.refused for word in words.split("|")), found.refused
    assert "not to be believed" in (found.trouble(MORNING) or "")


async def test_without_keys_a_seal_is_checked_against_its_own_and_that_is_said(tmp_path: Path):
    found = await standing(kept(tmp_path, STRANGER.document()), keys={})
    assert (found.stands, found.trusted) == (True, False)


async def test_an_anchor_that_is_away_is_no_reason_to_forget(tmp_path: Path):
    anchor = kept(tmp_path, *DOCUMENTS)
    watching = watch(anchor)
    await watching.look()
    (tmp_path / "seals.jsonl").unlink()
    (tmp_path / "seals.jsonl").mkdir()
    [found] = await watching.look()
    assert (found.stands, found.day) == (False, LAST)
    assert "cannot be read" in (found.trouble(MORNING) or "")
    [anew] = await watch(anchor).look()
    assert anew.age_seconds(MORNING) is None, "a new process does not know"


async def told(client: TestClient) -> tuple[dict, dict[str, dict[str, float]]]:
    """`checks.seals` of /health, and every metric of seals by anchor."""
    health = await (await client.get("/health")).json()
    text = await (await client.get("/metrics")).text()
    found = {
        family.name.removeprefix("orchestrator_"): {
            sample.labels["anchor"]: sample.value for sample in family.samples
        }
        for family in text_string_to_metric_families(text)
        if family.name.startswith("orchestrator_seal_")
    }
    return health["checks"]["seals"], found


async def test_the_api_tells_it_after_every_start(tmp_path: Path, monkeypatch):
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.setenv(name, "embedded")
    anchor = kept(tmp_path, *DOCUMENTS)
    away = S3Anchor("seals", "", REGION, endpoint_url="http://127.0.0.1:9")
    empty = kept(tmp_path, name="empty.jsonl")
    for _ in range(2):
        seals = watch(anchor, away, empty, every_seconds=0.05)
        async with TestClient(TestServer(make_app(Store(NOWHERE), None, [], seals=seals))) as api:
            async with asyncio.timeout(120):
                while not all(one.looked for one in seals.standings()):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            check, found = await told(api)
        assert check["ok"] is False
        assert "holds no seal yet" in check["detail"] and away.name in check["detail"]
        assert check["newestDay"] == {anchor.name: LAST, away.name: None, empty.name: None}
        assert found["seal_age_seconds"] == {anchor.name: 600}
        assert found["seal_anchor_up"] == {anchor.name: 1, away.name: 0, empty.name: 0}
        assert set(found["seal_refused"].values()) == {0}


async def test_without_an_anchor_nothing_is_alarmed_and_it_is_said():
    async with TestClient(TestServer(make_app(Store(NOWHERE), None, []))) as api:
        check, found = await told(api)
    assert check["ok"] is True and "not sealed" in check["detail"]
    assert not any(found.values())


def test_the_alert_waits_as_long_as_the_code():
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yml").read_text(encoding="utf-8"))
    [alert] = [
        rule
        for group in rules["groups"]
        for rule in group["rules"]
        if rule["alert"] == "SealOverdue"
    ]
    assert alert["expr"].endswith(f" > {OVERDUE_SECONDS}")


async def doctor(world: World, **environment: str | None) -> dict[str, dict]:
    result = await world.run("doctor", "--json", **environment)
    return {check["subject"]: check for check in json.loads(result.stdout)}


async def test_the_runbook_walked_through(world: World, stack, tmp_path: Path):
    """Nothing is sealed, sealed by hand, overdue; another's key; a key that is none for seals."""
    unsealed = await doctor(world, SEAL_ANCHORS=None)
    assert unsealed["seals"]["state"] == "warning"
    assert "not sealed" in unsealed["seals"]["detail"]
    pem, file = tmp_path / "seals.pem", tmp_path / "seals.jsonl"
    assert (await world.run("seal", "key", "--out", str(pem))).exit_code == 0
    given = {"SEAL_ANCHORS": f"file:{file}", "SEAL_PUBLIC_KEYS_FILE": str(pem)}
    subject = f"seals in file:{file}"
    empty = await doctor(world, **given)
    assert (empty[subject]["state"], empty[subject]["detail"]) == ("warning", "holds no seal yet")
    by_hand = await world.run("seal", "--json", **given)
    assert by_hand.exit_code == 0, by_hand.output
    well = await doctor(world, **given)
    assert well[subject]["state"] == well["key of seals"]["state"] == "well", well[subject]
    assert "sealed up to" in well[subject]["detail"]
    late = await doctor(world, SEAL_PUBLIC_KEYS_FILE=str(pem))
    assert "a seal is overdue" in late[f"seals in file:{world.seals}"]["detail"]
    unvouched = await doctor(world, SEAL_ANCHORS=f"file:{file}")
    assert "orchestrator seal key" in unvouched[subject]["remedy"]
    other = await make_key(stack, "ECC_NIST_P256")
    assert (await world.run("seal", "key", "--out", str(pem), SEAL_KMS_KEY_ID=other)).exit_code == 0
    refused = await doctor(world, SEAL_KMS_KEY_ID=world.environment["KMS_KEY_ID"] + "x", **given)
    assert refused[subject]["state"] == refused["key of seals"]["state"] == "broken"
    assert "seal-does-not-verify" in refused[subject]["remedy"]


class OutOfOrder:
    """Sealing that cannot be done, is refused, and then done."""

    def __init__(self, stop: asyncio.Event) -> None:
        self.runs, self._stop = 0, stop

    async def __call__(self) -> Done:
        self.runs += 1
        if self.runs == 1:
            raise LogUnavailable("Kafka does not answer")
        if self.runs == 2:
            raise SealRefused("the anchors hold different seals")
        self._stop.set()
        return Done(newest=SEALS[-1])


async def test_a_run_that_fails_is_made_up_for_by_the_next():
    stop = asyncio.Event()
    sealing = OutOfOrder(stop)
    async with asyncio.timeout(60):
        await seal_repeatedly(sealing, 0.01, stop)
    assert sealing.runs == 3


async def test_a_process_that_stays_seals_and_ends_when_it_is_told_to(world: World, tmp_path: Path):
    file = tmp_path / "seals.jsonl"
    environment = {
        "PATH": os.environ["PATH"],
        "KAFKA_BOOTSTRAP_SERVERS": world.source,
        "SEAL_ANCHORS": f"file:{file}",
        **world.environment,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "orchestrator", "seal", "--every", "3600"),
        env=environment,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    try:
        async with asyncio.timeout(120):
            told = b""
            while b"seals are up to date" not in told:
                assert process.stdout is not None
                line = await process.stdout.readline()
                assert line, told
                told += line
            process.terminate()
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
    assert len(file.read_bytes().splitlines()) == 1
    refused = await world.run("seal", "--every", "9", "--day", LAST)
    assert refused.exit_code == 2 and "exclude each other" in refused.output


class Odd:
    """An anchor with a fault that nobody thought of."""

    name = "file:/odd"

    async def newest(self):
        raise RuntimeError("a secret may stand here")

    async def close(self):
        pass


async def test_a_fault_that_nobody_thought_of_does_not_end_the_watch(tmp_path: Path):
    odd, well = await watch(Odd(), kept(tmp_path, *DOCUMENTS)).look()
    assert (odd.unread, well.stands) == ("unexpected: RuntimeError", True)
