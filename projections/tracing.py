"""Each request's life as one trace, from Kuro's message to the final event (OpenTelemetry, OTLP).

The projection sees every fact once, in order, so it tells the spans: one for each stage that the
request was in, one without length for each fact, and one for the whole life when it completed.
Their ids follow from the log (`core.belonging`): told twice, they are the same spans. Off unless
`OTEL_EXPORTER_OTLP_ENDPOINT` names a collector; one that is away costs nothing but its spans.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.trace import SpanContext, TraceFlags

from orchestrator.core.belonging import request_key_of, span_id, trace_id
from orchestrator.core.lifecycle import RequestState, Stage
from projections.fold import Changes, RawRecord, Reading
from schemas.base import Record

PATH = "/v1/traces"
SHOWN = ("chain_id", "wallet", "nonce", "tx_hash", "block_number", "attempt", "reason", "via")
"""Fields of facts that become attributes; amounts and accounts stay on the log."""


class Tracer:
    """Turns what a committed batch brought into spans; sends them in the background."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._processor = BatchSpanProcessor(exporter, max_queue_size=10_000)
        self._resource = Resource.create({"service.name": "stablecoin-orchestrator"})

    @classmethod
    def to(cls, endpoint: str) -> Tracer:
        """Sends to a collector's base URL, as `OTEL_EXPORTER_OTLP_ENDPOINT` gives it."""
        return cls(OTLPSpanExporter(endpoint=endpoint.rstrip("/") + PATH))

    def tell(self, reading: Reading, changes: Changes) -> None:
        for raw, record in reading.records:
            key = request_key_of(record.fact)
            if key is not None:
                self._end(key, _of_fact(raw, record))
        for before, after in changes.moves:
            self._end(after.key, _of_step(before, after))
            if after.stage is Stage.COMPLETED:
                self._end(after.key, _of_life(after))

    def _end(self, request_key: str, span: dict[str, Any]) -> None:
        trace = int(trace_id(request_key), 16)
        whole = span.pop("whole", False)
        attributes = {"request.key": request_key, **span.pop("attributes")}
        root = SpanContext(trace, int(span_id(request_key), 16), False, TraceFlags(1))
        own = SpanContext(trace, int(span_id(span.pop("id")), 16), False, TraceFlags(1))
        self._processor.on_end(
            ReadableSpan(
                context=root if whole else own,
                parent=None if whole else root,
                resource=self._resource,
                attributes=attributes,
                **span,
            )
        )

    def close(self) -> None:
        """Sends what waits, for a few seconds at most."""
        self._processor.force_flush(3000)
        self._processor.shutdown()  # type: ignore[no-untyped-call]


def _of_fact(raw: RawRecord, record: Record) -> dict[str, Any]:
    fact, at = record.fact, _nanoseconds(record.at)
    attributes: dict[str, Any] = {
        "fact.id": fact.id,
        "messaging.system": "kafka",
        "messaging.destination.name": raw.topic,
        "messaging.destination.partition.id": str(raw.partition),
        "messaging.kafka.offset": raw.offset,
    }
    for name in SHOWN:
        value = getattr(fact, name, None)
        if value is not None:
            attributes[name] = str(value) if isinstance(value, str) else value
    return {
        "id": fact.id,
        "name": fact.kind,
        "start_time": at,
        "end_time": at,
        "attributes": attributes,
    }


def _of_step(before: RequestState, after: RequestState) -> dict[str, Any]:
    """The time that the request was in the stage before."""
    begin, end = _nanoseconds(before.changed_at), _nanoseconds(after.changed_at)
    return {
        "id": f"{after.key}:step:{before.stage}:{before.changed_at}",
        "name": f"{before.stage} to {after.stage}",
        "start_time": min(begin, end),
        "end_time": end,
        "attributes": {"stage.from": str(before.stage), "stage.to": str(after.stage)},
    }


def _of_life(state: RequestState) -> dict[str, Any]:
    return {
        "whole": True,
        "id": state.key,
        "name": f"{state.type}",
        "start_time": _nanoseconds(state.created_at),
        "end_time": _nanoseconds(state.changed_at),
        "attributes": {"attempts": state.attempt},
    }


def _nanoseconds(at: str) -> int:
    return int(datetime.fromisoformat(at).timestamp() * 1000) * 1_000_000
