"""Certificates of mints, from the facts of one request and the node of its chain."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from orchestrator.core.certificates import Evidence, built
from orchestrator.core.contract import Profile
from orchestrator.errors import OrchestratorError
from orchestrator.ports import BlockSource
from schemas.certificates import MintCertificate


class NoNode(OrchestratorError):
    """This process knows no node of the chain."""


@dataclass(frozen=True)
class Certifier:
    """`nodes` and `profiles` by chain."""

    nodes: Mapping[int, BlockSource]
    profiles: Mapping[int, Profile]

    async def certify(self, evidence: Evidence) -> MintCertificate:
        """Verified. Raises NoNode, CannotCertify, RpcError."""
        chain_id = evidence.chain_id
        node, profile = self.nodes.get(chain_id), self.profiles.get(chain_id)
        if node is None or profile is None:
            raise NoNode(
                f"this process knows no node of chain {chain_id}: give it "
                f"KADENA_EVM_CHAIN_{chain_id}_RPC (and the chain in CHAIN_IDS)"
            )
        block, receipts = await node.whole_block(evidence.block_hash)
        return built(evidence, profile, block, receipts)

    async def close(self) -> None:
        for node in self.nodes.values():
            await node.close()
