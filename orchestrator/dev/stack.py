"""`EmbeddedStack`: all outer systems of the service on this machine, as one thing.

    async with EmbeddedStack(Path(".stack")) as stack:
        environment = stack.environment      # what the service is configured with
        await stack.kafka.restart()          # every part can be stopped, killed and restarted
        await stack.kuro.mint_many(100)

or `with EmbeddedStack(...) as stack:` without a loop. From the command line:
`python -m orchestrator.dev.stack --help`.

Everything listens on 127.0.0.1 only. All data is in the data folder and is kept over restarts, on
the same ports where these are free. Downloads are in a cache of their own (`downloads.py`).
Parts start concurrently; none outlives this process (`supervisor.py`).
"""

from __future__ import annotations

import asyncio
import fcntl
import os
import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import TextIO

from orchestrator.dev.chains import Chain
from orchestrator.dev.holders import HolderWallets
from orchestrator.dev.kafka import Kafka
from orchestrator.dev.kafka_security import KafkaSecurity
from orchestrator.dev.launchpad import PROFILE, TOKEN_NAME
from orchestrator.dev.ports import assign_ports
from orchestrator.dev.postgres import Postgres
from orchestrator.dev.postgres_security import PostgresSecurity
from orchestrator.dev.processes import Part, StackError, Supervisor, heal_leftovers
from orchestrator.dev.services import Kms, Kuro
from orchestrator.dev.wallets import Wallets, load_wallets

DEFAULT_CHAIN_IDS = (5920, 5921, 5922, 5923, 5924)
ALL_PARTS = frozenset({"kafka", "postgres", "chains", "kms", "kuro"})
REGION = "us-east-1"


