"""No generated example fails a test by being slow: the machine may be busy. And what tests start
can be interrupted, even where the tests themselves were started in the background of a shell, which
has its jobs ignore SIGINT and their children with them."""

from __future__ import annotations

import signal

from hypothesis import settings

settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
