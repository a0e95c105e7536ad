"""The benchmark's own arithmetic: percentiles, rates, charts, and what it says got worse."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest

from orchestrator.dev.bench.chain_watch import Block, rate_of
from orchestrator.dev.bench.charts import svg
from orchestrator.dev.bench.figures import Chart, Figure, Findings, percentile
from orchestrator.dev.bench.history import comparison, record
from orchestrator.dev.bench.report import write

MACHINE = {
    "at": "2026-01-01T00:00:00Z",
    "processor": "any",
    "cores": 2,
    "memory_gib": 4.0,
    "system": "Linux",
    "python": "3.11",
    "packages": {"aiokafka": "1"},
    "commit": "abc",
    "load_at_start": 0.1,
    "load_at_end": 0.2,
}


@pytest.mark.parametrize(("share", "expected"), [(0.5, 50), (0.95, 95), (0.99, 99), (1.0, 100)])
def test_percentiles_are_nearest_ranks(share, expected):
    assert percentile(list(range(100, 0, -1)), share) == expected


def test_a_rate_leaves_out_the_first_block_and_a_last_one_that_is_not_full():
    blocks = [Block(1, 0, 0.0), Block(2, 430, 1.0), Block(3, 430, 2.0), Block(4, 430, 3.0)]
    assert rate_of(blocks) == 430
    assert rate_of([*blocks, Block(5, 3, 4.0)]) == 430
    assert rate_of(blocks[:2]) == 0


def findings(ratio: float, cpu: float) -> dict[str, Findings]:
    return {
        "c": Findings(
            [
                Figure("c", "ratio", "of the ceiling", (ratio,), at_least=0.95, is_ratio=True),
                Figure("c", "cpu", "ms", (cpu, cpu), at_most=6, less_is_better=True),
            ],
            [Chart("line", "a < b", "x", "y", {"one": [(0, 0), (1, 2)]})],
        )
    }


def test_what_got_worse_is_told_and_what_is_noise_is_not(tmp_path):
    path = tmp_path / "history.jsonl"
    assert "no runs" in comparison(path)
    record(path, MACHINE, findings(0.9, 6.0), quick=True)
    record(path, MACHINE, findings(0.85, 6.2), quick=True)
    assert "nothing changed" in comparison(path)
    record(path, MACHINE, findings(0.5, 3.0), quick=True)
    told = comparison(path)
    assert "WORSE" in told and "c: ratio: 0.85 -> 0.50" in told
    assert told.index("c: ratio") < told.index("better by") < told.index("c: cpu")
    record(path, MACHINE, findings(0.1, 9.0), quick=False)
    assert "nothing changed" in comparison(path), "sizes differ: not comparable"


def test_pages_name_the_machine_the_targets_and_the_charts(tmp_path):
    write(tmp_path, MACHINE, findings(0.96, 7.0), {"c": "relaying"})
    page = (tmp_path / "c.md").read_text(encoding="utf-8")
    assert "2 cores" in page and "load 0.1" in page and "c-line.svg" in page
    assert page.count("not met") == 1
    ElementTree.fromstring(svg(findings(1, 1)["c"].charts[0]))
