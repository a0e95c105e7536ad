"""CloudTrail's events against the facts: each discrepancy, made, is found and named."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest

from orchestrator.auditing.kms import as_html, as_json, as_text, read_records
from orchestrator.core.auditing.cloudtrail import (
    KmsFindings,
    KmsKind,
    Signed,
    compare,
    moment,
    of_key,
    sign_events,
)

BEGIN = 1_800_000_000
ROLE = "arn:aws:iam::111122223333:role/stablecoin-orchestrator-sign"
KEY = "arn:aws:kms:eu-central-1:111122223333:key/1234abcd-12ab-34cd-56ef-1234567890ab"


def record(number: int, after: int, **changes: Any) -> dict[str, Any]:
    """As CloudTrail writes it, without what does not matter here."""
    return {
        "eventVersion": "1.11",
        "eventSource": "kms.amazonaws.com",
        "eventName": "Sign",
        "eventID": f"event-{number}",
        "requestID": f"request-{number}",
        "eventTime": moment(BEGIN + after),
        "userIdentity": {
            "type": "AssumedRole",
            "arn": f"arn:aws:sts::111122223333:assumed-role/stablecoin-orchestrator-sign/{number}",
            "sessionContext": {"sessionIssuer": {"type": "Role", "arn": ROLE}},
        },
        "requestParameters": {
            "keyId": "alias/issuer",
            "messageType": "DIGEST",
            "signingAlgorithm": "ECDSA_SHA_256",
        },
        "resources": [{"ARN": KEY, "type": "AWS::KMS::Key"}],
        "responseElements": None,
        **changes,
    }


def fact(number: int, after: int) -> Signed:
    return Signed(
        BEGIN + after, "0x" + f"{number:064x}", f"mint-{number}:1", f"requests/0/{number}"
    )


RECORDS = [record(number, number * 10) for number in range(6)]
FACTS = [fact(number, number * 10 + 1) for number in range(6)]
CLAIMED = {item.digest for item in FACTS}


def found(records: list[Any], facts: list[Signed], **options: Any) -> KmsFindings:
    events, _ = sign_events(records)
    given = {"tolerance_seconds": 5, "principals": {ROLE}, "claimed": CLAIMED, **options}
    return compare(of_key(events, "alias/issuer"), facts, **given)


def kinds(findings: KmsFindings) -> list[KmsKind]:
    return [item[0] for item in findings.found]


def test_clean():
    findings = found(RECORDS, FACTS)
    assert findings.found == []
    assert (findings.events, findings.facts) == (6, 6)
    assert findings.judged == set(KmsKind)


def test_a_signature_without_its_fact_is_named_with_event_and_time():
    [(kind, subject, _)] = found([*RECORDS, record(77, 25)], FACTS).found
    assert kind is KmsKind.SIGN_WITHOUT_FACT
    assert "at 2027" in subject and moment(BEGIN + 25) in subject and "event-77" in subject


def test_two_signatures_and_one_fact_leave_one_over():
    """In the very same second as an honest one: the count tells."""
    assert kinds(found([*RECORDS, record(77, 20)], FACTS)) == [KmsKind.SIGN_WITHOUT_FACT]


def test_a_fact_without_its_event():
    [(kind, subject, _)] = found([r for r in RECORDS if r["eventID"] != "event-3"], FACTS).found
    assert (kind, subject) == (KmsKind.FACT_WITHOUT_SIGN, "mint-3:1")


def test_facts_of_another_time_than_the_files_are_not_judged():
    findings = found(RECORDS[2:4], FACTS)
    assert findings.found == [] and findings.facts == 2


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        ({"userIdentity": {"arn": "arn:aws:iam::9:user/eve"}}, KmsKind.SIGN_BY_OTHERS),
        ({"userIdentity": None}, KmsKind.SIGN_BY_OTHERS),
        (
            {
                "requestParameters": {
                    "keyId": "alias/issuer",
                    "messageType": "RAW",
                    "signingAlgorithm": "ECDSA_SHA_256",
                }
            },
            KmsKind.SIGN_OTHERWISE,
        ),
        (
            {
                "requestParameters": {
                    "keyId": "alias/issuer",
                    "messageType": "DIGEST",
                    "signingAlgorithm": "ECDSA_SHA_384",
                }
            },
            KmsKind.SIGN_OTHERWISE,
        ),
        ({"requestParameters": {"keyId": "alias/issuer"}}, KmsKind.SIGN_OTHERWISE),
    ],
)
def test_who_and_how(change, kind):
    [(told, subject, _)] = found([*RECORDS[:5], record(5, 50, **change)], FACTS).found
    assert told is kind and "event-5" in subject


def test_a_digest_that_the_guard_never_saw():
    [(kind, subject, _)] = found(RECORDS, FACTS, claimed=CLAIMED - {FACTS[2].digest}).found
    assert (kind, subject) == (KmsKind.FACT_WITHOUT_CLAIM, "mint-2:1")


def test_what_is_not_given_is_not_judged_and_says_so():
    findings = found(RECORDS, FACTS, principals=(), claimed=None)
    body = as_json(findings, 5, "SIGNING_GUARD_URL is not set")
    text = as_text(body)
    assert text.count("(unjudged)") == 2
    assert "SIGNING_GUARD_URL is not set" in text and ROLE in text


def test_the_tolerance_is_a_bound():
    assert found(RECORDS, FACTS, tolerance_seconds=1).found == []
    assert set(kinds(found(RECORDS, FACTS, tolerance_seconds=0))) == {
        KmsKind.SIGN_WITHOUT_FACT,
        KmsKind.FACT_WITHOUT_SIGN,
    }


def test_refused_calls_repeats_and_other_calls_are_no_signatures():
    others = [
        record(90, 12, errorCode="ThrottlingException"),
        record(91, 12, eventName="GetPublicKey"),
        record(92, 12, eventSource="else.amazonaws.com"),
        RECORDS[0],
    ]
    events, refused = sign_events([*RECORDS, *others])
    assert len(events) == 6 and refused == 1
    assert found([*RECORDS, *others], FACTS).found == []


def test_a_key_is_known_by_every_name_it_is_given():
    """By ARN where the service names an alias; and a key of somebody else is not ours."""
    by_arn = {"messageType": "DIGEST", "signingAlgorithm": "ECDSA_SHA_256", "keyId": KEY}
    hidden = record(77, 25, requestParameters=by_arn)
    other = record(
        78,
        25,
        requestParameters={**by_arn, "keyId": "alias/x"},
        resources=[{"ARN": KEY[:-1] + "c"}],
    )
    [(kind, subject, _)] = found([*RECORDS, hidden, other], FACTS).found
    assert kind is KmsKind.SIGN_WITHOUT_FACT and "event-77" in subject
    events, _ = sign_events([hidden])
    assert of_key(events, KEY) == of_key(events, KEY.rpartition("/")[2]) == events
    assert of_key(events, None) == events and of_key(events, "alias/none") == []


@pytest.mark.parametrize("missing", ["eventID", "eventTime"])
def test_a_record_that_lacks_what_all_have_is_an_error(missing):
    broken = {name: value for name, value in record(1, 1).items() if name != missing}
    with pytest.raises(ValueError, match="cannot be read"):
        sign_events([broken])
    with pytest.raises(ValueError, match="no JSON object"):
        sign_events(["text"])


def test_every_way_that_cloudtrail_delivers_is_read(tmp_path):
    plain, wrapped, zipped, looked_up = (tmp_path / name for name in "abcd")
    plain.write_text(json.dumps(RECORDS))
    wrapped.write_text(json.dumps({"Records": RECORDS}))
    zipped.write_bytes(gzip.compress(wrapped.read_bytes()))
    events = [{"CloudTrailEvent": json.dumps(item)} for item in RECORDS]
    looked_up.write_text(json.dumps({"Events": events}))
    for path in (plain, wrapped, zipped, looked_up):
        assert read_records([path]) == RECORDS
    assert len(read_records([plain, zipped])) == 12


@pytest.mark.parametrize("content", [b"", b"{}", b"3", b"\x1f\x8bcut", b'{"Records": 1}', b"nope"])
def test_a_bad_file_is_named(tmp_path, content):
    path = tmp_path / "events.json"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"events\.json"):
        read_records([path])
    with pytest.raises(ValueError, match="missing"):
        read_records([tmp_path / "missing"])


def test_the_page_escapes_what_others_wrote():
    eve = record(5, 50, userIdentity={"arn": "<script>"})
    told = as_html(as_json(found([*RECORDS[:5], eve], FACTS), 5, None))
    assert "<script>" not in told and "&lt;script&gt;" in told
