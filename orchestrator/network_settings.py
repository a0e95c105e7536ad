"""Settings that are lists of addresses and networks."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Annotated, Any

from pydantic import BeforeValidator


def _networks(value: Any) -> Any:
    """Addresses and networks of a comma-separated list."""
    if isinstance(value, str):
        parts = tuple(part.strip() for part in value.split(",") if part.strip())
        for part in parts:
            try:
                ip_network(part)
            except ValueError:
                raise ValueError(
                    f"{part!r} is no address or network such as 192.0.2.0/24"
                ) from None
        return parts
    return value


Networks = Annotated[tuple[str, ...], BeforeValidator(_networks)]
