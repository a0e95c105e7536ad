"""Handles of the two servers that are our own: the KMS endpoint and the Kuro simulator."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from orchestrator.dev.downloads import PACKAGE_FOLDER
from orchestrator.dev.http_client import request_json
from orchestrator.dev.kms_keys import KeyStore, ensure_approver_key
from orchestrator.dev.ports import is_listening
from orchestrator.dev.processes import Part, Supervisor


class PythonServer(Part):
    """A module of this package that serves HTTP, in a process of its own."""

    stop_timeout_seconds = 5

    def __init__(self, name: str, supervisor: Supervisor, folder: Path, *, port: int) -> None:
        super().__init__(name, supervisor, folder)
        self.port = port

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _launch(self, module: str, arguments: Sequence[str]) -> None:
        root = str(PACKAGE_FOLDER.parents[1])
        path = os.pathsep.join(filter(None, [root, os.environ.get("PYTHONPATH", "")]))
        self._child = self._supervisor.start(
            self.name,
            [sys.executable, "-m", module, "--port", str(self.port), *arguments],
            log=self.log,
            cwd=self.folder,
            env={**os.environ, "PYTHONPATH": path},
        )
        self._wait_until(lambda: is_listening(self.port), 30)

    async def control(self, method: str, name: str, body: Any = None) -> Any:
        """One request to `/__control/<name>`; raises `HttpError`."""
        url = f"{self.base_url}/__control/{name}"
        return await asyncio.to_thread(request_json, method, url, body)


class Kms(PythonServer):
    """The KMS endpoint. `key_id` and `address` are the approver's and survive every restart."""

    def __init__(self, supervisor: Supervisor, folder: Path, *, port: int, region: str) -> None:
        super().__init__("kms", supervisor, folder, port=port)
        self.region = region
        self._keys_file = folder / "keys.json"
        folder.mkdir(parents=True, exist_ok=True)
        key = ensure_approver_key(self._keys_file, region)
        self.key_id = key.key_id
        self.key_arn = KeyStore(self._keys_file, region).arn(key)
        self.address = key.address or ""

    def _start(self) -> None:
        arguments = ["--keys", str(self._keys_file), "--region", self.region]
        self._launch("orchestrator.dev.kms_server", arguments)

    async def set_faults(self, **faults: Any) -> dict[str, Any]:
        """Change some fields of `kms_server.Faults`; returns all of them."""
        answer: dict[str, Any] = await self.control("POST", "faults", faults)
        return answer

    async def clear_faults(self) -> None:
        await self.set_faults(
            latency_ms=0,
            jitter_ms=0,
            throttle_every=0,
            quota_per_second=0,
            lose_every=0,
            fail_every=0,
            deny=False,
            down=False,
        )

    async def signatures(self) -> dict[str, int]:
        """How often each digest (hex, no 0x) was signed since the endpoint's start."""
        answer: dict[str, int] = (await self.control("GET", "signatures"))["by_digest"]
        return answer


class Kuro(PythonServer):
    """The Kuro simulator."""

    def __init__(
        self, supervisor: Supervisor, folder: Path, *, port: int, pending_limit: int = 5_000
    ) -> None:
        super().__init__("kuro", supervisor, folder, port=port)
        self.pending_limit = pending_limit

    @property
    def websocket_url(self) -> str:
        return f"ws://127.0.0.1:{self.port}/events"

    @property
    def rest_url(self) -> str:
        return f"http://127.0.0.1:{self.port}/api"

    def _start(self) -> None:
        arguments = ["--pending-limit", str(self.pending_limit)]
        arguments += ["--journal", str(self.folder / "journal.jsonl")]
        self._launch("orchestrator.dev.kuro_simulator", arguments)

    async def mint(self, *mints: dict[str, Any]) -> list[str]:
        """Accept mints (missing fields get defaults); returns their request ids."""
        answer: list[str] = (await self.control("POST", "mint", {"mints": mints}))["requestIds"]
        return answer

    async def mint_many(self, count: int, **template: Any) -> list[str]:
        """Accept `count` mints with random ids and users; returns their request ids."""
        body = {**template, "count": count}
        answer: list[str] = (await self.control("POST", "mint", body))["requestIds"]
        return answer

    async def settle(self, request_ids: Sequence[str] | None = None) -> int:
        """Take requests (all, when not given) from the pending list; returns how many it had."""
        body = {"all": True} if request_ids is None else {"requestIds": list(request_ids)}
        answer: int = (await self.control("POST", "settle", body))["settled"]
        return answer

    async def behave(self, **behaviour: Any) -> dict[str, Any]:
        """Change some fields of `kuro_simulator.Behaviour`; returns all of them."""
        answer: dict[str, Any] = await self.control("POST", "behaviour", behaviour)
        return answer

    async def drop_sockets(self) -> int:
        answer: int = (await self.control("POST", "drop"))["dropped"]
        return answer

    async def send_text(self, text: str) -> None:
        """Send any text to all connected sockets."""
        await self.control("POST", "send", {"text": text})

    async def state(self) -> dict[str, int]:
        """Counts: accepted, settled, pending, sockets, waiting."""
        answer: dict[str, int] = await self.control("GET", "state")
        return answer
