"""The composed demonstration's keys, the same for everybody: worth nothing, and never to be funded
on a chain that is not a development chain.

They follow from names, so that addresses of contracts are known before anything runs, and can
stand in `deploy/dev/compose.env`. The approver's key is not one of them: the KMS container makes it
at random and keeps it.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path

from eth_utils.crypto import keccak

from orchestrator.dev.contracts import first_contract_address
from orchestrator.dev.wallets import Wallets, account_of

PASSWORD = "development"
RPC_PORT = 8545


def development_key(role: str) -> str:
    """A private key, 0x and 64 hex digits, that everybody knows."""
    return "0x" + keccak(text=f"stablecoin-orchestrator, development only: {role}").hex()


def development_wallets(chain_ids: Sequence[int]) -> Wallets:
    """One relayer a chain."""
    return Wallets(
        deployers={chain: development_key(f"deployer of {chain}") for chain in chain_ids},
        holder=development_key("holder"),
        relayers={chain: [development_key(f"relayer of {chain}")] for chain in chain_ids},
    )


def contract_address(chain_id: int) -> str:
    """Where the contract of that chain stands once its container is ready."""
    deployer = development_wallets([chain_id]).deployers[chain_id]
    return first_contract_address(account_of(deployer).address)


def secret_files(chain_ids: Sequence[int]) -> dict[str, str]:
    """What docker-compose.yml wants as files, by their names."""
    database = f"postgresql://orchestrator:{PASSWORD}@postgres/orchestrator"
    relayers = development_wallets(chain_ids).relayers
    return {
        "postgres_password": PASSWORD,
        "database_url": database,
        "signing_guard_url": database,
        "grafana_password": PASSWORD,
        "webhooks": "[]",
        "aws_credentials": (
            "[default]\naws_access_key_id = development\naws_secret_access_key = development"
        ),
        "seal_aws_credentials": "",
        "seal_reading_aws_credentials": "",
        "seal_public_keys": "",
        **{f"relayer_private_key_{chain}": ",".join(keys) for chain, keys in relayers.items()},
    }


def settings(chain_ids: Sequence[int]) -> dict[str, str]:
    """What docker-compose.yml requires, for the containers of docker-compose.dev.yml."""
    return {
        "AWS_REGION": "us-east-1",
        "AWS_ENDPOINT_URL_KMS": "http://kms:8081",
        "KMS_KEY_ID": "alias/stablecoin-approver",
        "KURO_WEBSOCKET_URL": "ws://kuro:8080/events",
        "KURO_REST_URL": "http://kuro:8080/api",
        "CHAIN_IDS": ",".join(map(str, chain_ids)),
        **{
            f"KADENA_EVM_CHAIN_{chain}_RPC": f"http://chain-{chain}:{RPC_PORT}"
            for chain in chain_ids
        },
        **{f"STABLECOIN_CONTRACT_ADDRESS_{chain}": contract_address(chain) for chain in chain_ids},
        "CONFIRMATIONS": "2",
        "API_RATE_LIMIT": "off",
        "SECRETS_DIR": "./deploy/dev/keys",
    }


def write(folder: Path, chain_ids: Sequence[int]) -> None:
    """`compose.env` and `keys/`; what is there is replaced."""
    (folder / "keys").mkdir(parents=True, exist_ok=True)
    for name, text in secret_files(chain_ids).items():
        (folder / "keys" / name).write_text(text + "\n")
    lines = [f"{name}={value}" for name, value in settings(chain_ids).items()]
    head = (
        "# For docker-compose.dev.yml alone: python -m orchestrator.dev.containers.keys deploy/dev"
    )
    (folder / "compose.env").write_text("\n".join([head, *lines]) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]), (5920, 5921, 5922, 5923, 5924))
