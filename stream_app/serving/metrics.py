"""One scrape: what a worker has counted, as Prometheus's families. docs/metrics.md lists them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from state.event import EventType
from state.table import BYTES_KINDS
from state.window import Outcome
from stream_app.meters import Histogram
from stream_app.partition import Partition
from stream_app.serving.inside import Inside
from stream_app.status import Counts

PREFIX = "interest_stream_"
STATES = ("starting", "running", "rebalancing", "stopping", "stopped", "failed")
_LOOP_LAG_QUANTILES = (0.5, 0.99, 1.0)

_TOTALS: dict[str, tuple[str, Callable[[Counts], int]]] = {
    "updates": ("Acknowledged updates.", lambda c: c.updates_published),
    "tombstones": ("Acknowledged tombstones of the updates topic.", lambda c: c.tombstones),
    "item_vectors": ("Acknowledged item vectors.", lambda c: c.item_vectors_published),
    "checkpoints": ("Checkpoints that stored something.", lambda c: c.checkpoints),
    "windows_stored": ("Windows written by checkpoints.", lambda c: c.windows_stored),
    "users_expired": ("Silent users let go.", lambda c: c.expired),
    "delivery_retries": (
        "Deliveries that failed, made anew.",
        lambda c: c.delivery_retries,
    ),
    "intrusions": ("Times that others had written to our partitions.", lambda c: c.intrusions),
    "micro_batches": ("Micro-batches encoded.", lambda c: c.micro_batches),
    "tokens": ("Tokens through the text model.", lambda c: c.tokens),
    "text_cache_hits": (
        "Texts the encoder was given and had a vector of.",
        lambda c: c.text_hits_memory + c.text_hits_disk,
    ),
    "text_cache_misses": ("Texts that went through the text model.", lambda c: c.texts_encoded),
    "texts_failed": ("Texts no vector can be made of.", lambda c: c.texts_failed),
    "users_failed": ("Users no vector could be made of.", lambda c: c.users_failed),
    "media_refused": ("Items whose media vector does not fit.", lambda c: c.media_refused),
    "items_refused": ("Records of the items topic that are no items.", lambda c: c.items_refused),
    "unknown_items": ("Items looked up and not known.", lambda c: c.unknown_items),
}

_SUMS: dict[str, tuple[str, Callable[[Partition], int]]] = {
    "hot_windows": ("Windows in memory.", lambda p: len(p.hot)),
    "dirty_users": ("Users whose windows are not stored yet.", lambda p: len(p.dirty)),
    "touched_users": ("Users who wait for a round.", lambda p: len(p.touched)),
    "record_batches_in_flight": ("Fetches not acknowledged yet.", lambda p: len(p.taken)),
    "deliveries_in_flight": ("Produced batches not acknowledged yet.", lambda p: len(p.deliveries)),
}


class Scrape(Collector):
    """Everything as it is at this moment."""

    def __init__(
        self,
        inside: Inside,
        *,
        encoder_up: bool,
        ready: bool,
        uncommitted_s: float,
        commit_limit_s: float,
    ) -> None:
        self._inside = inside
        self._encoder_up = encoder_up
        self._ready = ready
        self._uncommitted_s = uncommitted_s
        self._commit_limit_s = commit_limit_s

    def collect(self) -> Iterator[Metric]:
        """Yield every family but those of the process."""
        counts = self._inside.counts
        yield self._events()
        for name, (meaning, read) in _TOTALS.items():
            yield _counter(name, meaning, read(counts))
        yield from self._histograms()
        yield from self._partitions()
        yield from self._encoder()
        yield from self._group()
        yield from self._memory()

    def _events(self) -> Metric:
        family = CounterMetricFamily(
            f"{PREFIX}events", "Records taken from the events topic.", labels=["type", "outcome"]
        )
        for kind, counts in self._inside.meters.outcomes.items():
            for outcome in Outcome:
                # A forget has one outcome, and nothing else has it.
                if (kind is EventType.FORGET) == (outcome is Outcome.FORGOTTEN) or counts[outcome]:
                    family.add_metric([kind.value, outcome.name.lower()], counts[outcome])
        family.add_metric(["unknown", "dead_letter"], self._inside.counts.dead_letters)
        return family

    def _histograms(self) -> Iterator[Metric]:
        meters = self._inside.meters
        yield _histogram(
            "event_to_update_seconds",
            "From an event to its user's update, by stage.",
            "stage",
            meters.stages,
        )
        yield _histogram(
            "encoder_seconds", "From a request to its answer.", "request", meters.encoder
        )
        for name, meaning, histogram in (
            ("checkpoint_seconds", "Time of a checkpoint.", meters.checkpoint),
            ("changelog_seconds", "Of that, until the changelog was written.", meters.changelog),
            (
                "record_batch_records",
                "Records of one fetch of one partition.",
                meters.record_batch_records,
            ),
            ("micro_batch_users", "Users in a micro-batch.", meters.micro_batch_users),
        ):
            yield _histogram(name, meaning, None, {"": histogram})
        yield _labelled(
            CounterMetricFamily(
                f"{PREFIX}dead_letters",
                "Acknowledged records of the dead-letter topic.",
                labels=["reason"],
            ),
            meters.dead_letters,
        )

    def _partitions(self) -> Iterator[Metric]:
        inside = self._inside
        ours = inside.holding.ours()
        yield _labelled(
            _gauge("lag_records", "Records not folded yet.", "partition"),
            {str(number): records for number, records in inside.lag.records().items()},
        )
        for name, (meaning, read) in _SUMS.items():
            yield _single(name, meaning, sum(map(read, ours)))
        yield _single("partitions", "Partitions held.", len(ours))
        waiting = inside.fetches_waiting()
        yield _single("fetches_waiting", "Fetches drained and not taken up.", waiting)
        commits = inside.commits()
        yield _counter("commits", "Commits that the broker confirmed.", commits.count)
        last_s = commits.last_s or inside.meters.started_s
        yield _single("last_commit_timestamp_seconds", "When the last commit was.", last_s)
        yield _single(
            "uncommitted_seconds",
            "The longest that a partition has had something to commit and has not.",
            self._uncommitted_s,
        )
        yield _single(
            "commit_limit_seconds", "From when on that is too long.", self._commit_limit_s
        )

    def _encoder(self) -> Iterator[Metric]:
        process, parts = self._inside.encoder_process, self._inside.parts()
        yield _single("encoder_up", "Whether the encoder answers.", self._encoder_up)
        restarts = max(0, process.epoch - 1)
        yield _counter("encoder_restarts", "Times the encoder was started again.", restarts)
        known = parts.catalogue.known if parts else 0
        yield _single("items_known", "Items in the catalogue.", known)
        model = GaugeMetricFamily(
            f"{PREFIX}model_info", "The model served.", labels=["model_id", "version"]
        )
        if process.info is not None:
            model.add_metric([process.info.model_id, version("interest-stream")], 1)
        yield model

    def _group(self) -> Iterator[Metric]:
        app, state = self._inside.app, self._inside.state()
        states = {each: each == state for each in STATES}
        yield _labelled(_gauge("state", "What the worker is.", "state"), states)
        yield _single("ready", "Whether the worker does its work.", self._ready)
        yield _counter("rebalances", "Rebalances taken part in.", app.rebalancing_count)
        yield _single("recovering", "Whether windows are being restored.", app.recovering)
        yield _single(
            "recovery_started_timestamp_seconds",
            "When the present or last recovery began.",
            app.recovery_started_s,
        )
        left = {str(number): left for number, left in self._inside.recovery_remaining().items()}
        yield _labelled(
            _gauge("recovery_remaining_records", "Changelog records to read.", "partition"), left
        )

    def _memory(self) -> Iterator[Metric]:
        sizes = dict.fromkeys(BYTES_KINDS, 0)
        for each in self._inside.holding.ours():
            for kind, size in each.table.bytes_by_kind().items():
                sizes[kind] += size
        yield _labelled(_gauge("rocksdb_bytes", "Of all windows' databases.", "kind"), sizes)
        lags_ms = self._inside.loop_lag.percentiles_ms(_LOOP_LAG_QUANTILES)
        yield _labelled(
            _gauge("loop_lag_seconds", "How late the event loop runs its callbacks.", "quantile"),
            {
                f"{quantile:g}": lag_ms / 1000
                for quantile, lag_ms in zip(_LOOP_LAG_QUANTILES, lags_ms, strict=True)
            },
        )


def _counter(name: str, meaning: str, value: float) -> Metric:
    return CounterMetricFamily(PREFIX + name, meaning, value=value)


def _single(name: str, meaning: str, value: float) -> Metric:
    return GaugeMetricFamily(PREFIX + name, meaning, value=value)


def _gauge(name: str, meaning: str, label: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(PREFIX + name, meaning, labels=[label])


def _labelled(
    family: GaugeMetricFamily | CounterMetricFamily, values: Mapping[str, float]
) -> Metric:
    for label, value in values.items():
        family.add_metric([label], value)
    return family


def _histogram(
    name: str, meaning: str, label: str | None, histograms: Mapping[str, Histogram]
) -> Metric:
    family = HistogramMetricFamily(PREFIX + name, meaning, labels=[label] if label else [])
    for value, histogram in histograms.items():
        family.add_metric([value] if label else [], _buckets(histogram), histogram.sum)
    return family


def _buckets(histogram: Histogram) -> list[tuple[str, float]]:
    bounds = [*map(str, map(float, histogram.bounds)), "+Inf"]
    return list(zip(bounds, histogram.cumulative(), strict=True))