class EmbeddedStack:
    """The stack in one data folder. Handles: `kafka postgres chains[id] kms kuro holders`.

    `launchpad_chain_ids` have the contract of that profile, the others that of `orchestrator`.
    `parts` names what is started (of `ALL_PARTS`); the others' handles exist and can be started
    later, but are not in `environment`. `ports` fixes ports by name (`port_names`). `progress` is
    called with short texts, from several threads. Raises `StackError` with what a person can do.
    """

    def __init__(
        self,
        data_dir: Path | str,
        *,
        chain_ids: Sequence[int] = DEFAULT_CHAIN_IDS,
        block_time: float = 1.0,
        wallets_per_chain: int = 1,
        gas_limit: int = 30_000_000,
        ports: Mapping[str, int] | None = None,
        progress: Callable[[str], None] | None = None,
        parts: Collection[str] = ALL_PARTS,
        state_interval: int = 30,
        launchpad_chain_ids: Collection[int] = (),
        kafka_security: KafkaSecurity | None = None,
        postgres_security: PostgresSecurity | None = None,
    ) -> None:
        if unknown := set(parts) - ALL_PARTS:
            raise StackError(f"no such parts: {sorted(unknown)}; there are {sorted(ALL_PARTS)}")
        self.data_dir = Path(data_dir).expanduser().resolve()
        self.chain_ids = tuple(chain_ids)
        self.launchpad_chain_ids = frozenset(launchpad_chain_ids)
        if strangers := self.launchpad_chain_ids - set(self.chain_ids):
            raise StackError(f"launchpad chains {sorted(strangers)} are not among the chains")
        self.parts = frozenset(parts)
        self.wallets: Wallets
        self.kafka: Kafka
        self.postgres: Postgres
        self.kms: Kms
        self.kuro: Kuro
        self.chains: dict[int, Chain] = {}
        self.holders: HolderWallets
        self._kafka_security = kafka_security
        self._postgres_security = postgres_security
        self._block_time = block_time
        self._wallets_per_chain = wallets_per_chain
        self._gas_limit = gas_limit
        self._state_interval = state_interval
        self._wanted_ports = dict(ports or {})
        self._progress = progress or (lambda _text: None)
        self._supervisor: Supervisor | None = None
        self._lock_file: TextIO | None = None

    @property
    def port_names(self) -> list[str]:
        """The names that `ports` may use."""
        chains = [f"chain-{chain_id}" for chain_id in self.chain_ids]
        return ["kafka", "kafka-controller", "postgres", "kms", "kuro", *chains]

    def start_blocking(self) -> None:
        """Start every part and wait until all serve; on an error nothing is left running."""
        self._lock_folder()
        try:
            heal_leftovers(self._record_path, self._progress)
            self._build()
            self._start_parts()
        except BaseException:
            self.stop_blocking()
            raise

    @property
    def _record_path(self) -> Path:
        return self.data_dir / "processes.json"

    def _lock_folder(self) -> None:
        """One stack per folder. The kernel drops the lock with the process, however it ends."""
        self.data_dir.mkdir(parents=True, exist_ok=True)
        file = (self.data_dir / "stack.lock").open("a+")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise StackError(
                f"a stack already runs in {self.data_dir}, process {owner}: "
                "stop it, or use another data folder"
            ) from None
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
        self._lock_file = file

    def _build(self) -> None:
        folder = self.data_dir
        ports = assign_ports(self.port_names, self._wanted_ports, folder / "ports.json")
        self.wallets = load_wallets(
            folder / "wallets.json", self.chain_ids, self._wallets_per_chain
        )
        supervisor = self._supervisor = Supervisor(self._record_path)
        self.kafka = Kafka(
            supervisor,
            folder / "kafka",
            port=ports["kafka"],
            controller_port=ports["kafka-controller"],
            progress=self._progress,
            security=self._kafka_security,
        )
        self.postgres = Postgres(
            supervisor,
            folder / "postgres",
            port=ports["postgres"],
            progress=self._progress,
            security=self._postgres_security,
        )
        self.kms = Kms(supervisor, folder / "kms", port=ports["kms"], region=REGION)
        self.kuro = Kuro(supervisor, folder / "kuro", port=ports["kuro"])
        self.chains = {
            chain_id: Chain(
                chain_id,
                supervisor,
                folder / f"chain-{chain_id}",
                port=ports[f"chain-{chain_id}"],
                block_time=self._block_time,
                gas_limit=self._gas_limit,
                wallets=self.wallets,
                approver=self.kms.address,
                progress=self._progress,
                state_interval=self._state_interval,
                launchpad=chain_id in self.launchpad_chain_ids,
            )
            for chain_id in self.chain_ids
        }
        self.holders = HolderWallets(self.chains, self.wallets.holder)

    def _chosen(self) -> list[Part]:
        named: dict[str, list[Part]] = {
            "kafka": [self.kafka],
            "postgres": [self.postgres],
            "kms": [self.kms],
            "kuro": [self.kuro],
            "chains": list(self.chains.values()),
        }
        return [part for name, members in named.items() if name in self.parts for part in members]

    def _start_parts(self) -> None:
        parts = self._chosen()

        def start(part: Part) -> None:
            part.start_blocking()
            self._progress(f"{part.name} is ready")

        with ThreadPoolExecutor(max(1, len(parts))) as pool:
            for done in [pool.submit(start, part) for part in parts]:
                done.result()

    def stop_blocking(self) -> None:
        """Stop every part in order, keeping data. Safe to call twice."""
        if self._supervisor is not None:
            running = [part for part in [*self._all_parts()] if part.running]
            if running:
                with ThreadPoolExecutor(len(running)) as pool:
                    list(pool.map(lambda part: part.stop_blocking(), running))
            self._supervisor.close()
            self._supervisor = None
        if self._lock_file is not None:
            self._lock_file.close()
            self._lock_file = None

    def _all_parts(self) -> list[Part]:
        named = [getattr(self, name, None) for name in ("kafka", "postgres", "kms", "kuro")]
        return [part for part in named if part is not None] + list(self.chains.values())

    @property
    def supervisor(self) -> Supervisor:
        """What starts and ends processes here, for more of them beside the stack's own."""
        if self._supervisor is None:
            raise StackError("the stack is not running; start it first")
        return self._supervisor

    async def start(self) -> None:
        await asyncio.to_thread(self.start_blocking)

    async def stop(self) -> None:
        await asyncio.to_thread(self.stop_blocking)

    @property
    def environment(self) -> dict[str, str]:
        """The service's configuration for this stack, by the names of its environment variables."""
        values: dict[str, str] = {"CHAIN_IDS": ",".join(str(chain) for chain in self.chain_ids)}
        if "postgres" in self.parts:
            values["DATABASE_URL"] = self.postgres.url
        if "kafka" in self.parts:
            values["KAFKA_BOOTSTRAP_SERVERS"] = self.kafka.bootstrap_servers
        if "kms" in self.parts:
            values |= {
                "AWS_REGION": REGION,
                "AWS_ENDPOINT_URL_KMS": self.kms.base_url,
                "AWS_ACCESS_KEY_ID": "embedded",
                "AWS_SECRET_ACCESS_KEY": "embedded",
                "KMS_KEY_ID": self.kms.key_id,
            }
        if "kuro" in self.parts:
            values["KURO_WEBSOCKET_URL"] = self.kuro.websocket_url
            values["KURO_REST_URL"] = self.kuro.rest_url
        if "chains" in self.parts:
            for chain_id, chain in self.chains.items():
                values[f"KADENA_EVM_CHAIN_{chain_id}_RPC"] = chain.rpc_url
                values[f"STABLECOIN_CONTRACT_ADDRESS_{chain_id}"] = chain.contract_address
                keys = self.wallets.relayers[chain_id]
                values[f"RELAYER_PRIVATE_KEY_{chain_id}"] = ",".join(keys)
                if chain.launchpad:
                    values[f"CONTRACT_PROFILE_{chain_id}"] = PROFILE.name
                    values[f"CONTRACT_TOKEN_NAME_{chain_id}"] = TOKEN_NAME
        return values

    async def __aenter__(self) -> EmbeddedStack:
        await self.start()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.stop()

    def __enter__(self) -> EmbeddedStack:
        self.start_blocking()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop_blocking()


if __name__ == "__main__":
    from orchestrator.dev.stack_command import main

    sys.exit(main())
