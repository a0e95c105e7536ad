"""No generated example fails a test by being slow: the machine may be busy; and the examples are
the same in every run, others with `--hypothesis-profile=explore`. And what tests start
can be interrupted, even where the tests themselves were started in the background of a shell, which
has its jobs ignore SIGINT and their children with them. And a command that a test runs within its
own process sets up logs for that test alone, without loggers that are cached: they would write past
whoever looks at lines later, and the simulation's stories are made of lines."""

from __future__ import annotations

import logging
import signal
from collections.abc import Iterator
from functools import wraps
from typing import Any

import pytest
import structlog
from hypothesis import HealthCheck, settings

settings.register_profile("explore", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("patient", settings.get_profile("explore"), derandomize=True)
settings.load_profile("patient")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

_configure = structlog.configure


@wraps(_configure)
def _without_caching(*arguments: Any, **settings: Any) -> None:
    _configure(*arguments, **(settings | {"cache_logger_on_first_use": False}))


structlog.configure = _without_caching


@pytest.fixture(autouse=True)
def _logs_as_before() -> Iterator[None]:
    config, root = structlog.get_config(), logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    if structlog.get_config() != config:
        structlog.configure(**config)
        root.setLevel(level)
        root.handlers[:] = handlers
