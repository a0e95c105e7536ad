"""A request's life as one trace, whose ids follow from the log."""

from __future__ import annotations

import asyncio

import pytest

from orchestrator.core.belonging import span_id, trace_id
from projections.tracing import Tracer
from projections.writer import Writer
from tests.collector import Collector
from tests.projections.facts import mint_ok, whole_life


@pytest.fixture
def collector():
    found = Collector()
    yield found
    found.close()


async def test_a_life_is_one_trace_and_the_same_when_it_is_told_again(tables, collector):
    facts = [mint_ok("m-1"), *whole_life("m-1")]
    tracer = Tracer.to(collector.url)
    writer = Writer(tables.connection, observe=tracer.tell)
    await tables.write_raw(tables.log.append(facts), writer)
    await asyncio.to_thread(tracer.close)
    assert {span.trace_id.hex() for span in collector.spans} == {trace_id("m-1")}
    [whole] = [span for span in collector.spans if not span.parent_span_id]
    assert (whole.name, whole.span_id.hex()) == ("MINT", span_id("m-1"))
    others = [span for span in collector.spans if span is not whole]
    assert {span.parent_span_id for span in others} == {whole.span_id}
    told = {span.span_id.hex() for span in others}
    assert {span_id(fact.id) for fact in facts} <= told
    steps = [span.name for span in others if " to " in span.name]
    assert steps[0] == "RECEIVED to DRAFTED" and steps[-1].endswith("to COMPLETED")
    assert all(span.start_time_unix_nano <= span.end_time_unix_nano for span in collector.spans)


async def test_a_collector_that_is_away_costs_only_its_spans(tables, collector):
    tracer = Tracer.to("http://127.0.0.1:1")
    writer = Writer(tables.connection, observe=tracer.tell)
    await tables.write_raw(tables.log.append(whole_life("m-2")), writer)
    assert collector.spans == []
