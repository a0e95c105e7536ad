"""`orchestrator audit --kms`: reading what CloudTrail delivers, and telling what was found."""

from __future__ import annotations

import gzip
import zlib
from html import escape
from pathlib import Path
from typing import Any

import orjson

from orchestrator.core.auditing.checking import Audit
from orchestrator.core.auditing.cloudtrail import (
    KMS_MEANING,
    KmsFindings,
    KmsKind,
    Signed,
    moment,
)
from schemas.base import Record
from schemas.requests import ApprovalSigned

SHOWN = 200


class ListeningAudit(Audit):
    """Keeps every `ApprovalSigned` beside the audit's own books."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self.signed: list[Signed] = []

    def feed(self, record: Record) -> None:
        fact = record.fact
        if isinstance(fact, ApprovalSigned):
            subject = f"{fact.request_key}:{fact.attempt}"
            self.signed.append(
                Signed(record.at_seconds, fact.digest, subject, str(record.position))
            )
        super().feed(record)


def read_records(paths: list[Path]) -> list[Any]:
    """CloudTrail's records from files: a list, `{"Records": [...]}`, the output of `aws cloudtrail
    lookup-events`, each also gzipped. Raises ValueError that names the file."""
    found: list[Any] = []
    for path in paths:
        try:
            content = path.read_bytes()
            if content.startswith(b"\x1f\x8b"):
                content = gzip.decompress(content)
            document = orjson.loads(content)
            if isinstance(document, dict) and isinstance(document.get("Events"), list):
                document = [orjson.loads(item["CloudTrailEvent"]) for item in document["Events"]]
            records = document.get("Records") if isinstance(document, dict) else document
        except (OSError, EOFError, zlib.error, KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}: cannot be read: {error}") from None
        if not isinstance(records, list):
            raise ValueError(f"{path}: neither a list of records nor {{'Records': [...]}}")
        found += records
    return found


def as_json(found: KmsFindings, tolerance_seconds: int, guard: str | None) -> dict[str, Any]:
    counts = {kind: sum(item[0] is kind for item in found.found) for kind in KmsKind}
    return {
        "signEvents": found.events,
        "refusedByKms": found.refused_by_kms,
        "ofOtherKeys": found.other_keys,
        "factsOfThatTime": found.facts,
        "from": None if found.first is None else moment(found.first),
        "to": None if found.last is None else moment(found.last),
        "toleranceSeconds": tolerance_seconds,
        "principals": dict(found.principals),
        "guardNotCompared": guard,
        "discrepancies": len(found.found),
        "claims": [
            {
                "kind": kind,
                "claim": KMS_MEANING[kind],
                "judged": kind in found.judged,
                "found": counts[kind],
            }
            for kind in KmsKind
        ],
        "findings": [
            {"kind": kind, "subject": subject, "detail": detail}
            for kind, subject, detail in found.found[:SHOWN]
        ],
    }


def as_text(body: dict[str, Any]) -> str:
    lines = [
        f"KMS: {body['signEvents']} Sign events from {body['from']} to {body['to']}, "
        f"{body['factsOfThatTime']} facts of that time, {body['refusedByKms']} calls that KMS "
        f"refused, {body['ofOtherKeys']} events of other keys"
    ]
    lines += [f"  by {name}: {count}" for name, count in body["principals"].items()]
    for claim in body["claims"]:
        mark = "FAIL" if claim["found"] else "ok  " if claim["judged"] else "----"
        told = f": {claim['kind']} {claim['found']} times" if claim["found"] else ""
        lines.append(
            f"  {mark} {claim['claim']}{told}" + ("" if claim["judged"] else " (unjudged)")
        )
    if body["guardNotCompared"]:
        lines.append(f"  the guard's record was not compared: {body['guardNotCompared']}")
    lines += [f"{item['kind']} {item['subject']}: {item['detail']}" for item in body["findings"]]
    return "\n".join(lines)


def as_html(body: dict[str, Any]) -> str:
    return f"<h2>CloudTrail</h2><pre>{escape(as_text(body))}</pre>"
