"""Approvals that are ready: what the ceiling and the relaying alone are given, both the same."""

from __future__ import annotations

import secrets
import time
from typing import Any

from eth_keys.main import KeyAPI

from orchestrator.adapters.wallets import LocalWallet
from orchestrator.core.contract import Approval
from orchestrator.core.orchestrator_profile import ORCHESTRATOR, approval_nonce
from orchestrator.dev.chains import Chain
from orchestrator.dev.http_client import rpc
from orchestrator.dev.kms_keys import ensure_approver_key
from orchestrator.dev.stack import REGION, EmbeddedStack
from orchestrator.ports import UnsignedTransaction
from schemas.base import RequestType
from schemas.lanes import RelayRequested

_GWEI = 10**9
_GAS = 150_000
"""Of each ceiling transaction; a mint of a new request uses about 70,000."""


class Approver:
    """The key in the stack's KMS, used here without it."""

    def __init__(self, stack: EmbeddedStack) -> None:
        stored = ensure_approver_key(stack.kms.folder / "keys.json", REGION)
        secret: Any = stored.private_key
        value = int(secret.private_numbers().private_value)
        self._key = KeyAPI().PrivateKey(value.to_bytes(32, "big"))

    def relays(self, chain: Chain, wallet: str, count: int) -> list[RelayRequested]:
        """So many mints of one token for one holder, approved, for this wallet to relay."""
        deadline = int(time.time()) + 86_400
        return [self._relay(chain, wallet, deadline) for _ in range(count)]

    def _relay(self, chain: Chain, wallet: str, deadline: int) -> RelayRequested:
        name = f"bench-{secrets.token_hex(12)}"
        approval = Approval(
            type=RequestType.MINT,
            chain_id=chain.chain_id,
            contract=chain.contract_address,
            request_id=name,
            account="0x00000000000000000000000000000000000A11CE",
            amount=10**18,
            nonce=approval_nonce(name),
            deadline=deadline,
        )
        v, r, s = self._key.sign_msg_hash(bytes.fromhex(ORCHESTRATOR.digest(approval)[2:])).vrs
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big") + bytes([27 + v])
        return RelayRequested(
            chain_id=chain.chain_id,
            wallet=wallet,
            request_key=name,
            request_id=name,
            attempt=1,
            contract=chain.contract_address,
            data=ORCHESTRATOR.calldata(approval, "0x" + signature.hex()),
            deadline=deadline,
        )

    def signed(self, chain: Chain, private_key: str, count: int) -> list[str]:
        """The same mints as raw transactions on the wallet's next nonces."""
        wallet = LocalWallet(private_key)
        nonce = int(rpc(chain.rpc_url, "eth_getTransactionCount", wallet.address, "latest"), 16)
        return [
            wallet.sign(
                UnsignedTransaction(
                    chain_id=chain.chain_id,
                    nonce=nonce + place,
                    to=relay.contract,
                    data=relay.data,
                    gas_limit=_GAS,
                    max_fee_per_gas_wei=100 * _GWEI,
                    max_priority_fee_per_gas_wei=_GWEI,
                )
            ).raw
            for place, relay in enumerate(self.relays(chain, wallet.address, count))
        ]
