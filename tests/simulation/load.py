"""What comes from outside: mints, redeems, garbage, conflicts, outsiders; and the blocks."""

from __future__ import annotations

import base64
import hashlib
from random import Random

from orchestrator.errors import RpcError
from schemas.topics import REQUESTS
from tests.simulation.chain import GWEI, Chain, Transaction
from tests.simulation.contract import FINALIZE, MINT, MINT_IN_ORDER, redeem_data
from tests.simulation.launchpad import LaunchpadStableCoin, foreign_mint
from tests.simulation.outside import HOLDERS, mint_message
from tests.simulation.scenario import Scenario
from tests.simulation.worker import World

BAD = (("0x1234", "1"), (HOLDERS[0], "0"), (HOLDERS[0], "-1"), ("0x" + "0" * 40, "5"))
GARBAGE = (b"not json", b'{"requestId": 7}', b'["a list"]', b'{"type": "mintOk", "data": 3}')


class Load:
    """`accepted` are the ids whose mint Kuro allowed and that make sense; `rejected` those that do
    not."""

    def __init__(self, world: World, scenario: Scenario, rng: Random) -> None:
        self._world = world
        self._scenario = scenario
        self._rng = rng
        self._chain_ids = list(world.chains)
        self.accepted: list[str] = []
        self.rejected: set[str] = set()

    def start(self) -> None:
        scenario, rng, loop = self._scenario, self._rng, self._world.loop
        for number in range(scenario.mints):
            loop.in_world(rng.random() * scenario.load_seconds, self._mint, number)
        for number in range(scenario.bad_mints):
            loop.in_world(rng.random() * scenario.load_seconds, self._bad_mint, number)
        for _ in range(scenario.redeems):
            moment = rng.uniform(0.3, 1) * scenario.faults_seconds
            loop.in_world(moment, self._redeem, rng.choice(self._chain_ids))
        for _ in range(scenario.garbage):
            loop.in_world(rng.random() * scenario.load_seconds, self._garbage)
        for _ in range(scenario.outsiders):
            moment = rng.random() * scenario.faults_seconds
            loop.in_world(moment, self._outsider, rng.choice(self._chain_ids))
        for number in range(scenario.foreign_mints if scenario.launchpad else 0):
            moment = rng.random() * scenario.faults_seconds
            loop.in_world(moment, self._foreign_mint, number)
        for chain_id in self._chain_ids:
            loop.in_world(rng.random(), self._block, self._world.chains[chain_id])

    def _mint(self, number: int) -> None:
        rng, kuro, loop = self._rng, self._world.kuro, self._world.loop
        request_id = f"mint-{number}"
        user, amount = rng.choice(HOLDERS), rng.randint(1, 10**6)
        chain_id = rng.choice(self._chain_ids)
        message = mint_message(request_id, user, str(amount), chain_id, wrapped=rng.random() < 0.5)
        self.accepted.append(request_id)
        self._world.story.tell("Kuro allows", request=request_id, amount=amount, chain=chain_id)
        kuro.allow(message)
        for _ in range(rng.choice((0, 0, 0, 1, 3))):
            loop.in_world(rng.random() * 30, kuro.say, message)
        if number < self._scenario.conflicts:
            other = mint_message(request_id, user, str(amount + 1), chain_id)
            self._world.oracle.planted.add(request_id)
            loop.in_world(rng.random() * 10, kuro.say, other)

    def _bad_mint(self, number: int) -> None:
        user, amount = self._rng.choice(BAD)
        request_id = f"bad-{number}"
        self.accepted.append(request_id)
        self.rejected.add(request_id)
        self._world.kuro.allow(mint_message(request_id, user, amount, self._chain_ids[0]))

    def _garbage(self) -> None:
        raw = self._rng.choice(GARBAGE)
        self._world.oracle.planted.add(base64.b64encode(raw).decode())
        if self._rng.random() < 0.5:
            self._world.kuro.say(raw)
        else:
            self._world.broker.append([(REQUESTS, b"nobody", raw)])

    def _redeem(self, chain_id: int) -> None:
        """A holder asks to redeem some of what it has, on whatever is the newest block."""
        chain, rng = self._world.chains[chain_id], self._rng
        balances = chain.final.state.balances
        rich = [holder for holder in HOLDERS if balances.get(holder, 0) > 0]
        if not rich:
            return
        holder = rng.choice(rich)
        amount = rng.randint(1, max(1, balances[holder] // 3))
        self._world.story.tell("a holder redeems", holder=holder, amount=amount, chain=chain_id)
        self._send(chain, holder, chain.contract.address, redeem_data(amount))

    def _send(self, chain: Chain, sender: str, to: str, data: str) -> None:
        """A transaction that nobody here signed."""
        chain.funds.setdefault(sender, 10**24)
        nonce = max(
            [chain.view.tip.state.nonces.get(sender, 0)]
            + [nonce + 1 for nonce in chain.pool.get(sender, {})]
        )
        mark = f"{chain.chain_id} {sender} {nonce} {data} {self._world.loop.time()}"
        tx_hash = "0x" + hashlib.sha256(mark.encode()).hexdigest()
        fee = 100 * GWEI
        try:
            chain.submit(Transaction(tx_hash, sender, nonce, to, data, 200_000, fee, GWEI))
        except RpcError as error:
            self._world.story.tell("an outsider's transaction is refused", why=error)

    def _outsider(self, chain_id: int) -> None:
        """Someone else uses a hot wallet's key: at the next nonce of the chain, at a higher fee."""
        chain = self._world.chains[chain_id]
        sender = self._rng.choice(self._world.wallets[chain_id]).address
        nonce = chain.view.tip.state.nonces.get(sender, 0)
        chain.pool.get(sender, {}).pop(nonce, None)
        mark = f"outsider {chain_id} {nonce} {self._world.loop.time()}"
        tx_hash = "0x" + hashlib.sha256(mark.encode()).hexdigest()
        other = Transaction(tx_hash, sender, nonce, HOLDERS[0], "0x", 21_000, 200 * GWEI, 9 * GWEI)
        self._world.story.tell("an outsider uses the key", wallet=sender, nonce=nonce)
        self._world.story.count("outsiders")
        chain.submit(other)

    def _foreign_mint(self, number: int) -> None:
        """Another signer of the launchpad approves a mint, now and then of a request of ours; it
        takes the nonce that the recipient has next."""
        chain, rng = self._world.chains[self._chain_ids[-1]], self._rng
        assert isinstance(chain.contract, LaunchpadStableCoin)
        request_id, to, amount = f"foreign-{number}", rng.choice(HOLDERS), rng.randint(1, 1000)
        ours = [
            mint
            for mints in self._world.oracle.allowed.values()
            for mint in mints[:1]
            if mint.chain_id == chain.chain_id and mint.request_id not in self.rejected
        ]
        if ours and rng.random() < 0.3:
            mint = rng.choice(ours)
            request_id, to, amount = mint.request_id, mint.user, int(mint.amount)
        nonce = chain.view.tip.state.approvals.get(to, 0)
        expiry = int(self._world.loop.unix_seconds) + 600
        data = foreign_mint(chain.contract, request_id, to, amount, nonce, expiry)
        self._world.story.tell("another signer mints", request=request_id, to=to, nonce=nonce)
        self._world.story.count("foreign mints")
        self._send(chain, HOLDERS[2], chain.contract.address, data)
        mine = chain.pool.pop(HOLDERS[2], None)
        if mine is not None:
            chain.pool = {HOLDERS[2]: mine, **chain.pool}

    def _block(self, chain: Chain) -> None:
        """A chain whose time has run ahead of ours waits: nodes take no block from the future."""
        scenario, rng = self._scenario, self._rng
        bad = self._world.chain_wire.weather.bad
        if bad and scenario.front_runs:
            self._front_run(chain)
        if bad:
            chain.base_fee = max(
                GWEI // 2, min(3 * GWEI, int(chain.base_fee * rng.uniform(0.9, 1.1)))
            )
        if chain.blocks[-1].head.timestamp <= self._world.loop.unix_seconds:
            self._mine(chain, scenario.block_share if bad else 1.0)
        pause = scenario.block_seconds * (rng.uniform(0.6, 1.4) if bad else 1.0)
        self._world.loop.in_world(pause, self._block, chain)

    def _mine(self, chain: Chain, share: float) -> None:
        block = chain.mine(share)
        self._world.oracle.on_block(chain, block)
        if block.transactions:
            told = [f"{tx.sender[:6]}#{tx.nonce}" for tx in block.transactions]
            self._world.story.tell("block", chain=chain.chain_id, number=block.head.number, tx=told)

    def _front_run(self, chain: Chain) -> None:
        """Someone copies a call from the pool and sends it as their own."""
        for wallet in self._world.wallets[chain.chain_id]:
            for transaction in list(chain.pool.get(wallet.address, {}).values()):
                copied = transaction.data[:10] in (MINT, FINALIZE, MINT_IN_ORDER)
                if copied and self._rng.random() < self._scenario.front_runs:
                    self._world.story.tell("a call is front-run", nonce=transaction.nonce)
                    self._world.story.count("front-runs")
                    front = HOLDERS[2]
                    self._send(chain, front, transaction.to, transaction.data)
                    mine = chain.pool.pop(front, None)
                    if mine is not None:
                        chain.pool = {front: mine, **chain.pool}
