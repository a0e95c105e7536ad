"""What a log line is about has one name in all of the service, and the request's trace."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys

import pytest

from orchestrator.core.belonging import trace_id
from orchestrator.logs import named
from schemas.evm import EventName
from tests.core.facts import CHAIN, WALLETS, failed
from tests.projections.facts import lane_story
from tests.tidy.project import ROOT, python_files

PROGRAM = """
import structlog
from orchestrator.logs import set_up
from tests.core.facts import failed
set_up("INFO")
log = structlog.get_logger("streams.example").bind(lane="5920:0xAb")
log.debug("not shown", fact=failed())
log.warning("request ended", fact=failed())
"""


def line(**fields):
    return named(None, "warning", {"event": "it happened", **fields})


def test_a_fact_is_taken_apart():
    fact = failed()
    told = line(fact=fact)
    assert (told["fact"], told["kind"], told["request"]) == (fact.id, "RequestFailed", fact.key)
    assert told["trace_id"] == trace_id(fact.key)
    assert told["reason"] == fact.reason


def test_a_transaction_tells_its_request_and_never_its_bytes():
    sent = lane_story()[0]
    told = line(fact=sent)
    assert told["request"] == "m-1" and told["trace_id"] == trace_id("m-1")
    assert (told["chain_id"], told["wallet"], told["nonce"]) == (
        sent.chain_id,
        sent.wallet,
        sent.nonce,
    )
    assert told["tx_hash"] == sent.tx_hash
    assert "raw" not in told


def test_lanes_relays_and_requests_are_named_alike():
    told = line(lane=f"{CHAIN}:{WALLETS[0]}", relay="redeem:5920:r-1:2")
    assert (told["chain_id"], told["wallet"]) == (CHAIN, WALLETS[0])
    assert told["request"] == "redeem:5920:r-1"
    assert "lane" not in told and "relay" not in told
    assert line(request="m-1")["trace_id"] == trace_id("m-1")
    assert "trace_id" not in line() and "request" not in line(request=None)
    assert line(kind="x", event=EventName.MINTED)["event"] == EventName.MINTED


def run(stderr: int) -> bytes:
    command, environment = [sys.executable, "-c", PROGRAM], os.environ | {"TERM": "xterm"}
    ended = subprocess.run(command, cwd=ROOT, env=environment, stderr=stderr, check=True)
    return ended.stderr or b""


def test_a_process_writes_json_and_for_a_person_words():
    [text] = run(subprocess.PIPE).decode().splitlines()
    told = json.loads(text)
    fact = failed()
    assert told["event"] == "request ended" and told["level"] == "warning"
    assert (told["fact"], told["trace_id"], told["chain_id"]) == (fact.id, trace_id(fact.key), 5920)
    assert told["logger"] == "streams.example" and told["timestamp"].endswith("Z")

    ours, theirs = pty.openpty()
    run(theirs)
    os.close(theirs)
    text = os.read(ours, 65536).decode()
    os.close(ours)
    assert "request ended" in text and "\x1b[" in text and not text.startswith("{")


CALL = re.compile(
    r"\b(?:log|_log|told)\.(?:bind|debug|info|warning|error)\((?:[^()]|\([^()]*\))*\)", re.S
)
OTHER_NAMES = re.compile(r"\b(chain|key|request_key|hash|transaction|error|trace_parent)=")


@pytest.mark.parametrize("room", ["streams", "projections", "orchestrator"])
def test_no_line_names_these_things_otherwise(room):
    found, calls = [], 0
    for path in python_files():
        if path.parts[0] == room and path.parts[1] != "dev":
            for call in CALL.findall((ROOT / path).read_text(encoding="utf-8")):
                calls += 1
                found += [f"{path}: {call}"] if OTHER_NAMES.search(call) else []
    assert calls > 5
    assert found == []
