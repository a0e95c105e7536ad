"""`seal prove` on a live log and an archive, and `seal check-proof` where nothing else is known."""

from __future__ import annotations

import base64
import json
from pathlib import Path

from orchestrator.core.sealing.proving import check
from orchestrator.sealing.proving import places_of, prove
from tests.core import outsider
from tests.core.test_sealing import KEYS, SEATS, record, sealed
from tests.sealing.conftest import BUSY, DAYS, World

NOTHING = {"SEAL_KMS_KEY_ID": None, "SEAL_ANCHORS": None, "AWS_REGION": None}
"""What somebody has who checks a proof: no setting of ours."""


class MemoryLog:
    """A `SealableLog` of a list."""

    def __init__(self, records):
        self._records = sorted(records, key=lambda r: r.offset)

    async def bounds(self):
        return dict.fromkeys(SEATS, (0, 1000))

    async def records(self, starts, ends, finished):
        for seat, start in starts.items():
            mine = [r for r in self._records if r[:2] == seat and start <= r.offset < ends[seat]]
            if mine:
                yield seat, mine

    async def close(self):
        pass


async def test_a_fact_and_a_request_are_found_where_they_stand():
    kuro = record(("kuro.events", 0), 0, key=b"m-1", headers=(("id", b"f-0"),))
    life = [
        record(SEATS[1], n, key=b"m-%d" % (n % 2), headers=(("id", b"f-%d" % n),)) for n in range(4)
    ]
    elsewhere = record(SEATS[0], 2, key=b"m-1", headers=(("id", b"f-3"),))
    records = [*life, elsewhere]
    log, seal = MemoryLog([kuro, *records]), sealed(records)

    def tell(step, done, total):
        assert done <= total or step == "looking"

    by_fact = await places_of(log, [seal], fact="f-3", tell=tell)
    assert by_fact == [(*SEATS[0], 2), (*SEATS[1], 3)]
    by_request = await places_of(log, [seal], request="m-1", tell=tell)
    assert by_request == [(*SEATS[1], 1), (*SEATS[1], 3)]
    for place in by_fact + by_request:
        assert all(one.holds for one in check(await prove(log, [seal], place), KEYS))


async def test_a_record_is_proved_to_somebody_who_has_the_public_key(world: World, tmp_path: Path):
    pem, file = tmp_path / "seals.pem", tmp_path / "proof.json"
    assert (await world.run("seal", "key", "--out", str(pem))).exit_code == 0
    place = f"{BUSY[0]}/{BUSY[1]}/12"
    made = await world.run("seal", "prove", place, "--out", str(file))
    assert made.exit_code == 0, made.output + repr(made.exception)
    archived = await world.run(
        *("seal", "prove", place, "--archive", str(world.archive), "--key", str(pem)),
        servers="127.0.0.1:9",
        SEAL_KMS_KEY_ID=None,
    )
    assert archived.stdout.encode() == file.read_bytes(), archived.output
    text, _, _ = outsider.proved(file.read_bytes())
    assert f"day: {DAYS[1]}\n".encode() in text
    checked = ("seal", "check-proof", str(file), "--key", str(pem))
    plain = await world.run(*checked, servers="127.0.0.1:9", **NOTHING)
    assert plain.exit_code == 0, plain.output
    assert f"{place} of orchestrator, sealed with {DAYS[1]}" in plain.stdout
    assert "was not asked" in plain.stdout
    anchored = await world.run(*checked, "--seals", f"file:{world.seals}", "--json", **NOTHING)
    told = json.loads(anchored.stdout)
    assert (anchored.exit_code, told["verdict"], told["anchored"]) == (0, "VALID", True)
    assert {one["part"] for one in told["proofs"][0]["checks"]} >= {"record", "chain", "anchor"}
    first = tmp_path / "first.jsonl"
    first.write_bytes(world.seals.read_bytes().splitlines(keepends=True)[0])
    unknown = await world.run(*checked, "--seals", f"file:{first}", **NOTHING)
    assert unknown.exit_code == 1 and "anchor: the anchor holds no seal of" in unknown.stdout
    body = json.loads(file.read_bytes())
    body["record"]["value"] = '{"n":3}'
    changed = tmp_path / "changed.json"
    changed.write_text(json.dumps(body, indent=1).replace("\n", " "))
    void = await world.run("seal", "check-proof", str(changed), "--key", str(pem), **NOTHING)
    assert void.exit_code == 1 and "record: " in void.stdout and "VOID" in void.stdout


async def test_a_request_is_proved_whole(world: World, tmp_path: Path):
    file = tmp_path / "proofs.jsonl"
    made = await world.run("seal", "prove", "--request", "k", "--out", str(file))
    assert made.exit_code == 0, made.output
    proofs = [json.loads(line)["record"] for line in file.read_bytes().splitlines()]
    assert len(proofs) == len(DAYS) * (4 + 4 + 2)
    assert {proof["topic"] for proof in proofs} == {"kuro.events", "requests"}
    checked = await world.run("seal", "check-proof", str(file), "--seals", f"file:{world.seals}")
    assert checked.exit_code == 0, checked.output
    nobody = await world.run("seal", "prove", "--request", "nobody")
    assert nobody.exit_code == 1 and "no sealed record is of it" in nobody.stderr


async def test_what_has_no_proof_and_what_cannot_be_told(world: World, tmp_path: Path):
    late = await world.run("seal", "prove", f"{BUSY[0]}/{BUSY[1]}/999")
    assert late.exit_code == 1 and "sealed up to" in late.stderr
    for arguments in ((), ("requests/1/2", "--request", "k"), ("requests-1-2",)):
        refused = await world.run("seal", "prove", *arguments)
        assert refused.exit_code == 2, refused.output
    away = await world.run("seal", "prove", "requests/3/1", servers="127.0.0.1:9")
    assert away.exit_code == 2 and "Kafka" in away.stderr
    lines = world.seals.read_bytes().splitlines(keepends=True)
    for name, content, words in (
        ("empty", b"", "there is no seal"),
        ("cut", b"".join(lines[1:]), "not the first that was made"),
    ):
        anchor = tmp_path / name
        anchor.write_bytes(content)
        found = await world.run("seal", "prove", "requests/3/1", "--seals", f"file:{anchor}")
        assert found.exit_code == 2 and words in found.stderr, found.output
    nothing = tmp_path / "nothing.json"
    nothing.write_text("{}")
    for arguments, settings in (
        ((str(nothing),), {}),
        ((str(tmp_path / "none"),), {}),
        ((str(world.seals),), {}),
    ):
        unread = await world.run("seal", "check-proof", *arguments, **settings)
        assert unread.exit_code == 2, unread.output
    made = await world.run("seal", "prove", "requests/3/1", "--out", str(nothing))
    assert made.exit_code == 0
    untrusted = await world.run("seal", "check-proof", str(nothing), **NOTHING)
    assert untrusted.exit_code == 2 and "no public key to trust" in untrusted.stderr


async def test_what_was_tampered_with_has_no_proof(world: World, tmp_path: Path):
    def one_byte(records: list[dict]) -> None:
        mine = [r for r in records if (r["topic"], r["partition"]) == BUSY]
        min(mine, key=lambda r: r["offset"])["value"] = base64.b64encode(b"other").decode()

    archive = world.tampered(tmp_path / "log.gz", one_byte)
    refused = await world.run("seal", "prove", "requests/3/1", "--archive", str(archive))
    assert refused.exit_code == 1 and "is not what was sealed" in refused.stderr
