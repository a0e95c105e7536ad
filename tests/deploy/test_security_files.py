"""The policies give no more than the code needs, and what the code needs."""

from __future__ import annotations

import json
import re

from orchestrator.kafka_rights import RIGHTS, listed, rules, script
from schemas.topics import TOPICS
from tests.tidy.project import ROOT

OWNING = ("following.py", "lane_owner.py", "clearing.py", "sequencing.py")
FOLDER = ROOT / "deploy" / "security"


def policy(name: str) -> list[dict]:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))["Statement"]


def test_the_signing_identity_may_read_the_key_and_sign_digests_and_nothing_else():
    source = (ROOT / "orchestrator/adapters/kms.py").read_text(encoding="utf-8")
    called = re.findall(r'_call\(\s*"([a-z_]+)"', source)
    used = {"kms:" + name.title().replace("_", "") for name in called}
    statements = policy("kms-policy.json")
    assert {statement["Action"] for statement in statements} == used
    [signing] = [s for s in statements if s["Action"] == "kms:Sign"]
    assert signing["Condition"]["StringEquals"] == {
        "kms:SigningAlgorithm": "ECDSA_SHA_256",
        "kms:MessageType": "DIGEST",
    }
    assert all(statement["Resource"].startswith("arn:aws:kms:") for statement in statements)


def test_the_key_is_used_by_one_role_and_denied_to_all_others():
    by_name = {statement["Sid"]: statement for statement in policy("kms-key-policy.json")}
    assert "kms:Sign" not in by_name["AdministratorsManageAndNeverSign"]["Action"]
    role = by_name["OnlyTheSigningRoleUsesTheKey"]["Principal"]["AWS"]
    denied = by_name["NobodyElseSigns"]
    assert denied["Effect"] == "Deny" and denied["Action"] == "kms:Sign"
    assert denied["Condition"]["ArnNotEquals"]["aws:PrincipalArn"] == role


def test_the_access_control_lists_are_those_of_the_code():
    """Written anew by `orchestrator topics acls`, and with `--sh`."""
    text = (FOLDER / "kafka-acls.json").read_text(encoding="utf-8")
    assert text == listed("orchestrator")
    assert (FOLDER / "kafka-acls.sh").read_text(encoding="utf-8") == script("orchestrator")
    named = {rule["resourceName"] for rule in json.loads(text) if rule["resourceType"] == "TOPIC"}
    assert named == {*TOPICS}


def writers(topic: str) -> set[str]:
    return {
        rule.principal.removeprefix("User:orchestrator-")
        for rule in rules("orchestrator")
        if (rule.operation, rule.name) == ("WRITE", topic)
    }


def test_who_may_write_what_decides():
    """`repair` beside them, which is kept sealed."""
    assert writers("kuro.events") == writers("evm.events") == {"ingest", "repair"}
    assert writers("controls") == {"operator", "repair", "sign"}  # sign: the gate's pauses
    assert writers("requests") == {"decide", "sign", "repair"}
    assert writers("lanes") == {"decide", "relay", "repair"}
    assert writers("dead-letters") == {"ingest", "decide", "relay", "repair"}


def test_no_role_may_delete_or_alter_and_owners_alone_have_transactions():
    allowed = rules("orchestrator")
    assert {rule.operation for rule in allowed} == {
        *("READ", "WRITE", "CREATE", "DESCRIBE", "DESCRIBE_CONFIGS")
    }
    owners = {rule.principal: rule for rule in allowed if rule.resource == "TRANSACTIONAL_ID"}
    assert {*owners} == {"User:orchestrator-ingest", "User:orchestrator-relay"}
    assert all(rule.pattern == "PREFIXED" for rule in owners.values())


def test_every_transactional_id_of_the_code_begins_as_a_rule_allows():
    source = "".join((ROOT / "streams").joinpath(name).read_text() for name in OWNING)
    names = set(re.findall(r'\.owned\(f"([a-z]+\.)', source))
    assert names == {name for rights in RIGHTS.values() for name in rights.owns}
    elsewhere = [
        path.name
        for path in (ROOT / "streams").glob("*.py")
        if ".owned(" in path.read_text() and path.name not in OWNING
    ]
    assert elsewhere == []


