"""The last door before a log line leaves: no secret of the configuration passes, whoever wrote it.

Our own lines hold none. Libraries name whole URLs when they fail, and people put tokens in those.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from itertools import chain
from pathlib import Path
from urllib.parse import parse_qsl, unquote, urlsplit

SHORTEST = 8
"""Characters; what is shorter stands in too many words to be taken out of them."""
SHORTEST_IN_PATH = 12
MARK = "[concealed]"

_URLS = re.compile(r"(DATABASE_URL|\w+_RPC|\w*_(URL|ENDPOINT)(_KMS)?|KURO_\w+_URL)")
_PLAIN = re.compile(
    r"(AWS_(ACCESS_KEY_ID|SECRET_ACCESS_KEY|SESSION_TOKEN)|RELAYER_PRIVATE_KEY_\d+"
    r"|KAFKA_SASL_PASSWORD|KAFKA_SSL_KEY_PASSWORD"
    r"|ORCHESTRATOR_API_TOKEN|API_TOKENS|OTEL_EXPORTER_OTLP(_TRACES)?_HEADERS)"
)


def secrets_in(environ: Mapping[str, str]) -> frozenset[str]:
    """What of the settings must never be written, also in the files that they name."""
    found: set[str] = set()
    for name, given in environ.items():
        kind, value = _kind(name.removesuffix("_FILE")), given
        if kind is not None and name.endswith("_FILE"):
            value = _text_of(given)
        if kind is _URLS:
            found.update(chain.from_iterable(map(_of_url, value.split(","))))
        elif kind is _PLAIN:
            parts = re.split(r"[\s,=:]+", unquote(value))
            found.update(part.removeprefix("0x") for part in parts)
    return frozenset(text for text in found if len(text) >= SHORTEST)


def _text_of(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, ValueError):
        return ""


def _kind(name: str) -> re.Pattern[str] | None:
    return next((kind for kind in (_PLAIN, _URLS) if kind.fullmatch(name)), None)


def _of_url(url: str) -> Iterable[str]:
    """Password, values of the query, and what in the path looks like a token."""
    try:
        parts = urlsplit(url.strip())
        password = parts.password or ""
    except ValueError:
        return
    yield from {password, unquote(password)}
    for _, value in parse_qsl(parts.query):
        yield value
    for piece in parts.path.split("/"):
        if len(piece) >= SHORTEST_IN_PATH and any(letter.isdigit() for letter in piece):
            yield piece


class Concealing:
    """Takes known secrets out of a text, in whatever case they are written."""

    def __init__(self, secrets: Iterable[str]) -> None:
        longest_first = sorted(secrets, key=len, reverse=True)
        pattern = "|".join(re.escape(secret) for secret in longest_first)
        self._pattern = re.compile(pattern, re.IGNORECASE) if pattern else None

    def __call__(self, text: str) -> str:
        return text if self._pattern is None else self._pattern.sub(MARK, text)
