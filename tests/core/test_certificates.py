"""Certificates that real chains gave (tests/stack/test_certificates.py writes them): they hold, and
whatever is changed in them is found."""

from __future__ import annotations

import copy
import json
import socket
from pathlib import Path
from typing import Any

import pytest
from eth_keys.main import KeyAPI
from typer.testing import CliRunner

from orchestrator.cli import app
from orchestrator.core.certificates_block import read_transaction
from orchestrator.core.certificates_checks import CheckName, seal, verify
from orchestrator.core.hashing import keccak
from schemas.certificates import UnreadableCertificate, read_certificate

VECTORS = json.loads(
    (Path(__file__).parent.parent / "vectors" / "certificates.json").read_text(encoding="utf-8")
)
PROFILES = sorted(VECTORS)


def leaves(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    if isinstance(value, dict):
        return [leaf for name, part in value.items() for leaf in leaves(part, (*path, name))]
    if isinstance(value, list):
        return [leaf for at, part in enumerate(value) for leaf in leaves(part, (*path, at))]
    return [path]


def at(body: Any, path: tuple[Any, ...]) -> Any:
    for step in path:
        body = body[step]
    return body


def changed(body: Any, path: tuple[Any, ...], value: Any) -> Any:
    new = copy.deepcopy(body)
    at(new, path[:-1])[path[-1]] = value
    return new


def others(value: Any) -> list[Any]:
    """Values of the same kind that differ a little: first, middle, last."""
    if isinstance(value, bool):
        return [not value]
    if isinstance(value, int):
        return [value + 1, max(value - 1, 0) if value else 2]
    places = {2, len(value) // 2, len(value) - 1} if len(value) > 3 else {len(value) - 1}
    found = []
    for place in sorted(places):
        new = {"0": "1", "1": "2", "a": "b"}.get(value[place], "0" if value[place] != "0" else "1")
        found.append(value[:place] + new + value[place + 1 :])
    return [*found, value[:-2]] if value.startswith("0x") else found


def failed(body: Any) -> list[str]:
    """Names of the checks that do not hold, for who knows the block's hash from elsewhere; `shape`
    when it cannot even be read."""
    try:
        certificate = read_certificate(body)
    except UnreadableCertificate:
        return ["shape"]
    real = VECTORS.get(body["approval"]["profile"], VECTORS[PROFILES[0]])["block"]["hash"]
    return [str(check.name) for check in verify(certificate, trusted_hash=real) if not check.holds]


@pytest.mark.parametrize("name", PROFILES)
def test_a_real_certificate_holds(name: str) -> None:
    body = VECTORS[name]
    assert failed(body) == []
    checks = verify(
        read_certificate(body),
        trusted_hash=body["block"]["hash"].upper().replace("0X", "0x"),
        contract=body["approval"]["typedData"]["domain"]["verifyingContract"].lower(),
        signer=body["approval"]["signer"],
    )
    assert [check.name for check in checks] == list(CheckName)
    assert all(check.holds and check.detail for check in checks)
    assert len(body["receipt"]["proof"]) >= 2 and len(body["transaction"]["proof"]) >= 2


@pytest.mark.parametrize("name", PROFILES)
def test_every_single_change_is_found(name: str) -> None:
    body = VECTORS[name]
    tried = 0
    for path in leaves(body):
        for value in others(at(body, path)):
            if value == at(body, path):
                continue
            assert failed(changed(body, path, value)), (path, value)
            tried += 1
    assert tried > 100


@pytest.mark.parametrize("name", PROFILES)
def test_nothing_may_be_added_or_left_out(name: str) -> None:
    body = VECTORS[name]
    places = [(), ("kuro",), ("kuro", "value"), ("approval",), ("approval", "typedData")]
    places += [("approval", "typedData", part) for part in ("domain", "message", "types")]
    places += [("transaction",), ("receipt",), ("block",)]
    for place in places:
        assert failed(changed(body, (*place, "more"), "x")), place
        for field in at(body, place):
            less = copy.deepcopy(body)
            del at(less, place)[field]
            assert failed(less), (place, field)
    for part in ("transaction", "receipt"):
        proof = body[part]["proof"]
        for wrong in (proof[1:], proof[:-1], [*proof, proof[-1]], proof[::-1], []):
            assert failed(changed(body, (part, "proof"), wrong)), part


EXPECTED = [
    (("kuro", "position"), "kuro.events/3/18", "kuro-fact"),
    (("kuro", "value", "fiat_ref"), "another", "kuro-fact"),
    (("kuro", "value", "amount"), "1", "approval"),
    (("kuro", "value", "user"), "0x" + "11" * 20, "approval"),
    (("approval", "typedData", "message", "amount"), "2", "approval"),
    (("approval", "typedData", "domain", "chainId"), "1", "approval"),
    (("approval", "digest"), "0x" + "ab" * 32, "digest"),
    (("approval", "signer"), "0x" + "11" * 20, "signature"),
    (("transaction", "hash"), "0x" + "ab" * 32, "transaction"),
    (("transaction", "index"), 0, "transaction-proof"),
    (("receipt", "log"), 7, "event"),
    (("receipt", "log"), 0, "event"),
    (("block", "number"), 1, "header"),
    (("block", "hash"), "0x" + "ab" * 32, "header"),
]


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize(("path", "value", "check"), EXPECTED)
def test_the_check_that_fails_is_named(
    name: str, path: tuple[Any, ...], value: Any, check: str
) -> None:
    body = VECTORS[name]
    assert at(body, path) != value
    assert check in failed(changed(body, path, value))


def resealed(body: Any) -> Any:
    """As whoever forges a fact would do it."""
    line = json.dumps(
        body["kuro"]["value"], sort_keys=True, separators=(",", ":"), ensure_ascii=False
    )
    return changed(body, ("kuro", "sha256"), seal(body["kuro"]["position"], line.encode()))


@pytest.mark.parametrize("name", PROFILES)
def test_a_forged_fact_does_not_fit_what_was_approved(name: str) -> None:
    for field, value in (("amount", "5"), ("user", "0x" + "11" * 20), ("chain_id", 1)):
        assert failed(resealed(changed(VECTORS[name], ("kuro", "value", field), value)))
    other = changed(VECTORS[name], ("kuro", "value", "request_id"), "m-x")
    other = changed(changed(other, ("kuro", "value", "id"), "mint-ok:m-x"), ("requestKey",), "m-x")
    assert "approval" in failed(resealed(other))


@pytest.mark.parametrize("name", PROFILES)
def test_another_key_another_header_another_mint(name: str) -> None:
    body = VECTORS[name]
    key = KeyAPI().PrivateKey(b"\x01" * 32)
    signed = key.sign_msg_hash(bytes.fromhex(body["approval"]["digest"][2:]))
    parts = signed.r.to_bytes(32, "big") + signed.s.to_bytes(32, "big") + bytes([27 + signed.v])
    forged = changed(body, ("approval", "signature"), "0x" + parts.hex())
    forged = changed(forged, ("approval", "signer"), key.public_key.to_checksum_address())
    assert failed(forged) == ["calldata"]
    raw = bytes.fromhex(body["block"]["header"][2:])
    own = changed(body, ("block", "header"), "0x" + (raw[:-1] + bytes([raw[-1] ^ 1])).hex())
    own = changed(
        own, ("block", "hash"), "0x" + keccak(bytes.fromhex(own["block"]["header"][2:])).hex()
    )
    assert failed(own) == ["trusted-block"]
    high = body["approval"]["signature"]
    order = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
    turned = f"{order - int(high[66:130], 16):064x}" + ("1c" if high.endswith("1b") else "1b")
    assert "signature" in failed(changed(body, ("approval", "signature"), high[:66] + turned))


def test_parts_of_two_certificates_do_not_fit() -> None:
    first, second = (VECTORS[name] for name in PROFILES)
    for part in ("kuro", "approval", "transaction", "receipt", "block"):
        assert failed(changed(first, (part,), second[part])), part


@pytest.mark.parametrize("name", PROFILES)
def test_the_command_needs_no_network(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("no network here")

    monkeypatch.setattr(socket, "socket", refuse)
    body, file = VECTORS[name], tmp_path / "c.json"
    file.write_text(json.dumps(body))
    run = CliRunner()
    good = body["block"]["hash"]
    told = run.invoke(app, ["verify-certificate", str(file), "--block-hash", good])
    assert told.exit_code == 0 and "VALID" in told.output
    told = run.invoke(app, ["verify-certificate", str(file), "--block-hash", "0x" + "11" * 32])
    assert told.exit_code == 1 and "VOID" in told.output and "trusted-block" in told.output
    told = run.invoke(app, ["verify-certificate", str(file)])
    assert told.exit_code == 2 and "NOT ANCHORED" in told.output and good in told.output
    told = run.invoke(app, ["verify-certificate", str(file), "--json", "--block-hash", good])
    assert json.loads(told.stdout)["verdict"] == "VALID"
    told = run.invoke(app, ["verify-certificate", str(file), "--signer", "0x" + "11" * 20])
    assert told.exit_code == 1 and "trusted-signer" in told.output


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"null", b"\xff\xfe", b"[" * 100_000, b'{"format": 1}', b" " * 5_000_000],
)
def test_what_is_no_certificate_cannot_be_told(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "c.json"
    file.write_bytes(content)
    told = CliRunner().invoke(app, ["verify-certificate", str(file)])
    assert told.exit_code != 0 and "is no certificate" in str(told.exception)


@pytest.mark.parametrize("name", PROFILES)
def test_it_is_small_and_readable(name: str) -> None:
    body = VECTORS[name]
    assert len(json.dumps(body)) < 40_000
    raw = bytes.fromhex(body["transaction"]["raw"][2:])
    assert read_transaction(raw).chain_id == body["block"]["chainId"]
