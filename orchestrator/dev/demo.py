"""The demonstration: everything starts here, and a stream of mints and redeems runs through it.

Kuro allows mints for one holder on all chains in turn; the holder asks to redeem what arrives. The
service is the real one, `orchestrator run` in a process of its own, configured by the environment
alone. With a number of requests it ends by itself and compares the chains with what was asked.
"""

from __future__ import annotations

import asyncio
import itertools
import shutil
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rich.console import Console
from rich.live import Live
from rich.table import Table

from orchestrator.dev.holders import Deployed, HolderWallets
from orchestrator.dev.http_client import HttpError, request_json, rpc
from orchestrator.dev.ports import assign_ports
from orchestrator.dev.processes import StackError
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import EmbeddedStack

AMOUNT = 100 * 10**18
"""Base units of every demonstration request: 100 tokens of 18 decimals."""
PATIENCE_SECONDS = 120
"""How long nothing may complete before the demonstration gives up."""


class Kuro(Protocol):
    async def mint(self, *mints: dict[str, Any]) -> list[str]: ...


class World(Protocol):
    """What the load runs through: the embedded stack, or the same parts elsewhere."""

    @property
    def chain_ids(self) -> Sequence[int]: ...
    @property
    def chains(self) -> Mapping[int, Deployed]: ...
    @property
    def kuro(self) -> Kuro: ...
    @property
    def holders(self) -> HolderWallets: ...


class Api(Protocol):
    @property
    def base_url(self) -> str: ...
    @property
    def log(self) -> object: ...


@dataclass(frozen=True)
class Held:
    """What a chain holds: ids of its events, base units, and how often its holder has sent."""

    minted: Sequence[str]
    redeemed: Sequence[str]
    supply: int
    sent: int


