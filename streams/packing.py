"""A request's state as bytes and back, for requests that are set aside until a fact asks for them.

Without loss: `unpacked(packed(state)) == state`. The form follows from the state's own fields, so a
field that is added is kept too; a value of a kind that is not foreseen here is refused (TypeError)
rather than kept by halves. It is read by the same code that wrote it, and never by another version
(`VERSION`).
"""

from __future__ import annotations

import zlib
from dataclasses import MISSING, fields
from hashlib import sha256
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any

import orjson

import orchestrator.core
import schemas
from orchestrator.core.contract import Approval
from orchestrator.core.hashing import checksummed
from orchestrator.core.lifecycle import RequestState, Stage
from orchestrator.core.policy import normalised_amount
from schemas.base import Fact, RequestType
from schemas.topics import REQUESTS

_DEFAULTS: dict[str, Any] = {
    field.name: None if field.default is MISSING else field.default
    for field in fields(RequestState)
}
_EMPTY = (None, ())


def packed(state: RequestState) -> bytes:
    """Compressed JSON; the same state always gives the same bytes."""
    body = {}
    for name in _DEFAULTS:
        value = getattr(state, name)
        if value not in _EMPTY:
            body[name] = value.value if name == "stage" else _plain(value)
    return zlib.compress(orjson.dumps(body, option=orjson.OPT_SORT_KEYS), level=1)


def unpacked(raw: bytes) -> RequestState:
    """Raises ValueError, KeyError or TypeError for what `packed` has not written."""
    return _state(_body(raw))


def approval_in(raw: bytes) -> Approval | None:
    """What a packed state has the signature of, as `approval_of` says; None where there is none.
    Reads that part only, for this is asked of every state at each start; raises as `unpacked`."""
    body = _body(raw)
    if "signed" not in body:
        return None
    received, drafted = body["received"]["fact"], body["drafted"]["fact"]
    return Approval(
        type=RequestType(received["type"]),
        chain_id=received["chain_id"],
        contract=drafted["contract"],
        request_id=received["request_id"],
        account=checksummed(received["user"]),
        amount=int(normalised_amount(received["amount"])),
        nonce=int(drafted["approval_nonce"]),
        deadline=drafted["deadline"],
    )


def _body(raw: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(zlib.decompress(raw))
    except zlib.error as error:
        raise ValueError(f"not a packed state: {error}") from None
    if not isinstance(found, dict):
        raise ValueError("not a packed state")
    return found


def _state(body: dict[str, Any]) -> RequestState:
    values = {name: _value(body[name]) if name in body else _DEFAULTS[name] for name in _DEFAULTS}
    values["stage"] = Stage(values["stage"])
    return RequestState(**values)


def _plain(value: Any) -> Any:
    if isinstance(value, Fact):
        return {"kind": value.kind, "fact": orjson.Fragment(value.model_dump_json())}
    if type(value) is tuple:
        return [_plain(item) for item in value]
    if type(value) in (str, int, bool):
        return value
    raise TypeError(f"no rule packs a {type(value).__name__}")


def _value(plain: Any) -> Any:
    match plain:
        case dict():
            return REQUESTS.kinds[plain["kind"]].model_validate(plain["fact"])
        case list():
            return tuple(_value(item) for item in plain)
    return plain


def _version() -> str | None:
    """Changes with everything that a fold depends on: the vocabulary, the core, the book, this
    module, and what checks the values. None where there are no sources to tell it by."""
    digest = sha256(f"pydantic {version_of('pydantic')}".encode())
    packages = [Path(package.__path__[0]) for package in (schemas, orchestrator.core)]
    own = [Path(__file__).with_name(name) for name in _BOOKKEEPING]
    sources = [path for folder in packages for path in sorted(folder.rglob("*.py"))] + own
    try:
        for path in sources:
            digest.update(path.name.encode() + b"\0" + path.read_bytes())
    except OSError:
        return None
    found = [any(folder in path.parents for path in sources) for folder in packages]
    return digest.hexdigest() if all(found) else None


_BOOKKEEPING = ("books.py", "pages.py", "resting.py", "packing.py")
VERSION = _version()
"""Of the code that runs, which is why it is made when that is loaded: the files may be replaced
under a process. What another version has folded is never taken."""
