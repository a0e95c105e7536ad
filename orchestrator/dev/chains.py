"""One anvil process per chain, its state kept in the data folder, our contract deployed on it."""

from __future__ import annotations

import asyncio
import shutil
import signal
import sys
from pathlib import Path
from typing import Any

from eth_account.signers.local import LocalAccount

from orchestrator.dev import miner
from orchestrator.dev.contracts import ensure_contract
from orchestrator.dev.downloads import Progress, anvil_executable
from orchestrator.dev.http_client import HttpError, rpc, rpc_batch
from orchestrator.dev.launchpad import OTHER_SIGNER, ensure_launchpad
from orchestrator.dev.processes import Child, Part, Supervisor
from orchestrator.dev.wallets import Wallets, account_of

FUNDS_WEI = 10**24
"""What every wallet has at least after a start: a million coins of the chain."""


class Chain(Part):
    """A chain mined at an interval (`miner.py`). Clients need `rpc_url` and `contract_address`.

    `stop` (SIGTERM) writes the whole state; in between it is written every `state_interval`
    seconds, so `kill` loses up to that much of the chain, as a deep reorganisation would. What
    waits in the pool is lost by both.

    Memory: transactions, receipts and logs of all blocks stay queryable and cost about 15 kB per
    transaction (measured); the accounts' state is kept for the newest `history_blocks` only, an
    `eth_call` at an older block fails. `finalized` is two epochs of `epoch_blocks` behind the head.
    """

    stop_timeout_seconds = 60

    def __init__(
        self,
        chain_id: int,
        supervisor: Supervisor,
        folder: Path,
        *,
        port: int,
        block_time: float,
        gas_limit: int,
        wallets: Wallets,
        approver: str,
        progress: Progress,
        state_interval: int = 30,
        history_blocks: int = 64,
        epoch_blocks: int = 4,
        launchpad: bool = False,
        host: str = "127.0.0.1",
    ) -> None:
        super().__init__(f"chain-{chain_id}", supervisor, folder)
        self.chain_id = chain_id
        self.port = port
        self.block_time = block_time
        self.gas_limit = gas_limit
        self.state_interval = state_interval
        self.history_blocks = history_blocks
        self.epoch_blocks = epoch_blocks
        self.launchpad = launchpad
        self.host = host
        self.contract_address = ""
        self._wallets = wallets
        self._approver = approver
        self._progress = progress
        self._miner: Child | None = None

    @property
    def rpc_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _start(self) -> None:
        self._check_state_file()
        options = {
            "--host": self.host,
            "--port": self.port,
            "--chain-id": self.chain_id,
            "--gas-limit": self.gas_limit,
            "--state": self.folder / "state.json",
            "--state-interval": self.state_interval,
            "--prune-history": self.history_blocks,
            "--slots-in-an-epoch": self.epoch_blocks,
            "--accounts": 1,
            "--threads": 2,
        }
        command = [str(anvil_executable(self._progress)), "--quiet", "--no-mining"]
        command.append("--no-request-size-limit")
        for name, value in options.items():
            command += [name, str(value)]
        self._child = self._supervisor.start(self.name, command, log=self.log, cwd=self.folder)
        self._wait_until(self._answers, 60)
        self._fund()
        deployer = account_of(self._wallets.deployers[self.chain_id])
        self.contract_address = self._contract(deployer)
        self._start_mining()

    def _contract(self, deployer: LocalAccount) -> str:
        if not self.launchpad:
            return ensure_contract(self.rpc_url, self.chain_id, deployer, self._approver)
        relayers = [account_of(key).address for key in self._wallets.relayers[self.chain_id]]
        return ensure_launchpad(self.rpc_url, self.chain_id, deployer, self._approver, relayers)

    def _start_mining(self) -> None:
        command = [sys.executable, "-I", "-S", str(Path(miner.__file__).resolve())]
        self._miner = self._supervisor.start(
            f"{self.name}-miner",
            [*command, str(self.port), str(self.block_time)],
            log=self.log,
            cwd=self.folder,
        )

    def _stop_mining(self) -> None:
        if self._miner is not None:
            self._supervisor.stop(self._miner, signal.SIGKILL)

    def stop_blocking(self) -> None:
        with self._part_lock:
            self._stop_mining()
            super().stop_blocking()

    def kill_blocking(self) -> None:
        with self._part_lock:
            self._stop_mining()
            super().kill_blocking()

    async def set_block_time(self, seconds: float) -> None:
        """Mine at another interval from now on (not kept over a restart of the stack)."""
        self.block_time = seconds
        await self.pause_mining()
        await self.resume_mining()

    async def pause_mining(self) -> None:
        """No more blocks, except by `mine`; transactions wait in the pool."""
        await asyncio.to_thread(self._stop_mining)

    async def resume_mining(self) -> None:
        await asyncio.to_thread(self._stop_mining)
        await asyncio.to_thread(self._start_mining)

    def _check_state_file(self) -> None:
        """A state file that a kill left half-written is replaced by the one of the last start."""
        state, backup = self.folder / "state.json", self.folder / "state.backup.json"
        if _looks_whole(state):
            shutil.copyfile(state, backup)
            return
        if state.exists():
            self._progress(f"{self.name}: the state file is damaged, taking the last good one")
            state.unlink()
        if _looks_whole(backup):
            shutil.copyfile(backup, state)

    def _answers(self) -> bool:
        try:
            return int(rpc(self.rpc_url, "eth_chainId", timeout=5), 16) == self.chain_id
        except (OSError, HttpError):
            return False

    def _fund(self) -> None:
        keys = [self._wallets.deployers[self.chain_id], self._wallets.holder]
        keys += self._wallets.relayers.get(self.chain_id, [])
        addresses = [account_of(key).address for key in keys]
        addresses += [OTHER_SIGNER.address] if self.launchpad else []
        balances = rpc_batch(
            self.rpc_url, [("eth_getBalance", [address, "latest"]) for address in addresses]
        )
        poor = [
            address
            for address, balance in zip(addresses, balances, strict=True)
            if int(balance, 16) < FUNDS_WEI // 2
        ]
        rpc_batch(
            self.rpc_url, [("anvil_setBalance", [address, hex(FUNDS_WEI)]) for address in poor]
        )

    async def rpc(self, method: str, *params: Any) -> Any:
        """One JSON-RPC call to this chain, `anvil_…` and `evm_…` methods included."""
        return await asyncio.to_thread(rpc, self.rpc_url, method, *params)

    async def mine(self, blocks: int = 1) -> None:
        """Mine blocks now, besides the interval."""
        await self.rpc("anvil_mine", hex(blocks))

    async def reorganise(self, depth: int) -> None:
        """Replace the newest `depth` blocks by others; their transactions do not come back."""
        await self.rpc("anvil_reorg", depth, [])

    async def block_number(self) -> int:
        return int(await self.rpc("eth_blockNumber"), 16)


def _looks_whole(path: Path) -> bool:
    """Whether a state file begins and ends as one JSON object."""
    try:
        with path.open("rb") as file:
            if file.read(1) != b"{":
                return False
            file.seek(-1, 2)
            return file.read(1) == b"}"
    except OSError:
        return False
