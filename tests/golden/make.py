"""`python -m tests.golden.make`: the golden log of the version at hand, before it is released.

It runs the service on the embedded stack, with two chains of either profile, through every kind of
ending, and archives its log. A version that is released keeps its log for ever: it is refused to
make it anew, for whoever reads an old log has nothing else to compare with.
"""

from __future__ import annotations

import asyncio
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from orchestrator.adapters.kafka_archive import export_log
from orchestrator.config import Need, load
from orchestrator.dev.contracts import encode_call, send_transaction
from orchestrator.dev.stack import EmbeddedStack
from orchestrator.dev.wallets import account_of
from tests.e2e.harness import LAUNCHPAD_CHAIN, TOKEN, World, until
from tests.e2e.test_bad_input import run_cli
from tests.e2e.test_main_job import redeem
from tests.golden.folder import ARCHIVE, HERE, SETTINGS, STATES, Golden, states_of

CHAIN = 5920


async def ordered(world: World, *arguments: str) -> None:
    words = (*arguments, "--who", "ann", "--why", "a golden log", "--wait", "60")
    ended = await asyncio.to_thread(run_cli, world.environment, *words)
    assert ended.returncode == 0, ended.stdout + ended.stderr


async def owner_calls(world: World, function: str) -> None:
    chain = world.stack.chains[CHAIN]
    owner = account_of(world.stack.wallets.deployers[CHAIN])
    data, place = encode_call(function), chain.contract_address
    await asyncio.to_thread(send_transaction, chain.rpc_url, CHAIN, owner, to=place, data=data)


async def lived(world: World) -> None:
    """Completed, rejected, failed and retried, cancelled, redeemed; on both profiles."""
    await world.ended(await world.mint(chain_id=CHAIN, count=3))
    await world.ended(await redeem(world, CHAIN, [TOKEN // 2, TOKEN // 4]))
    await world.ended(await world.mint(chain_id=CHAIN, user="nobody"), "FAILED")
    await owner_calls(world, "pause()")
    [failed] = await world.mint(chain_id=CHAIN)
    await world.ended([failed], "FAILED")
    await owner_calls(world, "unpause()")
    await ordered(world, "retry", "--request", failed)
    await world.ended([failed])
    await ordered(world, "pause", "--chain", str(CHAIN))
    [cancelled] = await world.mint(chain_id=CHAIN)

    async def known() -> bool:
        return await world.status(cancelled) is not None

    await until(known, "the request is known")
    await ordered(world, "cancel", "--request", cancelled)
    await world.ended([cancelled], "FAILED")
    await ordered(world, "resume", "--chain", str(CHAIN))
    await world.ended(await world.mint(chain_id=LAUNCHPAD_CHAIN, count=2))
    await world.ended(await redeem(world, LAUNCHPAD_CHAIN, [TOKEN]))


def settings_of(world: World) -> dict[str, str]:
    """What decisions depend on; addresses only, no key."""
    config = load([Need.CONTRACTS, Need.WALLETS], world.environment)
    settings = {
        "CHAIN_IDS": ",".join(map(str, config.chains)),
        "APPROVAL_TTL_SECONDS": str(config.settings.approval_ttl_seconds),
    }
    for chain in config.chains.values():
        number = chain.chain_id
        settings[f"STABLECOIN_CONTRACT_ADDRESS_{number}"] = chain.contract
        settings[f"RELAYER_ADDRESS_{number}"] = ",".join(chain.wallets)
        for name in (f"CONTRACT_PROFILE_{number}", f"CONTRACT_TOKEN_NAME_{number}"):
            if name in world.environment:
                settings[name] = world.environment[name]
    return settings


async def made(folder: Path, work: Path) -> None:
    chains = (CHAIN, LAUNCHPAD_CHAIN)
    async with EmbeddedStack(
        work, block_time=1.0, chain_ids=chains, launchpad_chain_ids=(LAUNCHPAD_CHAIN,)
    ) as stack:
        world = World(stack)
        await world.service.start()
        await lived(world)
        await world.service.stop()
        await export_log(stack.kafka.access, folder / ARCHIVE, lambda done, total: None)
        written(folder / SETTINGS, settings_of(world))
    written(folder / STATES, states_of(Golden(folder).records()))


def written(file: Path, body: object) -> None:
    file.write_text(json.dumps(body, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    folder = HERE / version("stablecoin-orchestrator")
    if (folder / ARCHIVE).exists():
        sys.exit(f"{folder} is there already: the log of a version is made once")
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        asyncio.run(made(folder, Path(work)))


if __name__ == "__main__":
    main()
