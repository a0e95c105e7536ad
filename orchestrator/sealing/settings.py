"""The settings of seals, where one line of text does not do."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Annotated, Any

from pydantic import BeforeValidator

_S3 = re.compile(r"s3://(?P<bucket>[a-z0-9][a-z0-9.-]{1,61}[a-z0-9])(?:/(?P<prefix>[^\s,]*))?")
_FILE = "file:"
FORMS = "file:/path/to/seals.jsonl and s3://bucket/prefix, comma-separated"


def checked_anchors(text: str) -> tuple[str, ...]:
    """Each once, in their order. Raises ValueError for what is neither a file nor a bucket."""
    anchors = tuple(dict.fromkeys(part.strip() for part in text.split(",") if part.strip()))
    for anchor in anchors:
        if file_of(anchor) is None and bucket_of(anchor) is None:
            raise ValueError(f"{anchor[:200]!r} is no anchor; give {FORMS}")
    return anchors


def file_of(anchor: str) -> PurePath | None:
    """The path of a `file:` anchor, which must be absolute: a job's folder may be another one."""
    path = PurePath(anchor.removeprefix(_FILE).removeprefix("//"))
    return path if anchor.startswith(_FILE) and path.is_absolute() else None


def bucket_of(anchor: str) -> tuple[str, str] | None:
    """Bucket and prefix of an `s3://` anchor."""
    found = _S3.fullmatch(anchor)
    return None if found is None else (found["bucket"], found["prefix"] or "")


def _anchors(value: Any) -> Any:
    return checked_anchors(value) if isinstance(value, str) else value


Anchors = Annotated[tuple[str, ...], BeforeValidator(_anchors)]
