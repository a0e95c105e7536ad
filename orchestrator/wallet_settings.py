"""Wallets among the settings: keys from the environment or from files, never shown; addresses."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from eth_keys.main import KeyAPI
from pydantic import SecretStr

from orchestrator.core.policy import address_or_none


def private_keys_of(
    chain_id: int, environ: Mapping[str, str], problems: list[str]
) -> tuple[SecretStr, ...]:
    name = f"RELAYER_PRIVATE_KEY_{chain_id}"
    text = environ.get(name) or text_of_file(environ, f"{name}_FILE", problems) or ""
    keys: list[SecretStr] = []
    for number, part in enumerate((part.strip() for part in text.split(",") if part.strip()), 1):
        digits = part.removeprefix("0x")
        try:
            KeyAPI().PrivateKey(bytes.fromhex(digits)).public_key.to_checksum_address()
        except Exception:  # noqa: BLE001 - what was given may be a key: never show it
            problems.append(f"{name}: key {number} is not 0x and 64 hex digits of a valid key")
            continue
        keys.append(SecretStr("0x" + digits))
    return tuple(keys)


def addresses_of(
    chain_id: int,
    environ: Mapping[str, str],
    keys: tuple[SecretStr, ...],
    problems: list[str],
) -> tuple[str, ...]:
    derived = tuple(
        KeyAPI()
        .PrivateKey(bytes.fromhex(key.get_secret_value()[2:]))
        .public_key.to_checksum_address()
        for key in keys
    )
    name = f"RELAYER_ADDRESS_{chain_id}"
    given = [part.strip() for part in environ.get(name, "").split(",") if part.strip()]
    addresses = tuple(address_or_none(part) or "" for part in given)
    if "" in addresses:
        problems.append(f"{name}: address {addresses.index('') + 1} is no address")
    elif derived and addresses and set(derived) != set(addresses):
        problems.append(f"{name}: does not name the wallets of RELAYER_PRIVATE_KEY_{chain_id}")
    if len(set(derived)) != len(derived) or len(set(addresses)) != len(addresses):
        problems.append(f"RELAYER_PRIVATE_KEY_{chain_id}: names a wallet twice")
    return derived or addresses


def text_of_file(environ: Mapping[str, str], name: str, problems: list[str]) -> str | None:
    path = environ.get(name)
    if not path:
        return None
    try:
        return Path(path).read_text(encoding="utf-8").strip()
    except (OSError, ValueError) as error:
        problems.append(f"{name}: the file cannot be read ({type(error).__name__})")
        return None
