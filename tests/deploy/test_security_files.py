"""The policies give no more than the code needs, and what the code needs."""

from __future__ import annotations

import json
import re

from tests.tidy.project import ROOT

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