class Demo:
    """One run. `mints` and `redeems` are how many are wanted; None means until stopped. What an
    earlier run has left on the same chains is told apart from this one's."""

    def __init__(
        self,
        stack: World,
        service: Api,
        console: Console,
        requests: int | None,
        per_second: float,
    ) -> None:
        self._stack = stack
        self._service = service
        self._console = console
        self._mints = None if requests is None else requests - requests // 2
        self._redeems = None if requests is None else requests // 2
        self._per_second = per_second
        self._minted: Counter[int] = Counter()
        self._redeemed: Counter[int] = Counter()
        self._queues: dict[str, dict[str, int]] = {}
        self._started = time.monotonic()
        self._before: dict[int, Held] = {}
        self._done_before = self._failed_before = 0

    async def run(self) -> int:
        """The exit code: 0 when all that was asked for completed, exactly once each."""
        await self._look_before()
        load = [asyncio.create_task(self._mint()), asyncio.create_task(self._redeem())]
        try:
            with self._shown() as show:
                complete = await self._watch(load, show)
        finally:
            for task in load:
                task.cancel()
            await asyncio.gather(*load, return_exceptions=True)
        return await self._summary(complete)

    async def _look_before(self) -> None:
        """What is there already; what an earlier run has begun is given time to end."""
        until = time.monotonic() + PATIENCE_SECONDS
        self._queues = await self._asked()
        while self._sum("waiting", "active") and time.monotonic() < until:
            await asyncio.sleep(1)
            self._queues = await self._asked()
        self._done_before = self._sum("completed", "failed")
        self._failed_before = self._sum("failed")
        self._before = {chain: await self._held(chain) for chain in self._stack.chain_ids}

    async def _asked(self) -> dict[str, dict[str, int]]:
        url = f"{self._service.base_url}/metrics/queues"
        answer: dict[str, dict[str, int]] = await asyncio.to_thread(request_json, "GET", url)
        return answer

    def _sum(self, *names: str) -> int:
        return sum(queue[name] for queue in self._queues.values() for name in names)

    async def _held(self, chain_id: int) -> Held:
        holders = self._stack.holders
        minted = await holders.minted_events(chain_id)
        redeemed = await holders.redeemed_events(chain_id)
        return Held(
            [event.request_id for event in minted],
            [event.request_id for event in redeemed],
            await holders.total_supply(chain_id),
            await self._sent(chain_id),
        )

    async def _sent(self, chain_id: int) -> int:
        url, address = self._stack.chains[chain_id].rpc_url, self._stack.holders.address
        return int(
            await asyncio.to_thread(rpc, url, "eth_getTransactionCount", address, "latest"), 16
        )

    async def _mint(self) -> None:
        """Kuro allows mints, evenly in time, for all chains in turn."""
        chains = itertools.cycle(self._stack.chain_ids)
        earlier = sum(len(held.minted) for held in self._before.values())
        while self._mints is None or self._minted.total() < self._mints:
            chain_id = next(chains)
            await self._stack.kuro.mint(
                {
                    "user": self._stack.holders.address,
                    "amount": str(AMOUNT),
                    "chainId": chain_id,
                    "fiatRef": f"demo-{earlier + self._minted.total() + 1:06d}",
                }
            )
            self._minted[chain_id] += 1
            await asyncio.sleep(2 / self._per_second)

    async def _redeem(self) -> None:
        """The holder redeems what has arrived, on all chains at once."""
        await asyncio.gather(*(self._redeem_on(chain_id) for chain_id in self._stack.chain_ids))

    async def _redeem_on(self, chain_id: int) -> None:
        holders, sent_before = self._stack.holders, self._before[chain_id].sent
        while True:
            await asyncio.sleep(1)
            if await self._sent(chain_id) - sent_before < self._redeemed[chain_id]:
                continue
            room = await holders.balance_of(chain_id) // AMOUNT
            if self._redeems is not None:
                room = min(room, self._redeems - self._redeemed.total())
            if room > 0:
                self._redeemed[chain_id] += room
                await holders.request_redeems(chain_id, [AMOUNT] * room)

    async def _watch(self, load: list[asyncio.Task[None]], show: Any) -> bool:
        """Show progress until all is complete; False when nothing moves any more."""
        last_change, last_done = time.monotonic(), -1
        while True:
            for task in load:
                if task.done() and task.exception() is not None:
                    task.result()
            try:
                self._queues = await self._asked()
            except (HttpError, OSError) as error:
                self._console.print(f"the API does not answer: {error}")
            done = self._sum("completed", "failed") - self._done_before
            if done != last_done:
                last_change, last_done = time.monotonic(), done
            show(self._table())
            if self._mints is not None and self._redeems is not None:
                if done >= self._mints + self._redeems:
                    return self._sum("failed") == self._failed_before
                if time.monotonic() - last_change > PATIENCE_SECONDS:
                    return False
            await asyncio.sleep(0.5)

    @contextmanager
    def _shown(self) -> Iterator[Any]:
        """On a terminal a table that lives; else a line every two seconds while things move."""
        if self._console.is_terminal:
            with Live(console=self._console, refresh_per_second=4) as live:
                yield live.update
            return
        said, at = "", 0.0

        def line(_table: Table) -> None:
            nonlocal said, at
            quiet_seconds = 2 if said != self._line() else 15
            if time.monotonic() - at >= quiet_seconds:
                said, at = self._line(), time.monotonic()
                self._console.print(f"{at - self._started:6.1f} s   {said}", soft_wrap=True)

        yield line
        self._console.print(
            f"{time.monotonic() - self._started:6.1f} s   {self._line()}", soft_wrap=True
        )

    def _line(self) -> str:
        parts = []
        for name, asked in (("mint", self._minted), ("redeem", self._redeemed)):
            queue = self._queues.get(name, {})
            parts.append(
                f"{name}: {asked.total()} asked, {queue.get('waiting', 0)} waiting, "
                f"{queue.get('active', 0)} active, {queue.get('completed', 0)} completed, "
                f"{queue.get('failed', 0)} failed"
            )
        return "   ".join(parts)

    def _table(self) -> Table:
        table = Table(title=f"{self._service.base_url}   {time.monotonic() - self._started:.0f} s")
        for column in ("", "asked", "waiting", "active", "completed", "failed"):
            table.add_column(column, justify="right" if column else "left")
        for name, asked in (("mint", self._minted), ("redeem", self._redeemed)):
            queue = self._queues.get(name, {})
            cells = [str(queue.get(key, 0)) for key in ("waiting", "active", "completed", "failed")]
            table.add_row(name, str(asked.total()), *cells)
        return table

    async def _summary(self, complete: bool) -> int:
        """What the chains themselves hold, beside what was asked for."""
        table = Table(title="What the chains hold")
        for column in ("chain", "asked to mint", "Minted", "asked to redeem", "Redeemed", "supply"):
            table.add_column(column, justify="right")
        exact = True
        for chain_id in self._stack.chain_ids:
            held, before = await self._held(chain_id), self._before[chain_id]
            minted = held.minted[len(before.minted) :]
            redeemed = held.redeemed[len(before.redeemed) :]
            asked, given_back = self._minted[chain_id], self._redeemed[chain_id]
            exact &= len(set(held.minted)) == len(held.minted) and len(minted) == asked
            exact &= len(set(held.redeemed)) == len(held.redeemed) and len(redeemed) == given_back
            exact &= held.supply - before.supply == (asked - given_back) * AMOUNT
            table.add_row(
                *map(str, (chain_id, asked, len(minted), given_back, len(redeemed), held.supply))
            )
        self._console.print(table)
        seconds = time.monotonic() - self._started
        total = self._minted.total() + self._redeemed.total()
        if complete and exact:
            self._console.print(f"All {total} requests completed, each once, in {seconds:.1f} s.")
            return 0
        self._console.print(f"NOT all completed exactly once after {seconds:.1f} s.", style="red")
        await self._explain()
        return 1

    async def _explain(self) -> None:
        """The requests that are not complete, with their stage and reason."""
        for status in ("PENDING", "PROCESSING", "FAILED"):
            url = f"{self._service.base_url}/status?status={status}&limit=20"
            for item in (await asyncio.to_thread(request_json, "GET", url))["items"]:
                self._console.print(
                    f"  {item['requestKey']}: {item['stage']} {item.get('errorMessage') or ''}"
                )
        self._console.print(f"The service's log: {self._service.log}")


