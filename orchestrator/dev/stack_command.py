"""The command line of the embedded stack: `python -m orchestrator.dev.stack`."""

from __future__ import annotations

import argparse
import shlex
import signal
import sys
import time
from pathlib import Path

from orchestrator.dev.processes import StackError
from orchestrator.dev.stack import ALL_PARTS, DEFAULT_CHAIN_IDS, EmbeddedStack

_DESCRIPTION = """\
Start everything the service talks to, on this machine and without Docker: Kafka, PostgreSQL, five
chains with the Stablecoin contract, a KMS endpoint and a simulator of Kuro. The first start
downloads about 150 MB into a cache; later starts take seconds. Ctrl-C stops all of it; the data
folder keeps the data for the next start.
"""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m orchestrator.dev.stack", description=_DESCRIPTION
    )
    parser.add_argument("--data-dir", type=Path, default=Path(".stack"), help="default: .stack")
    parser.add_argument(
        "--block-time", type=float, default=1.0, help="seconds between blocks (default: 1)"
    )
    parser.add_argument(
        "--wallets", type=int, default=1, help="relayer wallets per chain (default: 1)"
    )
    parser.add_argument("--gas-limit", type=int, default=30_000_000, help="of a block")
    parser.add_argument(
        "--chains",
        default=",".join(str(chain_id) for chain_id in DEFAULT_CHAIN_IDS),
        help="chain ids, comma-separated (default: %(default)s)",
    )
    parser.add_argument(
        "--launchpad", default="", help="ids of chains with the launchpad's contract"
    )
    parser.add_argument(
        "--parts", default=",".join(sorted(ALL_PARTS)), help="what to start (default: %(default)s)"
    )
    parser.add_argument(
        "--print-env",
        action="store_true",
        help="print the service's environment as shell exports, keys and passwords included",
    )
    return parser


def main(arguments: list[str] | None = None) -> int:
    """Start, print, wait for Ctrl-C or SIGTERM, stop. Returns the exit code."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()

    def progress(text: str) -> None:
        print(f"[{time.monotonic() - started:6.1f} s] {text}", file=sys.stderr, flush=True)

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    try:
        stack = EmbeddedStack(
            options.data_dir,
            chain_ids=[int(text) for text in options.chains.split(",")],
            block_time=options.block_time,
            wallets_per_chain=options.wallets,
            gas_limit=options.gas_limit,
            parts=options.parts.split(","),
            launchpad_chain_ids=[int(text) for text in options.launchpad.split(",") if text],
            progress=progress,
        )
        with stack:
            progress(f"the stack is ready, data in {stack.data_dir}; Ctrl-C stops it")
            if options.print_env:
                for name, value in sorted(stack.environment.items()):
                    print(f"export {name}={shlex.quote(value)}")
                sys.stdout.flush()
            while True:
                signal.pause()
    except KeyboardInterrupt:
        progress("stopped")
        return 0
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
