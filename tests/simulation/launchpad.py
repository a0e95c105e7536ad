"""A working model of contracts/LaunchpadStableCoin.sol: the same questions in the same order."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import coincurve
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.core.contract import Approval, Profile
from orchestrator.core.launchpad_profile import LaunchpadProfile, contract_id
from schemas.base import RequestType
from tests.simulation.contract import (
    MINT_IN_ORDER,
    NO,
    NOBODY,
    REQUEST_REDEEM,
    TOTAL_SUPPLY,
    YES,
    Happened,
    Reverted,
    State,
    checksummed,
    digest_of,
    moved,
    selector,
    signer_of,
)

LAUNCHPAD = LaunchpadProfile("Pad Dollar")
_ARGUMENTS = ["address", "uint256", "uint256", "uint64", "uint256", "bytes32", "bytes"]
_PROCESSED = selector("mintProcessed(bytes32)")
_NONCES = selector("nonces(address)")
_MINTED, _REDEEMED = LAUNCHPAD.event_topics

_FOREIGN_KEY = coincurve.PrivateKey(keccak(text="another signer of the launchpad"))
FOREIGN_SIGNER = str(
    to_checksum_address(keccak(_FOREIGN_KEY.public_key.format(compressed=False)[1:])[-20:])
)


@lru_cache(maxsize=20_000)
def _arguments(data: str) -> tuple[Any, ...]:
    try:
        return tuple(decode(_ARGUMENTS, bytes.fromhex(data[10:])))
    except Exception:  # noqa: BLE001 - eth-abi raises many kinds
        raise Reverted("execution reverted") from None


@dataclass(frozen=True)
class LaunchpadStableCoin:
    """`relayers` may call; signatures of `signers` count. `foreign` are the ids that others minted
    by a signature of their own."""

    chain_id: int
    address: str
    signers: frozenset[str]
    relayers: frozenset[str]
    foreign: set[str] = field(default_factory=set, hash=False, compare=False)
    profile: Profile = LAUNCHPAD

    def execute(self, state: State, sender: str, data: str, timestamp: int) -> list[Happened]:
        """Change `state`, or raise Reverted and change nothing."""
        if data[:10] == MINT_IN_ORDER:
            return self._mint(state, sender, data, timestamp)
        if data[:10] == REQUEST_REDEEM:
            return self._redeem(state, sender, int(data[10:], 16))
        raise Reverted("execution reverted")

    def is_view(self, data: str) -> bool:
        return data[:10] in (_PROCESSED, _NONCES, TOTAL_SUPPLY)

    def view(self, state: State, data: str) -> str:
        if data[:10] == _PROCESSED:
            return YES if "0x" + data[10:] in state.processed else NO
        if data == TOTAL_SUPPLY:
            return f"0x{state.supply:064x}"
        account = checksummed("0x" + data[-40:])
        return f"0x{state.approvals.get(account, 0):064x}"

    def _mint(self, state: State, sender: str, data: str, timestamp: int) -> list[Happened]:
        to, amount, nonce, expiry, chain_id, word, signature = _arguments(data)
        account, request_id = checksummed(to), "0x" + word.hex()
        expected = state.approvals.get(account, 0)
        if request_id in state.processed:
            raise Reverted(f"MintAlreadyProcessed({request_id})")
        if sender not in self.relayers:
            raise Reverted(f"NotRelayer({sender})")
        if amount == 0 or chain_id != self.chain_id:
            raise Reverted("ZeroAmount() or WrongChain()")
        if timestamp > expiry:
            raise Reverted(f"ApprovalExpired({expiry})")
        if nonce != expected:
            raise Reverted(f"WrongNonce({account}, {expected}, {nonce})")
        approval = Approval(
            RequestType.MINT, chain_id, self.address, request_id, account, amount, nonce, expiry
        )
        digest = digest_of(self.profile, approval)
        if len(signature) != 65 or signer_of(digest, signature) not in self.signers:
            raise Reverted("NotSigner")
        state.processed[request_id] = RequestType.MINT
        state.approvals[account] = nonce + 1
        state.balances[account] = state.balances.get(account, 0) + amount
        state.supply += amount
        indexed = "0x" + account[2:].lower().rjust(64, "0")
        told = encode(["uint256", "uint256", "bytes32"], [amount, nonce, word])
        event = Happened((_MINTED, indexed), "0x" + told.hex())
        return [moved(NOBODY, account, amount), event]

    def _redeem(self, state: State, sender: str, amount: int) -> list[Happened]:
        if amount == 0 or state.balances.get(sender, 0) < amount:
            raise Reverted("ZeroAmount() or ERC20InsufficientBalance()")
        state.balances[sender] -= amount
        state.supply -= amount
        told = encode(["address", "uint256"], [sender, amount])
        return [moved(sender, NOBODY, amount), Happened((_REDEEMED,), "0x" + told.hex())]


def foreign_mint(
    contract: LaunchpadStableCoin, request_id: str, to: str, amount: int, nonce: int, expiry: int
) -> str:
    """Calldata of a mint that another whitelisted signer approved."""
    approval = Approval(
        RequestType.MINT, contract.chain_id, contract.address, request_id, to, amount, nonce, expiry
    )
    digest = bytes.fromhex(LAUNCHPAD.digest(approval)[2:])
    raw = _FOREIGN_KEY.sign_recoverable(digest, hasher=None)
    contract.foreign.add(contract_id(request_id))
    return LAUNCHPAD.calldata(approval, "0x" + raw[:64].hex() + f"{27 + raw[64]:x}")
