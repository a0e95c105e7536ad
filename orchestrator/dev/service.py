"""Our own service beside the embedded stack: any command of the CLI as a supervised process, so
that it can be killed like in life and never outlives the stack."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence

from orchestrator.dev.downloads import PACKAGE_FOLDER
from orchestrator.dev.http_client import HttpError, request_json
from orchestrator.dev.processes import Part
from orchestrator.dev.stack import EmbeddedStack


def service_environment(stack: EmbeddedStack, **more: str) -> dict[str, str]:
    """The environment of a service on this stack; `more` adds or replaces settings."""
    root = str(PACKAGE_FOLDER.parents[1])
    kept = ("PATH", "HOME", "LANG", "TMPDIR", "SSL_CERT_FILE")
    return {
        **{name: os.environ[name] for name in kept if name in os.environ},
        "PYTHONPATH": root,
        "PYTHONUNBUFFERED": "1",
        "HOST": "127.0.0.1",
        "CONFIRMATIONS": "2",
        "API_RATE_LIMIT": "off",
        **stack.environment,
        **more,
    }


class Service(Part):
    """`orchestrator <arguments>` as a part: start, stop, kill, restart, pause. With `api_port` it
    is ready when the API answers; without, as soon as it runs."""

    stop_timeout_seconds = 30

    def __init__(
        self,
        stack: EmbeddedStack,
        name: str,
        arguments: Sequence[str],
        environment: Mapping[str, str],
        api_port: int | None = None,
    ) -> None:
        super().__init__(name, stack.supervisor, stack.data_dir / name)
        self._arguments = list(arguments)
        self._environment = dict(environment)
        self.api_port = api_port

    @property
    def base_url(self) -> str:
        return f"http://127.0.0.1:{self.api_port}"

    def _start(self) -> None:
        environment = dict(self._environment)
        if self.api_port is not None:
            environment["PORT"] = str(self.api_port)
        self._child = self._supervisor.start(
            self.name,
            [sys.executable, "-m", "orchestrator", *self._arguments],
            log=self.log,
            cwd=self.folder,
            env=environment,
        )
        if self.api_port is not None:
            self._wait_until(self._answers, 60)

    def wait_blocking(self) -> int | None:
        """Until a command that ends by itself has ended; its exit code."""
        if self._child is None:
            return None
        self._child.exited.wait()
        return self._child.code

    def _answers(self) -> bool:
        try:
            request_json("GET", f"{self.base_url}/health/ready")
        except (HttpError, OSError):
            return False
        return True
