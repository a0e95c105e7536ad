"""The stack and the service's processes for one measurement, fresh, gone afterwards."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

from orchestrator.dev.bench.machine import cpu_seconds, cpu_seconds_of_tree
from orchestrator.dev.ports import assign_ports
from orchestrator.dev.service import Service, service_environment
from orchestrator.dev.stack import ALL_PARTS, EmbeddedStack

ROLES: dict[str, tuple[str, ...]] = {
    "ingest": ("ingest",),
    "decide": ("worker", "--roles", "decide"),
    "sign": ("worker", "--roles", "sign"),
    "relay": ("worker", "--roles", "relay"),
    "project": ("project",),
    "api": ("api",),
}
"""One process each, as `docker-compose.yml` starts them."""


@dataclass
class Run:
    """What a part is told. `say` shows progress; `quick` asks for a tenth of the work."""

    quick: bool
    rounds: int
    say: Callable[[str], None]

    def size(self, full: int, quick: int) -> int:
        return quick if self.quick else full


class World:
    """Processes are added by name and live until the world ends."""

    def __init__(self, stack: EmbeddedStack, environment: dict[str, str]) -> None:
        self.stack = stack
        self.environment = environment
        self.services: dict[str, Service] = {}

    async def start(self, *names: str, arguments: Sequence[str] | None = None) -> None:
        """Start these roles, or one process under this name with other arguments."""
        for name in names:
            given = list(arguments or ROLES[name])
            has_api = given[0] in ("api", "run")
            port = assign_ports([name], {}, self.stack.data_dir / f"{name}-port.json")[name]
            self.services[name] = Service(
                self.stack, name, given, self.environment, api_port=port if has_api else None
            )
        await asyncio.gather(*(self.services[name].start() for name in names))

    async def stop(self) -> None:
        await asyncio.gather(*(service.stop() for service in self.services.values()))
        self.services.clear()

    async def init(self) -> None:
        """Topics and tables, by the service's own command."""
        service = Service(self.stack, "init", ["init"], self.environment)
        await service.start()
        if await asyncio.to_thread(service.wait_blocking) != 0:
            raise RuntimeError(f"orchestrator init failed: {service.log.read_text()[-300:]}")

    @property
    def pids(self) -> list[int | None]:
        return [service.pid for service in self.services.values()]

    def cpu_by_role(self) -> dict[str, float]:
        return {name: cpu_seconds([service.pid]) for name, service in self.services.items()}

    def cpu_by_part(self) -> dict[str, float]:
        """Of what the service talks to, which shares the machine with it."""
        stack = self.stack
        pids = {
            "Kafka": [stack.kafka.pid],
            "PostgreSQL": [stack.postgres.pid],
            "chains": [chain.pid for chain in stack.chains.values()],
            "KMS": [stack.kms.pid],
            "Kuro": [stack.kuro.pid],
        }
        return {name: sum(map(cpu_seconds_of_tree, given)) for name, given in pids.items()}


@asynccontextmanager
async def world(
    *,
    chain_ids: Sequence[int],
    followed: Sequence[int] | None = None,
    gas_limit: int = 30_000_000,
    wallets: int = 1,
    parts: Collection[str] = ALL_PARTS,
    settings: Mapping[str, str] | None = None,
) -> AsyncIterator[World]:
    """A stack in a folder of its own. `followed` are the chains that the service knows (all)."""
    folder = Path(tempfile.mkdtemp(prefix="orchestrator-bench-"))
    stack = EmbeddedStack(
        folder, chain_ids=chain_ids, gas_limit=gas_limit, wallets_per_chain=wallets, parts=parts
    )
    try:
        async with stack:
            known = ",".join(str(chain) for chain in followed or chain_ids)
            more = {"CHAIN_IDS": known, "LOG_LEVEL": "WARNING", **(settings or {})}
            place = World(stack, service_environment(stack, **more))
            await place.init()
            try:
                yield place
            finally:
                await place.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
