"""Bearer tokens of the HTTP API: made once, shown once, kept as hashes. Pure but for `new_token`.

A token carries 256 random bits, so its plain SHA-256 can stand in a configuration: there is nothing
to guess, which is what slow password hashes are for.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

PREFIX = "sco_"
"""Makes a leaked token recognisable to scanners of repositories and logs."""

_ENTRY = re.compile(r"([A-Za-z0-9._-]{1,64}):([a-z]+):([0-9a-fA-F]{64})")


class Scope(StrEnum):
    READ = "read"
    OPERATE = "operate"
    """Includes reading."""


@dataclass(frozen=True, slots=True)
class Token:
    """What is kept of a token: whose it is, what it may do, and its SHA-256 in lower-case hex."""

    name: str
    scope: Scope
    sha256: str

    def allows(self, scope: Scope) -> bool:
        return scope is Scope.READ or self.scope is Scope.OPERATE

    def entry(self) -> str:
        """As it stands in API_TOKENS."""
        return f"{self.name}:{self.scope}:{self.sha256}"


def new_token() -> str:
    return PREFIX + secrets.token_urlsafe(32)


def sha256_of(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def parse_tokens(text: str) -> tuple[tuple[Token, ...], list[str]]:
    """The tokens of a list (by comma, space or line; `#` begins a comment), and what is wrong with
    the others, by their number: an entry may hold a secret by mistake, so it is never repeated."""
    lines = (line.partition("#")[0] for line in text.splitlines())
    entries = [part for line in lines for part in re.split(r"[\s,]+", line) if part]
    tokens: list[Token] = []
    problems: list[str] = []
    for number, entry in enumerate(entries, 1):
        found = _ENTRY.fullmatch(entry)
        if found is None or found[2] not in list(Scope):
            shape = "name:read:<sha256> or name:operate:<sha256>, as `orchestrator token` prints it"
            problems.append(f"entry {number} is not {shape}")
            continue
        if any(token.name == found[1] for token in tokens):
            problems.append(f"entry {number} has the name of an earlier one")
        tokens.append(Token(found[1], Scope(found[2]), found[3].lower()))
    return tuple(tokens), problems


def find_token(tokens: Iterable[Token], given: str) -> Token | None:
    """Compares with every hash in constant time: how long it takes tells nothing."""
    digest = sha256_of(given)
    found: Token | None = None
    for token in tokens:
        if hmac.compare_digest(token.sha256, digest):
            found = token
    return found
