"""Logging: structlog in the service, and libraries' logging through the same door.

JSON lines when not on a terminal, readable lines on one. Levels by `LOG_LEVEL`.
"""

from __future__ import annotations

import logging
import sys

import structlog

QUIETER = {
    "aiokafka": logging.CRITICAL,
    "botocore": logging.WARNING,
    "aiobotocore": logging.WARNING,
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "alembic": logging.WARNING,
}
"""Libraries that say as an error what they then mend by themselves, or say too much."""


def set_up(level: str = "INFO") -> None:
    """Send every log record to standard error."""
    on_terminal = sys.stderr.isatty()
    shared: list[structlog.typing.Processor] = [
        structlog.contextvars.merge_contextvars,
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
        structlog.stdlib.ProcessorFormatter(
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