async def run_demo(
    *,
    requests: int | None,
    per_second: float,
    block_seconds: float,
    data: Path | None,
    port: int,
    launchpad: Sequence[int] = (),
) -> int:
    """Start everything, run the load, stop everything; the process's exit code."""
    task, loop = asyncio.current_task(), asyncio.get_running_loop()
    assert task is not None
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)
    console = Console()
    folder = data or Path(tempfile.mkdtemp(prefix="orchestrator-demo-"))
    stack = EmbeddedStack(
        folder,
        block_time=block_seconds,
        launchpad_chain_ids=launchpad,
        progress=lambda text: console.print(f"  {text}", highlight=False),
    )
    console.print(
        "Starting Kafka, PostgreSQL, five chains, KMS and Kuro (the first time downloads)"
    )
    try:
        async with stack:
            ports = assign_ports(
                ["api"], {"api": port} if port else {}, stack.data_dir / "demo-ports.json"
            )
            service = Service(
                stack, "service", ["run"], service_environment(stack), api_port=ports["api"]
            )
            await service.start()
            console.print(f"The service runs. API: {service.base_url}/status", highlight=False)
            console.print(f"The page for operators: {service.base_url}/", highlight=False)
            console.print(
                f"Tail the log of facts: kcat -C -b {stack.kafka.bootstrap_servers} -t requests",
                highlight=False,
            )
            try:
                return await Demo(stack, service, console, requests, per_second).run()
            finally:
                await service.stop()
    except StackError as error:
        console.print(str(error), style="red")
        return 1
    except asyncio.CancelledError:
        console.print("Stopped; nothing is left running.")
        return 130 if requests is not None else 0
    finally:
        if data is None:
            shutil.rmtree(folder, ignore_errors=True)
