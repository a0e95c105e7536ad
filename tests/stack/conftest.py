"""Stacks of this folder's own, each with only the parts that its tests need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from orchestrator.dev.stack import EmbeddedStack

CHAIN_ID = 5920


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("stack")


@pytest.fixture(scope="module")
def servers(data_dir: Path) -> Iterator[EmbeddedStack]:
    """KMS endpoint and Kuro simulator."""
    with EmbeddedStack(data_dir, chain_ids=[], parts={"kms", "kuro"}) as stack:
        yield stack


@pytest.fixture(scope="module")
def chain_stack(data_dir: Path) -> Iterator[EmbeddedStack]:
    """KMS endpoint and one chain with fast blocks."""
    with EmbeddedStack(
        data_dir, chain_ids=[CHAIN_ID], block_time=0.2, parts={"kms", "chains"}
    ) as stack:
        yield stack