def test_the_sealing_identity_signs_texts_and_adds_to_the_bucket_and_nothing_else():
    adapters = ROOT / "orchestrator/adapters"
    called = {
        file: set(re.findall(r'_call\(\s*"([a-z_0-9]+)"', (adapters / file).read_text()))
        for file in ("kms_seal.py", "seal_s3.py")
    }
    assert called["kms_seal.py"] == {"get_public_key", "sign"}
    assert called["seal_s3.py"] == {"get_object", "put_object", "list_objects_v2"}
    by_name = {statement["Sid"]: statement for statement in policy("kms-seal-policy.json")}
    allowed = {name: statement["Action"] for name, statement in by_name.items()}
    assert allowed == {
        "ReadTheSealsPublicKey": "kms:GetPublicKey",
        "SignTextsOnly": "kms:Sign",
        "FindSeals": "s3:ListBucket",
        "ReadSealsAndAddThem": ["s3:GetObject", "s3:PutObject"],
    }
    condition = by_name["SignTextsOnly"]["Condition"]["StringEquals"]
    assert condition == {"kms:SigningAlgorithm": "ECDSA_SHA_256", "kms:MessageType": "RAW"}


def test_the_api_looks_at_seals_and_does_nothing_else_in_aws():
    statements = policy("s3-seal-reading-policy.json")
    assert {statement["Action"] for statement in statements} == {"s3:ListBucket", "s3:GetObject"}
    assert all(s["Resource"].startswith("arn:aws:s3:::SEAL-BUCKET") for s in statements)


def test_who_seals_reads_the_log_and_writes_no_topic():
    mine = [rule for rule in rules("orchestrator") if rule.principal == "User:orchestrator-seal"]
    assert {(rule.resource, rule.operation) for rule in mine} == {
        ("TOPIC", "READ"),
        ("TOPIC", "DESCRIBE"),
        ("TOPIC", "DESCRIBE_CONFIGS"),
    }
    roles = (FOLDER / "postgres-roles.sql").read_text(encoding="utf-8")
    assert "seal" not in roles, "it has no business in a database"


def test_the_key_of_seals_signs_texts_for_one_role_and_the_bucket_is_only_added_to():
    by_name = {statement["Sid"]: statement for statement in policy("kms-seal-key-policy.json")}
    assert "kms:Sign" not in by_name["AdministratorsManageAndNeverSign"]["Action"]
    role = by_name["OnlyTheSealingRoleUsesTheKey"]["Principal"]["AWS"]
    denied = by_name["NobodyElseSigns"]
    assert denied["Condition"]["ArnNotEquals"]["aws:PrincipalArn"] == role
    digests = by_name["DigestsAreSignedForNobody"]
    assert (digests["Effect"], digests["Principal"]) == ("Deny", "*")
    assert digests["Condition"] == {"StringNotEquals": {"kms:MessageType": "RAW"}}
    bucket = {statement["Sid"]: statement for statement in policy("s3-seal-bucket-policy.json")}
    allowed: dict[str, set[str]] = {}
    for found in bucket.values():
        if found["Effect"] == "Allow":
            actions = found["Action"] if isinstance(found["Action"], list) else [found["Action"]]
            allowed.setdefault(found["Principal"]["AWS"], set()).update(actions)
    looking = role.replace("-seal", "-api")
    assert allowed == {
        role: {"s3:ListBucket", "s3:GetObject", "s3:PutObject"},
        looking: {"s3:ListBucket", "s3:GetObject"},
    }
    assert role not in json.dumps(policy("kms-key-policy.json")), "who seals never mints"
    assert bucket["NobodyOverwrites"]["Condition"] == {"Null": {"s3:if-none-match": "true"}}
    assert "s3:DeleteObject" in bucket["NobodyDeletes"]["Action"]
