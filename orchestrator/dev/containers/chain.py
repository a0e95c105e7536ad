"""One chain in a container of its own: `python -m orchestrator.dev.containers.chain --help`."""

from __future__ import annotations

import argparse
import base64
import signal
import sys
import time
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    PublicFormat,
    load_der_public_key,
)
from eth_keys import datatypes as eth_keys
from eth_utils.address import to_checksum_address

from orchestrator.dev.chains import Chain
from orchestrator.dev.containers.keys import contract_address, development_wallets
from orchestrator.dev.http_client import request_json
from orchestrator.dev.processes import StackError, Supervisor

PATIENCE_SECONDS = 120


def approver_address(kms_url: str, key_id: str) -> str:
    """Whose signatures the contract shall take: the KMS is asked, as the service does. Raises
    StackError when it does not answer in time."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while True:
        try:
            answer = request_json(
                "POST",
                f"{kms_url}/",
                {"KeyId": key_id},
                headers={"X-Amz-Target": "TrentService.GetPublicKey"},
            )
            break
        except OSError as error:
            if time.monotonic() > deadline:
                raise StackError(f"the KMS does not answer at {kms_url}: {error}") from error
            time.sleep(1)
    key = load_der_public_key(base64.b64decode(answer["PublicKey"]))
    assert isinstance(key, ec.EllipticCurvePublicKey)
    point = key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    return to_checksum_address(eth_keys.PublicKey(point[1:]).to_address())


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m orchestrator.dev.containers.chain")
    parser.add_argument("--chain", type=int, required=True, help="its id")
    parser.add_argument("--host", default="127.0.0.1", help="where to listen (%(default)s)")
    parser.add_argument("--port", type=int, default=8545)
    parser.add_argument("--data", type=Path, default=Path("/data"), help="keeps the chain")
    parser.add_argument("--block-time", type=float, default=1.0, help="seconds between blocks")
    parser.add_argument("--kms", default="http://kms:8081", help="whose key may approve")
    parser.add_argument("--key-id", default="alias/stablecoin-approver")
    parser.add_argument("--ready", type=Path, default=Path("/tmp/ready"), help="made when ready")
    return parser


def main() -> int:
    """Mine until SIGTERM, which writes the chain's state; 1 when the node ends by itself."""
    options = _parser().parse_args()
    options.ready.unlink(missing_ok=True)

    def interrupt(_number: int, _frame: object) -> None:
        raise KeyboardInterrupt

    signal.signal(signal.SIGTERM, interrupt)
    supervisor = Supervisor(options.ready.with_suffix(".processes"))
    try:
        chain = Chain(
            options.chain,
            supervisor,
            options.data / "chain",
            host=options.host,
            port=options.port,
            block_time=options.block_time,
            gas_limit=30_000_000,
            wallets=development_wallets([options.chain]),
            approver=approver_address(options.kms, options.key_id),
            progress=lambda text: print(text, flush=True),
        )
        try:
            chain.start_blocking()
            assert chain.contract_address == contract_address(options.chain)
            options.ready.touch()
            print(f"chain {options.chain} is ready, contract {chain.contract_address}", flush=True)
            while chain.running:
                time.sleep(1)
            print(f"the node has ended, see {chain.log}", file=sys.stderr)
            return 1
        finally:
            options.ready.unlink(missing_ok=True)
            chain.stop_blocking()
    except KeyboardInterrupt:
        return 0
    except StackError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    finally:
        supervisor.close()


if __name__ == "__main__":
    sys.exit(main())
