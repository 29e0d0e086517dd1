"""OpenTelemetry traces, one per round of micro-batches: off unless an address is set.

A span is made when all is over, from the times that are taken anyway, so a round waits for nothing.
It holds numbers of users, events and partitions, and nothing of them.
"""

from __future__ import annotations

import asyncio
import os
import platform
from collections.abc import Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, NamedTuple, Protocol

from stream_app.errors import FixSettings
from stream_app.settings import Settings
from stream_app.stages import Arrival, RoundTimes

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider

_EXPORT_TIMEOUT_S = 2
"""For a batch of spans to be taken; a collector that is away must not hold up the stop."""


class Published(NamedTuple):
    """What became of one partition's updates of a round."""

    partition: int
    updates: int
    ended_s: float
    acknowledged: bool


class RoundTrace(Protocol):
    """What a round tells of itself."""

    def delivering(self) -> None:
        """Updates of one partition are on their way."""

    def delivered(self, published: Published) -> None:
        """They have arrived, or have not."""

    def handed_over(self, times: RoundTimes, micro_batches: Sequence[int]) -> None:
        """Nothing more will be on its way. ``micro_batches``: the users of each."""


class Tracing(Protocol):
    """Where rounds are told of."""

    def round(self, arrivals: Sequence[Arrival]) -> RoundTrace:
        """A round begins with users of these events."""

    async def close(self) -> None:
        """Send what is left."""


class NoTracing:
    """Nothing is told to nobody."""

    def round(self, arrivals: Sequence[Arrival]) -> NoTracing:
        """Return what is told nothing."""
        return self

    def delivering(self) -> None:
        """Do nothing."""

    def delivered(self, published: Published) -> None:
        """Do nothing."""

    def handed_over(self, times: RoundTimes, micro_batches: Sequence[int]) -> None:
        """Do nothing."""

    async def close(self) -> None:
        """Do nothing."""


class OpenTelemetry:
    """Makes spans of rounds."""

    def __init__(self, provider: TracerProvider) -> None:
        self._provider = provider

    def round(self, arrivals: Sequence[Arrival]) -> _Spans:
        """Begin a trace."""
        return _Spans(self._provider, arrivals)

    async def close(self) -> None:
        """Send what is left."""
        await asyncio.to_thread(self._provider.shutdown)


class _Spans:
    """One round: ``micro-batch``, and in it ``queue``, ``text``, ``interest``, ``publish``."""

    def __init__(self, provider: TracerProvider, arrivals: Sequence[Arrival]) -> None:
        self._tracer = provider.get_tracer("stream_app")
        self._arrivals = arrivals
        self._under_way = 0
        self._published: list[Published] = []
        self._times: RoundTimes | None = None
        self._micro_batches: Sequence[int] = ()

    def delivering(self) -> None:
        self._under_way += 1

    def delivered(self, published: Published) -> None:
        self._under_way -= 1
        self._published.append(published)
        self._end()

    def handed_over(self, times: RoundTimes, micro_batches: Sequence[int]) -> None:
        self._times = times
        self._micro_batches = micro_batches
        self._end()

    def _end(self) -> None:
        if self._times is None or self._under_way:
            return
        from opentelemetry.trace import StatusCode, set_span_in_context

        times, arrivals = self._times, self._arrivals
        begun_s = min((each.drained_s for each in arrivals), default=times.gathered_s)
        ended_s = max((each.ended_s for each in self._published), default=times.encoded_s)
        whole = self._tracer.start_span(
            "micro-batch",
            start_time=_ns(begun_s),
            attributes={
                "users": sum(self._micro_batches),
                "events": sum(each.events for each in arrivals),
                "micro_batches": len(self._micro_batches),
                "partitions": len(self._published),
            },
        )
        within = set_span_in_context(whole)
        text_ended_s = min(times.gathered_s + times.text_s, times.encoded_s)
        for name, from_s, to_s in (
            ("queue", begun_s, times.gathered_s),
            ("text", times.gathered_s, text_ended_s),
            ("interest", text_ended_s, times.encoded_s),
        ):
            span = self._tracer.start_span(name, within, start_time=_ns(from_s))
            span.end(_ns(to_s))
        for each in self._published:
            about = {"partition": each.partition, "updates": each.updates}
            span = self._tracer.start_span(
                "publish", within, start_time=_ns(times.encoded_s), attributes=about
            )
            if not each.acknowledged:
                span.set_status(StatusCode.ERROR, "not acknowledged, made anew if still ours")
            span.end(_ns(each.ended_s))
        whole.end(_ns(ended_s))


def of(settings: Settings) -> Tracing:
    """Return where the worker's rounds are told of.

    Raises:
        FixSettings: an address is set, but OpenTelemetry is not installed.
    """
    if not settings.otlp_endpoint:
        return NoTracing()
    try:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource
        from opentelemetry.sdk.trace import TracerProvider
        from opentelemetry.sdk.trace.export import BatchSpanProcessor
        from opentelemetry.sdk.trace.sampling import TraceIdRatioBased
    except ImportError as error:
        raise FixSettings(
            f"otlp_endpoint is set, but OpenTelemetry is not installed ({error}): "
            "pip install 'interest-stream[tracing]', or unset it"
        ) from None
    resource = Resource.create(
        {
            "service.name": settings.app_id,
            "service.version": version("interest-stream"),
            "service.instance.id": f"{platform.node()}:{os.getpid()}",
        }
    )
    provider = TracerProvider(TraceIdRatioBased(settings.trace_share), resource)
    exporter = OTLPSpanExporter(settings.otlp_endpoint, timeout=_EXPORT_TIMEOUT_S)
    provider.add_span_processor(
        BatchSpanProcessor(exporter, export_timeout_millis=_EXPORT_TIMEOUT_S * 1000)
    )
    return OpenTelemetry(provider)


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
