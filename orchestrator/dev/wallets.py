"""The development keys of a stack: made at random once, kept in its data folder (mode 0600).

Four kinds, so that no test passes by a right that production would not have: a `deployer` owns
the contract of its chain; `relayers` only pay gas and have no role; the `holder` owns tokens and
asks for redemptions; the approver's key is none of these, it is in the KMS. Each chain has its own
deployer, hence its own contract address: mixing up two chains cannot go unnoticed.
"""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from eth_account import Account
from eth_account.signers.local import LocalAccount


@dataclass(frozen=True)
class Wallets:
    """Private keys as 0x-hex texts; deployers and relayers by chain id."""

    deployers: dict[int, str]
    holder: str
    relayers: dict[int, list[str]]

    @property
    def holder_account(self) -> LocalAccount:
        return account_of(self.holder)

    def __repr__(self) -> str:
        return "Wallets(…)"


def account_of(private_key: str) -> LocalAccount:
    """The account of a key."""
    account: LocalAccount = Account.from_key(private_key)
    return account


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner may read, all or nothing."""
    partial = path.with_suffix(".partial")
    partial.unlink(missing_ok=True)
    handle = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w") as file:
        file.write(text)
    partial.replace(path)


def load_wallets(path: Path, chain_ids: Sequence[int], wallets_per_chain: int) -> Wallets:
    """The wallets of this folder; missing ones are added, existing ones never change."""

    def new_key() -> str:
        return "0x" + secrets.token_hex(32)

    stored = json.loads(path.read_text()) if path.exists() else {}
    deployers = stored.setdefault("deployers", {})
    stored.setdefault("holder", new_key())
    relayers = stored.setdefault("relayers", {})
    for chain_id in chain_ids:
        deployers.setdefault(str(chain_id), new_key())
        keys = relayers.setdefault(str(chain_id), [])
        keys.extend(new_key() for _ in range(wallets_per_chain - len(keys)))
    write_private(path, json.dumps(stored, indent=2) + "\n")
    return Wallets(
        deployers={chain: deployers[str(chain)] for chain in chain_ids},
        holder=stored["holder"],
        relayers={chain: relayers[str(chain)][:wallets_per_chain] for chain in chain_ids},
    )
