"""Working models of KMS and of Kuro."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable

import coincurve
import orjson
from coincurve._libsecp256k1 import ffi
from eth_utils.address import to_checksum_address
from eth_utils.crypto import keccak

from orchestrator.adapters.kuro import KuroHealth
from orchestrator.adapters.kuro_messages import Received
from orchestrator.errors import SigningError, SigningProblem
from schemas.kuro import Via
from tests.simulation.aiming import Errand
from tests.simulation.wire import Wire

_KEY = coincurve.PrivateKey(keccak(text="the key of the simulation"))
APPROVER = str(to_checksum_address(keccak(_KEY.public_key.format(compressed=False)[1:])[-20:]))


HOLDERS = (
    "0x5aAeb6053F3E94C9b9A09f33669435E7Ef1BeAed",
    "0xfB6916095ca1df60bB79Ce92cE3Ea74c37c5d359",
    "0xdbF03B407c01E7cD3CBea99509d93f8DDDC8C6FB",
)


class SimulatedKms:
    """`ports.ApprovalSigner`. Every signature of a digest is another one, as from KMS. `on_ask`
    sees each digest when it is asked for."""

    def __init__(self, wire: Wire, on_ask: Callable[[str], None]) -> None:
        self._wire = wire
        self._on_ask = on_ask
        self.on_start: Callable[[str], None] = lambda _: None
        """Sees each digest when a process asks for it; on the way it may be late."""
        self.throttled = 0.0
        self.down = False

    async def address(self) -> str:
        await asyncio.sleep(0)
        return APPROVER

    async def sign(self, digest: str) -> str:
        def signed() -> str:
            self._on_ask(digest)
            if self.down:
                raise SigningError(SigningProblem.UNAVAILABLE, "KMSInternalException (HTTP 500)")
            if self._wire.chance(self.throttled):
                raise SigningError(SigningProblem.THROTTLED, "ThrottlingException (HTTP 400)")
            salt = ffi.from_buffer(self._wire.rng.randbytes(32))
            raw = _KEY.sign_recoverable(
                bytes.fromhex(digest[2:]), hasher=None, custom_nonce=(ffi.NULL, salt)
            )
            return "0x" + raw[:64].hex() + f"{27 + raw[64]:x}"

        self.on_start(digest)
        return await self._wire.exchange(
            signed,
            lambda: SigningError(SigningProblem.UNAVAILABLE, "ReadTimeoutError"),
            errand=Errand("sign"),
        )

    async def close(self) -> None:
        pass


class Kuro:
    """The bank's service: a list of what it allowed, and sockets that hear what is said now."""

    def __init__(self) -> None:
        self.allowed: list[bytes] = []
        self.sockets: list[asyncio.Queue[bytes]] = []

    def allow(self, message: bytes) -> None:
        """On the list from now on, and told to whoever listens."""
        self.allowed.append(message)
        self.say(message)

    def say(self, message: bytes) -> None:
        for socket in self.sockets:
            socket.put_nowait(message)

    def hang_up(self) -> None:
        self.sockets.clear()


class SimulatedKuroSource:
    """What `adapters.kuro.KuroSource` is to the listener: raw messages of the socket and of the
    list. The list is fetched after each connect and now and then."""

    def __init__(self, kuro: Kuro, wire: Wire, interval_seconds: float) -> None:
        self._kuro = kuro
        self._wire = wire
        self._interval = interval_seconds
        self._queue: asyncio.Queue[Received] = asyncio.Queue()
        self.health = KuroHealth()

    async def batches(self, largest: int) -> AsyncGenerator[list[Received], None]:
        tasks = [
            asyncio.create_task(self._socket_loop(), name="kuro socket"),
            asyncio.create_task(self._list_loop(), name="kuro list"),
        ]
        try:
            while True:
                batch = [await self._queue.get()]
                while len(batch) < largest and not self._queue.empty():
                    batch.append(self._queue.get_nowait())
                yield batch
        finally:
            for task in tasks:
                task.cancel()

    async def _socket_loop(self) -> None:
        while True:
            heard: asyncio.Queue[bytes] = asyncio.Queue()
            self._kuro.sockets.append(heard)
            while heard in self._kuro.sockets or not heard.empty():
                try:
                    message = await asyncio.wait_for(heard.get(), 2)
                except TimeoutError:
                    continue
                await self._queue.put(Received(message, Via.SOCKET))
            await asyncio.sleep(self._wire.rng.random() * 3)

    async def _list_loop(self) -> None:
        while True:
            try:
                listed = await self._wire.exchange(
                    lambda: list(self._kuro.allowed), OSError, errand=Errand("list")
                )
            except OSError:
                listed = []
            for message in listed:
                await self._queue.put(Received(message, Via.REST))
            await asyncio.sleep(self._interval)


def mint_message(
    request_id: str, user: str, amount: str, chain_id: int, *, wrapped: bool = False
) -> bytes:
    data = {
        "requestId": request_id,
        "user": user,
        "amount": amount,
        "fiatRef": f"wire-{request_id}",
        "timestamp": 1_800_000_000_000,
        "chainId": chain_id,
    }
    return orjson.dumps({"type": "mintOk", "data": data} if wrapped else data)
