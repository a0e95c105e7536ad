"""Records of earlier schema versions, read as today's facts.

The log is kept for ever, so what was written once must be readable for ever. A kind whose fields
change in a way that old records do not fit gets the next `version`, and a step here that lifts a
body of the version before. Adding an optional field needs neither. The id that a record carries
must still follow from the lifted content: whoever knew the fact by it knows it still.

Steps are never changed once released: `tests/golden` replays logs of every released version.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

Body = dict[str, Any]

STEPS: dict[tuple[str, int], Callable[[Body], Body]] = {}
"""By kind and version: from that version to the next. `kind`, `id` and `at` are not in the body."""


def lifted(kind: str, version: int, body: Body, *, newest: int) -> Body:
    """The body as version `newest` has it. Raises ValueError for a version that is not known."""
    if not 1 <= version <= newest:
        raise ValueError(
            f"written in version {version} of its schema, this code reads 1 to {newest}: read it "
            "with the version that wrote it, or a newer one"
        )
    for number in range(version, newest):
        body = STEPS[kind, number](body)
    return body
