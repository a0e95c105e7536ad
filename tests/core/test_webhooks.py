"""Webhooks' pure parts: signatures against the standard's own example, and what is refused."""

from __future__ import annotations

import json
from ipaddress import ip_address
from pathlib import Path

import pytest

from orchestrator.config import Settings
from orchestrator.errors import ConfigurationError
from projections.webhooks.delivering import delay_seconds
from projections.webhooks.endpoints import is_forbidden, load_endpoints
from projections.webhooks.sending import answer_of
from projections.webhooks.signing import BadSecret, headers, secret_bytes, signature
from tests.feed.receiving import SECRET, documented_verify


def test_the_signature_of_the_standards_example():
    """https://github.com/standard-webhooks/standard-webhooks, the libraries' common test vector."""
    found = signature(
        secret_bytes("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"),
        "msg_p5jXN8AQM9LWM0D4loKWxJek",
        1614265330,
        b'{"test": 2432232314}',
    )
    assert found == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


def test_the_documented_verification_takes_ours_and_nothing_else(monkeypatch):
    verify = documented_verify()
    monkeypatch.setattr("time.time", lambda: 1_760_000_100.0)
    old = secret_bytes("whsec_" + "b2xk" * 8)
    given = headers([old, secret_bytes(SECRET)], "requests-1-2-ab", 1_760_000_000, b"{}")
    assert verify(SECRET, given, b"{}") == "requests-1-2-ab"
    assert verify("whsec_" + "b2xk" * 8, given, b"{}")
    for wrong in (
        {**given, "webhook-id": "requests-1-3-ab"},
        {**given, "webhook-timestamp": "1760000001"},
        {**given, "webhook-timestamp": "1759999000"},
        {**given, "webhook-timestamp": "soon"},
        {**given, "webhook-signature": "v1,AAAA"},
        {**given, "webhook-signature": given["webhook-signature"].replace("v1,", "v0,")},
    ):
        with pytest.raises(ValueError):
            verify(SECRET, wrong, b"{}")
    with pytest.raises(ValueError):
        verify(SECRET, given, b"{ }")


@pytest.mark.parametrize("text", ["", "whsec_", "whsec_!", "whsec_c2hvcnQ=", "c2VjcmV0" * 4])
def test_weak_secrets_are_refused_and_not_repeated(text):
    with pytest.raises(BadSecret) as caught:
        secret_bytes(text)
    assert len(text) < 7 or text not in str(caught.value)


GOOD = {"name": "a", "url": "https://a.example/hook", "secret": SECRET}


def load(tmp_path: Path, *items: object, **settings: object):
    path = tmp_path / "webhooks.json"
    path.write_text(json.dumps(list(items)))
    return load_endpoints(Settings(webhooks_file=str(path), **settings), {"HOOK": SECRET})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"url": "http://a.example/"}, "https://"),
        ({"url": "https://user:hunter2@a.example/"}, "no user"),
        ({"url": "https://169.254.169.254/latest"}, "link-local"),
        ({"url": "https://[fe80::1]/"}, "link-local"),
        ({"url": "https://[::ffff:169.254.169.254]/"}, "link-local"),
        ({"url": "https:///hook"}, "needs a host"),
        ({"name": "A b"}, "name:"),
        ({"secret": "whsec_c2hvcnQ="}, "24 to 64 bytes"),
        ({"secretEnv": "HOOK"}, "exactly one"),
        ({"topic": "nonsense"}, "topic: 'nonsense'"),
        ({"from": "yesterday"}, "from:"),
        ({"refusals": [200]}, "refusals:"),
        ({"attempts": 0}, "attempts:"),
        ({"timeoutSeconds": True}, "timeoutSeconds:"),
        ({"colour": "red"}, "unknown fields colour"),
    ],
)
def test_what_cannot_work_is_refused_at_the_start(tmp_path, change, says):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, {**GOOD, **change})
    assert says in str(caught.value)
    assert "hunter2" not in str(caught.value) and SECRET not in str(caught.value)


def test_all_problems_are_told_at_once(tmp_path):
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, GOOD, GOOD, {**GOOD, "url": "x"}, "text")
    assert len(caught.value.problems) == 3


def test_a_secret_may_stand_elsewhere(tmp_path):
    file = tmp_path / "secret"
    file.write_text(f"{SECRET}\n{SECRET}\n")
    item = {name: value for name, value in GOOD.items() if name != "secret"}
    [first, second] = load(
        tmp_path, {**item, "secretEnv": "HOOK"}, {**item, "name": "b", "secretFile": str(file)}
    )
    assert first.secrets == (secret_bytes(SECRET),) and len(second.secrets) == 2
    assert SECRET not in repr(first) and load(tmp_path) == ()


def test_private_networks_are_allowed_and_metadata_services_are_not():
    assert not any(map(is_forbidden, (str(ip_address(0x0A000001)), "127.0.0.1", "1.1.1.1")))
    assert all(map(is_forbidden, ("169.254.169.254", "0.0.0.0", "fd00:ec2::254", "fe80::1%eth0")))


def test_delays_grow_to_a_bound_and_differ_by_chance():
    assert [delay_seconds(n, 300, 1.0) for n in (1, 2, 3, 20, 10**6)] == [1, 2, 4, 300, 300]
    assert delay_seconds(1, 300, 0.0) == 0.5


def test_only_success_is_success():
    assert [answer_of(status, None).problem is None for status in (200, 204, 301, 404, 500)] == [
        True,
        True,
        False,
        False,
        False,
    ]
    assert answer_of(503, "7").wait_seconds == 7
    assert answer_of(503, "Wed, 21 Oct 2026 07:28:00 GMT").wait_seconds is None
    assert answer_of(500, "7").wait_seconds is None
