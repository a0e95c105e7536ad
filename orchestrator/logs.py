"""Logging: structlog in the service, and libraries' logging through the same door.

JSON lines when not on a terminal, readable lines on one. Levels by `LOG_LEVEL`.

What a line is about has one name everywhere: `request` (its key), `chain_id`, `wallet`, `nonce`,
`tx_hash`, `fact` (an id) with `kind`; `trace_id` follows from the request. A fact itself may be
given as `fact`: it is taken apart here, after the level has let the line pass.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

import structlog

from orchestrator.concealing import Concealing, secrets_in
from orchestrator.core.belonging import request_key_of, trace_id
from schemas.base import Fact

QUIETER = {
    "aiokafka": logging.CRITICAL,
    "botocore": logging.WARNING,
    "aiobotocore": logging.WARNING,
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "alembic": logging.WARNING,
}
"""Libraries that say as an error what they then mend by themselves, or say too much."""

_LEFT_OUT = {
    "raw",
    "raw_base64",
    "data",
    "signature",
    "request_key",
    "relay",
    "event",
    "level",
    "timestamp",
}
"""Fields of facts: what is long and stands on the log, what has another name here, what a line has
of its own."""


def named(_: object, __: str, line: structlog.typing.EventDict) -> structlog.typing.EventDict:
    """One name for each thing that a line is about, and the trace of its request."""
    fact = line.get("fact")
    if isinstance(fact, Fact):
        line["fact"], line["kind"] = fact.id, fact.kind
        line.setdefault("request", request_key_of(fact))
        for name, value in fact.model_dump(mode="json", exclude_none=True).items():
            if name not in _LEFT_OUT:
                line.setdefault(name, value)
    for name in ("lane", "sequences"):
        chain, _, wallet = str(line.pop(name, "")).partition(":")
        if chain.isdigit():
            line.setdefault("chain_id", int(chain))
            line.setdefault("wallet", wallet)
    relay = line.pop("relay", None)
    if isinstance(relay, str):
        line.setdefault("request", relay.rpartition(":")[0])
    request = line.get("request")
    if request is None:
        line.pop("request", None)
    else:
        line["trace_id"] = trace_id(str(request))
    return line


class _Formatter(structlog.stdlib.ProcessorFormatter):
    """Whatever a library wrote, and in tracebacks as well: no secret of the settings."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._concealing = Concealing(secrets_in(os.environ))

    def format(self, record: logging.LogRecord) -> str:
        return self._concealing(super().format(record))


def set_up(level: str = "INFO") -> None:
    """Send every log record to standard error."""
    on_terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
        named,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer(pad_event_to=28)
        if on_terminal
        else structlog.processors.JSONRenderer()
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        _Formatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name, quieter in QUIETER.items():
        logging.getLogger(name).setLevel(max(quieter, logging.getLevelName(level)))
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *shared,
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
