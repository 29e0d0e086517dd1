"""/metrics: what docs/metrics.md says is what there is, and the values are the worker's."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from aiohttp.test_utils import make_mocked_request
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families

from encoders.interface import EncoderInfo
from state.event import EventType
from state.table import PartitionTable
from state.window import Outcome, Window
from stream_app.dead_letters import REASONS
from stream_app.meters import no_outcomes
from stream_app.partition import Partition
from stream_app.serving.metrics import PREFIX
from stream_app.serving.operations import Operations
from stream_app.settings import Settings
from stream_app.stages import Arrival, RoundTimes
from stream_app.status import Counts
from stream_app.worker import Worker

DOCS = Path(__file__).parents[2] / "docs"
_ROW = re.compile(
    r"^\| `(?P<name>\w+)` \| (?P<type>counter|gauge|histogram) \|(?P<labels>[^|]*)\|", re.MULTILINE
)


@pytest.fixture
async def worker(tmp_path: Path) -> Iterator[Worker]:
    """A worker that was never started, with one partition, and something of everything counted."""
    worker = Worker(Settings(datadir=tmp_path / "worker", encoder="stub"))
    table = PartitionTable(tmp_path / "table", 1 << 20)
    partition = Partition(3, table)
    partition.hot = {b"a": None, b"b": None}
    worker._holding.partitions[3] = partition
    worker._encoder_process.info = EncoderInfo("0123", 8, (), (), "cpu", "stub")
    worker.app.recovering = True
    meters = worker._meters
    outcomes = no_outcomes()
    outcomes[EventType.CLICK][Outcome.LATE] = 5
    meters.folded(outcomes)
    meters.published([Arrival(0.0, 1.0, 7)], RoundTimes(2.0, 0.5, 3.0), 4.0)
    meters.encoder_answered("texts", 0.02)
    meters.buried(["not-json", "not-json"])
    worker.counts.tokens = 1234
    worker._lag.heard({3: 10})
    yield worker
    table.close()


async def scraped(worker: Worker) -> dict[str, Metric]:
    response = await Operations(worker._inside()).metrics(make_mocked_request("GET", "/metrics"))
    assert isinstance(response.body, bytes)
    families = text_string_to_metric_families(response.body.decode())
    return {family.name: family for family in families}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float:
    name = f"{PREFIX}{sample}"
    found = [
        each.value
        for family in families.values()
        for each in family.samples
        if each.name == name and each.labels == labels
    ]
    assert len(found) == 1, f"{name}{labels}: {found}"
    return float(found[0])


async def test_the_page_lists_every_metric_with_its_type_and_labels(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream_app.serving.inside.recovery_remaining", lambda app: {3: 12})
    families = await scraped(worker)
    there = {
        name.removeprefix(PREFIX) + ("_total" if family.type == "counter" else ""): (
            family.type,
            {label for each in family.samples for label in each.labels} - {"le"},
        )
        for name, family in families.items()
        if name.startswith(PREFIX)
    }
    told = {
        row["name"]: (row["type"], set(re.findall(r"`(\w+)`", row["labels"])))
        for row in _ROW.finditer((DOCS / "metrics.md").read_text(encoding="utf-8"))
    }
    assert there == told
    assert {"process_resident_memory_bytes", "process_start_time_seconds"} <= families.keys()


async def test_values_are_the_workers_own(worker: Worker) -> None:
    families = await scraped(worker)
    assert value(families, "events_total", type="click", outcome="late") == 5
    assert value(families, "events_total", type="forget", outcome="forgotten") == 0
    assert value(families, "event_to_update_seconds_count", stage="total") == 7
    assert value(families, "event_to_update_seconds_sum", stage="total") == pytest.approx(28)
    assert value(families, "event_to_update_seconds_bucket", stage="text", le="0.25") == 0
    assert value(families, "event_to_update_seconds_bucket", stage="text", le="0.5") == 7
    assert value(families, "event_to_update_seconds_bucket", stage="text", le="+Inf") == 7
    assert value(families, "dead_letters_total", reason="not-json") == 2
    assert value(families, "lag_records", partition="3") == 10
    assert value(families, "hot_windows") == 2
    assert value(families, "tokens_total") == 1234
    assert value(families, "state", state="starting") == 1
    assert value(families, "state", state="running") == 0
    assert value(families, "ready") == 0
    assert value(families, "last_commit_timestamp_seconds") == worker._meters.started_s


async def test_every_total_is_its_own_count(worker: Worker) -> None:
    """Each count gets a power of two, so that no sum of others can pass for it."""
    powers = {name: 1 << at for at, name in enumerate(Counts.__struct_fields__)}
    for name, count in powers.items():
        setattr(worker.counts, name, count)
    families = await scraped(worker)
    for total, counts in {
        "updates": ["updates_published"],
        "tombstones": ["tombstones"],
        "item_vectors": ["item_vectors_published"],
        "checkpoints": ["checkpoints"],
        "windows_stored": ["windows_stored"],
        "users_expired": ["expired"],
        "delivery_retries": ["delivery_retries"],
        "intrusions": ["intrusions"],
        "micro_batches": ["micro_batches"],
        "tokens": ["tokens"],
        "text_cache_hits": ["text_hits_memory", "text_hits_disk"],
        "text_cache_misses": ["texts_encoded"],
        "texts_failed": ["texts_failed"],
        "users_failed": ["users_failed"],
        "media_refused": ["media_refused"],
        "items_refused": ["items_refused"],
        "unknown_items": ["unknown_items"],
    }.items():
        assert value(families, f"{total}_total") == sum(powers[name] for name in counts), total
    dead = value(families, "events_total", type="unknown", outcome="dead_letter")
    assert dead == powers["dead_letters"]


async def test_gauges_are_sums_over_partitions(worker: Worker, tmp_path: Path) -> None:
    with closing(PartitionTable(tmp_path / "other", 1 << 20)) as table:
        first, second = worker._holding.partitions[3], Partition(5, table)
        worker._holding.partitions[5] = second
        second.hot = {b"c": None}
        first.dirty, second.dirty = _users(2), _users(3)
        first.touched, second.touched = _users(5), _users(7)
        families = await scraped(worker)
    assert value(families, "partitions") == 2
    assert value(families, "hot_windows") == 3
    assert value(families, "dirty_users") == 5
    assert value(families, "touched_users") == 12


async def test_the_time_without_a_commit_is_shown_beside_the_limit_of_ready(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert value(await scraped(worker), "uncommitted_seconds") == 0
    monkeypatch.setattr(worker._lag, "still_s", lambda now_s: {3: 7.5, 5: 61.5})
    worker.settings = Settings(
        datadir=worker.settings.datadir, ready_commit_s=90, checkpoint_interval_ms=600_000
    )
    families = await scraped(worker)
    assert value(families, "uncommitted_seconds") == 61.5
    assert value(families, "commit_limit_seconds") == 90 + 2 * 600


async def test_an_encoder_that_loads_is_not_up(worker: Worker) -> None:
    assert value(await scraped(worker), "encoder_up") == 1
    worker._encoder_process.info = None
    assert value(await scraped(worker), "encoder_up") == 0


def _users(count: int) -> dict[bytes, Window]:
    return {b"%d" % number: Window() for number in range(count)}


def test_every_reason_of_a_dead_letter_is_told_of_and_no_other() -> None:
    page = (DOCS / "topics.md").read_text(encoding="utf-8")
    table = page.partition("| `reason` | of | means |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE)) == set(REASONS)
