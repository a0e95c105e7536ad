"""TCP ports on 127.0.0.1 that a stack keeps over restarts.

Free ports are looked for below the range from which systems take ports of outgoing connections
(Linux: from 32768; macOS: from 49152). So while a part is down for a restart, no client of the
machine is given its port by chance.
"""

from __future__ import annotations

import json
import random
import socket
from collections.abc import Mapping
from pathlib import Path

from orchestrator.dev.processes import StackError

_LOWEST = 20_000
_HIGHEST = 32_000


def is_free(port: int) -> bool:
    """Whether a server could listen on this port now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def is_listening(port: int) -> bool:
    """Whether somebody accepts connections on this port."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.settimeout(0.5)
        return probe.connect_ex(("127.0.0.1", port)) == 0


def chosen_port() -> int:
    """A free one below the range of outgoing connections, by chance: whoever is given one the next
    moment is given another."""
    while True:
        port = random.randint(_LOWEST, _HIGHEST)
        if is_free(port):
            return port


def assign_ports(names: list[str], wanted: Mapping[str, int], file: Path) -> dict[str, int]:
    """A port for each name: the wanted one, else that of last time if free, else a free one.

    Remembers the answer in `file`. Raises `StackError` when a wanted port is taken.
    """
    unknown = set(wanted) - set(names)
    if unknown:
        raise StackError(f"no such ports: {sorted(unknown)}; the names are {sorted(names)}")
    try:
        remembered: dict[str, int] = json.loads(file.read_text())
    except (OSError, ValueError):
        remembered = {}
    ports: dict[str, int] = {}
    for name in names:
        if name in wanted:
            if not is_free(wanted[name]):
                raise StackError(f"port {wanted[name]}, wanted for {name}, is in use")
            ports[name] = wanted[name]
    for name in names:
        port = ports.get(name) or remembered.get(name, 0)
        others = {value for key, value in ports.items() if key != name}
        while not port or port in others or not is_free(port):
            port = chosen_port()
        ports[name] = port
    file.write_text(json.dumps(remembered | ports, indent=2) + "\n")
    return ports
