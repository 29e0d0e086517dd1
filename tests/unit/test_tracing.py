"""Traces of rounds: spans that meet end to end, sent when the last delivery has ended."""

from __future__ import annotations

import sys

import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from stream_app import tracing
from stream_app.errors import FixSettings
from stream_app.settings import Settings
from stream_app.stages import Arrival, RoundTimes
from stream_app.tracing import NoTracing, OpenTelemetry, Published
from tests.harness.collector import collector

ARRIVALS = [Arrival(0.0, 11.0, 64), Arrival(5.0, 10.0, 6)]
TIMES = RoundTimes(gathered_s=12.0, text_s=1.5, encoded_s=15.0)


@pytest.fixture
def exporter() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def traced(exporter: InMemorySpanExporter) -> OpenTelemetry:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(exporter))
    return OpenTelemetry(provider)


def times_s(span: ReadableSpan) -> tuple[float, float]:
    assert span.start_time is not None
    assert span.end_time is not None
    return span.start_time / 1e9, span.end_time / 1e9


def test_a_round_is_one_trace_once_its_last_delivery_has_ended(
    traced: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    trace = traced.round(ARRIVALS)
    trace.delivering()
    trace.delivered(Published(0, 3, 16.0, acknowledged=True))
    trace.delivering()
    trace.handed_over(TIMES, [4096, 2])
    assert not exporter.get_finished_spans()
    trace.delivered(Published(1, 1, 18.0, acknowledged=False))
    spans = exporter.get_finished_spans()
    whole = spans[-1]
    assert whole.name == "micro-batch"
    assert dict(whole.attributes or {}) == {
        "users": 4098,
        "events": 70,
        "micro_batches": 2,
        "partitions": 2,
    }
    assert [(span.name, times_s(span)) for span in spans] == [
        ("queue", (10.0, 12.0)),
        ("text", (12.0, 13.5)),
        ("interest", (13.5, 15.0)),
        ("publish", (15.0, 16.0)),
        ("publish", (15.0, 18.0)),
        ("micro-batch", (10.0, 18.0)),
    ]
    assert {span.parent.span_id for span in spans[:-1] if span.parent} == {whole.context.span_id}
    assert [span.status.is_ok for span in spans[3:5]] == [True, False]


def test_a_round_without_updates_is_a_trace_too(
    traced: OpenTelemetry, exporter: InMemorySpanExporter
) -> None:
    traced.round([]).handed_over(TIMES, [])
    assert times_s(exporter.get_finished_spans()[-1]) == (12.0, 15.0)


def test_without_an_address_nothing_is_imported_or_told() -> None:
    assert isinstance(tracing.of(Settings()), NoTracing)


def test_a_missing_extra_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.exporter.otlp.proto.http.trace_exporter", None)
    with pytest.raises(FixSettings, match=r"pip install 'interest-stream\[tracing\]'"):
        tracing.of(Settings(otlp_endpoint="http://localhost:4318/v1/traces"))


async def test_traces_reach_a_collector_with_who_sent_them() -> None:
    with collector() as there:
        sent = tracing.of(Settings(otlp_endpoint=there.endpoint, app_id="shop"))
        for _ in range(3):
            sent.round(ARRIVALS).handed_over(TIMES, [5])
        await sent.close()
        traces = there.traces()
    assert len(traces) == 3
    assert set(traces[0]) == {"micro-batch", "queue", "text", "interest"}
    (request,) = there.requests
    attributes = request.resource_spans[0].resource.attributes
    about = {each.key: each.value.string_value for each in attributes}
    assert about["service.name"] == "shop"


async def test_of_a_share_of_zero_nothing_is_sent() -> None:
    with collector() as there:
        sent = tracing.of(Settings(otlp_endpoint=there.endpoint, trace_share=0))
        sent.round(ARRIVALS).handed_over(TIMES, [5])
        await sent.close()
    assert not there.requests
