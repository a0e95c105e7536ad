"""The ceiling: what the chain itself takes. Raw transactions of the same contract call, signed
beforehand, go out in JSON-RPC batches over one connection, each as soon as the last is answered."""

from __future__ import annotations

import asyncio
import http.client
import time

import orjson

from orchestrator.dev.bench.chain_watch import ChainWatch
from orchestrator.dev.chains import Chain

_BATCH = 100


def _bodies(raws: list[str]) -> list[bytes]:
    calls = [
        {"jsonrpc": "2.0", "id": place, "method": "eth_sendRawTransaction", "params": [raw]}
        for place, raw in enumerate(raws)
    ]
    return [orjson.dumps(calls[at : at + _BATCH]) for at in range(0, len(calls), _BATCH)]


def _fire(port: int, bodies: list[bytes]) -> float:
    """Seconds that sending took. Raises RuntimeError when the node refuses a transaction."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    started = time.monotonic()
    for body in bodies:
        connection.request("POST", "/", body, {"Content-Type": "application/json"})
        for answer in orjson.loads(connection.getresponse().read()):
            if "error" in answer:
                raise RuntimeError(f"the node refuses the ceiling: {answer['error']}")
    connection.close()
    return time.monotonic() - started


async def fire(chain: Chain, raws: list[str]) -> tuple[float, float]:
    """Mints a second in blocks, and submissions a second."""
    bodies = await asyncio.to_thread(_bodies, raws)
    watch = ChainWatch(chain)
    await watch.start()
    sending = asyncio.create_task(asyncio.to_thread(_fire, chain.port, bodies))
    await watch.until(len(raws))
    return watch.rate, len(raws) / await sending
