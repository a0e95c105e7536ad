"""The demonstration's load against parts that run elsewhere, told by the environment as the service
is: `python -m orchestrator.dev.containers.load --help`."""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from rich.console import Console

from orchestrator.config import Need, load
from orchestrator.dev.containers.keys import development_wallets
from orchestrator.dev.demo import Demo
from orchestrator.dev.holders import HolderWallets
from orchestrator.dev.http_client import request_json
from orchestrator.errors import ConfigurationError


@dataclass(frozen=True)
class RemoteChain:
    rpc_url: str
    contract_address: str
    launchpad: bool = False


@dataclass(frozen=True)
class RemoteKuro:
    """The simulator's control, beside its REST list."""

    rest_url: str

    async def mint(self, *mints: dict[str, Any]) -> list[str]:
        parts = urlsplit(self.rest_url)
        url = f"{parts.scheme}://{parts.netloc}/__control/mint"
        answer = await asyncio.to_thread(request_json, "POST", url, {"mints": mints})
        ids: list[str] = answer["requestIds"]
        return ids


@dataclass(frozen=True)
class RemoteWorld:
    chain_ids: tuple[int, ...]
    chains: Mapping[int, RemoteChain]
    kuro: RemoteKuro
    holders: HolderWallets


@dataclass(frozen=True)
class RemoteApi:
    base_url: str
    log: str = "docker compose logs"


def world(environ: Mapping[str, str]) -> RemoteWorld:
    """Raises ConfigurationError with all that is missing."""
    config = load([Need.NODES, Need.CONTRACTS, Need.KURO], environ)
    chains = {
        chain_id: RemoteChain(chain.rpc_urls[0], chain.contract)
        for chain_id, chain in config.chains.items()
    }
    holder = development_wallets(list(chains)).holder
    return RemoteWorld(
        tuple(chains),
        chains,
        RemoteKuro(str(config.settings.kuro_rest_url)),
        HolderWallets(chains, holder),
    )


async def run(api_url: str, requests: int | None, per_second: float) -> int:
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    try:
        there = world(os.environ)
        return await Demo(there, RemoteApi(api_url), Console(), requests, per_second).run()
    except ConfigurationError as error:
        print("\n".join(error.problems), file=sys.stderr)
        return 2
    except asyncio.CancelledError:
        return 130 if requests is not None else 0


def main() -> int:
    """0 when all that was asked for completed, exactly once each; without a number, until ended."""
    parser = argparse.ArgumentParser(prog="python -m orchestrator.dev.containers.load")
    parser.add_argument("--api", default="http://api:3000", help="where the service answers")
    parser.add_argument("--requests", type=int, default=0, help="half of them mints; 0 goes on")
    parser.add_argument("--per-second", type=float, default=5.0)
    options = parser.parse_args()
    return asyncio.run(run(options.api, options.requests or None, options.per_second))


if __name__ == "__main__":
    sys.exit(main())
