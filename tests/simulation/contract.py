"""A working model of the Stablecoin contract (contracts/Stablecoin.sol): the same questions in the
same order, with real signatures. States are copied on write, so that every block keeps its own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any, ClassVar

import coincurve
from eth_abi.abi import decode, encode
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.core.contract import Approval, Profile
from orchestrator.core.orchestrator_profile import ORCHESTRATOR
from schemas.base import RequestType

_ARGUMENTS = ["string", "address", "uint256", "uint256", "uint256", "bytes"]


checksummed = lru_cache(maxsize=20_000)(to_checksum_address)


def selector(signature: str) -> str:
    return "0x" + keccak(text=signature)[:4].hex()


MINT = selector(f"mintWithApproval({','.join(_ARGUMENTS)})")
FINALIZE = selector(f"finalizeRedeem({','.join(_ARGUMENTS)})")
REQUEST_REDEEM = selector("requestRedeem(uint256)")
IS_PROCESSED = selector("isProcessed(string)")
TOTAL_SUPPLY = selector("totalSupply()")
MINT_IN_ORDER = selector("mintWithApproval(address,uint256,uint256,uint64,uint256,bytes32,bytes)")
GAS_OF = {MINT: 95_000, FINALIZE: 80_000, REQUEST_REDEEM: 90_000, MINT_IN_ORDER: 95_000}
INTRINSIC_GAS = 21_000
_TOPIC = {
    name: "0x" + keccak(text=f"{name}(string,address,uint256)").hex()
    for name in ("Minted", "Redeemed", "RedeemRequested")
}
TRANSFER = "0x" + keccak(text="Transfer(address,address,uint256)").hex()
NOBODY = "0x" + "0" * 40
YES = "0x" + "1".rjust(64, "0")
NO = "0x" + "0" * 64


class Reverted(Exception):
    """The contract refuses; the text is the reason as the adapters give it."""


@dataclass
class State:
    """The contract's storage and the accounts' nonces, after one block. `approvals` are the nonces
    of recipients, where a contract has them."""

    processed: dict[str, RequestType] = field(default_factory=dict)
    used: set[int] = field(default_factory=set)
    balances: dict[str, int] = field(default_factory=dict)
    locked: dict[str, tuple[str, int]] = field(default_factory=dict)
    redemptions: int = 0
    supply: int = 0
    nonces: dict[str, int] = field(default_factory=dict)
    approvals: dict[str, int] = field(default_factory=dict)

    def copy(self) -> State:
        return State(
            dict(self.processed),
            set(self.used),
            dict(self.balances),
            dict(self.locked),
            self.redemptions,
            self.supply,
            dict(self.nonces),
            dict(self.approvals),
        )


@dataclass(frozen=True)
class Happened:
    """An event of the contract, as topics and data (0x hex)."""

    topics: tuple[str, ...]
    data: str


@lru_cache(maxsize=20_000)
def _arguments(data: str) -> tuple[Any, ...]:
    try:
        return tuple(decode(_ARGUMENTS, bytes.fromhex(data[10:])))
    except Exception:  # noqa: BLE001 - eth-abi raises many kinds
        raise Reverted("execution reverted") from None


@lru_cache(maxsize=20_000)
def signer_of(message: str, signature: bytes) -> str:
    """The address that signed a digest (0x hex), by recovery."""
    raw = signature[:64] + bytes([signature[64] - 27])
    key = coincurve.PublicKey.from_signature_and_message(
        raw, bytes.fromhex(message[2:]), hasher=None
    )
    return str(to_checksum_address(keccak(key.format(compressed=False)[1:])[-20:]))


@lru_cache(maxsize=20_000)
def digest_of(profile: Profile, approval: Approval) -> str:
    return profile.digest(approval)


@dataclass(frozen=True)
class Stablecoin:
    chain_id: int
    address: str
    approver: str
    profile: ClassVar[Profile] = ORCHESTRATOR

    def execute(self, state: State, sender: str, data: str, timestamp: int) -> list[Happened]:
        """Change `state`, or raise Reverted and change nothing."""
        acts: dict[str, Callable[[], list[Happened]]] = {
            MINT: lambda: self._mint(state, data, timestamp),
            FINALIZE: lambda: self._finalize(state, data, timestamp),
            REQUEST_REDEEM: lambda: self._request(state, sender, int(data[10:], 16)),
        }
        act = acts.get(data[:10])
        if act is None:
            raise Reverted("execution reverted")
        return act()

    def is_view(self, data: str) -> bool:
        return data.startswith((IS_PROCESSED, TOTAL_SUPPLY))

    def view(self, state: State, data: str) -> str:
        if data == TOTAL_SUPPLY:
            return f"0x{state.supply:064x}"
        (request_id,) = decode(["string"], bytes.fromhex(data[10:]))
        return YES if request_id in state.processed else NO

    def _mint(self, state: State, data: str, timestamp: int) -> list[Happened]:
        request_id, account, amount, nonce, deadline, signature = _arguments(data)
        account = checksummed(account)
        if request_id in state.processed:
            raise Reverted(f'RequestAlreadyProcessed("{request_id}")')
        if request_id in state.locked:
            raise Reverted(f'RequestIsRedemption("{request_id}")')
        approval = (RequestType.MINT, request_id, account, amount, nonce, deadline)
        self._use(state, approval, signature, timestamp)
        state.balances[account] = state.balances.get(account, 0) + amount
        state.supply += amount
        return [moved(NOBODY, account, amount), _event("Minted", request_id, account, amount)]

    def _finalize(self, state: State, data: str, timestamp: int) -> list[Happened]:
        request_id, account, amount, nonce, deadline, signature = _arguments(data)
        account = checksummed(account)
        if request_id in state.processed:
            raise Reverted(f'RequestAlreadyProcessed("{request_id}")')
        if request_id not in state.locked:
            raise Reverted(f'UnknownRedemption("{request_id}")')
        if state.locked[request_id] != (account, amount):
            raise Reverted("RedemptionMismatch")
        approval = (RequestType.REDEEM, request_id, account, amount, nonce, deadline)
        self._use(state, approval, signature, timestamp)
        state.supply -= amount
        burnt = moved(self.address, NOBODY, amount)
        return [burnt, _event("Redeemed", request_id, account, amount)]

    def _use(self, state: State, parts: tuple[Any, ...], signature: bytes, timestamp: int) -> None:
        kind, request_id, account, amount, nonce, deadline = parts
        if amount == 0:
            raise Reverted("ZeroAmount()")
        if nonce in state.used:
            raise Reverted(f"NonceAlreadyUsed({nonce})")
        if timestamp > deadline:
            raise Reverted(f"ApprovalExpired({deadline})")
        approval = Approval(
            kind, self.chain_id, self.address, request_id, account, amount, nonce, deadline
        )
        if (
            len(signature) != 65
            or signer_of(digest_of(self.profile, approval), signature) != self.approver
        ):
            raise Reverted("InvalidSigner")
        state.processed[request_id] = kind
        state.used.add(nonce)

    def _request(self, state: State, sender: str, amount: int) -> list[Happened]:
        if amount == 0:
            raise Reverted("ZeroAmount()")
        if state.balances.get(sender, 0) < amount:
            raise Reverted("ERC20InsufficientBalance")
        state.redemptions += 1
        request_id = f"redeem-{state.redemptions}"
        while request_id in state.processed:
            state.redemptions += 1
            request_id = f"redeem-{state.redemptions}"
        state.locked[request_id] = (sender, amount)
        state.balances[sender] -= amount
        locked = moved(sender, self.address, amount)
        return [locked, _event("RedeemRequested", request_id, sender, amount)]


def redeem_data(amount: int) -> str:
    return REQUEST_REDEEM + f"{amount:064x}"


def moved(sender: str, to: str, amount: int) -> Happened:
    """ERC-20's transfer; from or to the zero address, a mint or a burn."""
    ends = ["0x" + account[2:].lower().rjust(64, "0") for account in (sender, to)]
    return Happened((TRANSFER, *ends), f"0x{amount:064x}")


def _event(name: str, request_id: str, account: str, amount: int) -> Happened:
    indexed = "0x" + account[2:].lower().rjust(64, "0")
    data = "0x" + encode(["string", "uint256"], [request_id, amount]).hex()
    return Happened((_TOPIC[name], indexed), data)
