"""Forgetting, doubling and lateness by hand: small enough to see what should come out."""

from __future__ import annotations

import json
import time
from contextlib import closing
from typing import Any

import pytest

from state.table import PartitionTable
from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.client import Message
from tests.harness.load import BASE_MS, DAY_MS, event_message
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker


def view(user: str, name: str, time_ms: int = BASE_MS) -> Message:
    """Return a view of the item ``name``, with that as event id, too."""
    return event_message(
        {"event_id": name, "user_id": user, "type": "view", "item_id": name, "time_ms": time_ms}
    )


def forget(user: str, name: str = "f") -> Message:
    """Return a request to forget."""
    return event_message({"event_id": name, "user_id": user, "type": "forget"})


def test_forget_leaves_tombstones_and_a_replay_repeats_it(make_stream: StreamMaker) -> None:
    """Window, changelog and update go; later events start anew; so it is after a replay."""
    stream = make_stream(partitions=1)
    stream.send(
        [
            view("gone", "a"),
            view("back", "b"),
            view("gone", "c"),
            forget("gone"),
            forget("back"),
            view("back", "d", BASE_MS - DAY_MS),
            view("stays", "e"),
        ]
    )
    (worker,) = stream.start_workers(1)
    reference = stream.verify()
    assert reference.forgotten == {"gone": 3}
    assert _windows(stream) == {"back": (["d"], 5), "stays": (["e"], 6)}
    tombstone = checks.last_per_key(stream.updates())["gone"]
    assert (tombstone.value, tombstone.headers["applied_offset"]) == (None, b"3")
    assert worker.status()["counts"]["forgotten"] == 2

    stream.client.rewind(stream.settings.app_id, stream.settings.events_topic)
    worker.start().wait_running()
    stream.verify()
    assert _windows(stream) == {"back": (["d"], 5), "stays": (["e"], 6)}
    last = checks.last_per_key(stream.updates())
    assert {user for user, record in last.items() if record.value} == {"back", "stays"}


def test_forgetting_somebody_unknown_is_no_trouble(make_stream: StreamMaker) -> None:
    stream = make_stream(partitions=1)
    stream.send([forget("nobody"), view("somebody", "a"), forget("nobody", "f2")])
    (worker,) = stream.start_workers(1)
    stream.verify()
    assert _windows(stream) == {"somebody": (["a"], 1)}
    assert worker.status()["counts"]["forgotten"] == 2


def test_late_and_doubled_events_are_counted_and_take_their_place(
    make_stream: StreamMaker,
) -> None:
    """A late event enters by event time, or is counted as late; a doubled one counts once."""
    stream = make_stream(partitions=1, window_max_events=3)
    stream.send(
        [
            view("u", "a", BASE_MS + 10),
            view("u", "d", BASE_MS + 40),
            view("u", "b", BASE_MS + 20),  # late, takes its place
            view("u", "d", BASE_MS + 40),  # doubled
            view("u", "c", BASE_MS + 30),  # late, pushes a out
            view("u", "x", BASE_MS + 5),  # older than the full window reaches
            view("u", "a", BASE_MS + 10),  # doubled, but it left: late
            view("u", "y", BASE_MS - 31 * DAY_MS),  # older than any window reaches
        ]
    )
    (worker,) = stream.start_workers(1)
    stream.verify()
    assert _windows(stream) == {"u": (["b", "c", "d"], 7)}
    counts = worker.status()["counts"]
    assert (counts["folded"], counts["duplicate"], counts["late"]) == (4, 1, 3)
    update: dict[str, Any] = json.loads(checks.last_per_key(stream.updates())["u"].value or b"")
    assert (update["event_count"], update["applied_offset"]) == (3, 7)


def _windows(stream: Stream) -> dict[str, tuple[list[str], int]]:
    """Return user -> (held event ids, applied offset) from the changelog."""
    return {
        user: ([event["event_id"] for event in window["held"]], window["applied_offset"])
        for user, window in checks.windows_in(stream.changelog()).items()
    }


def test_who_was_forgotten_long_ago_does_not_come_back_with_a_former_owners_disk(
    make_stream: StreamMaker,
) -> None:
    """Its database is older than the tombstone, which the changelog has no more."""
    stream = make_stream(partitions=1)
    stream.send([view("gone", "a"), view("stays", "b")])
    (former,) = stream.start_workers(1)
    stream.drain()
    stream.stop_workers()
    stream.send([forget("gone"), view("stays", "c")])
    stream.worker().wait_running()
    stream.drain()
    stream.stop_workers()
    last = max(record.offset for record in stream.changelog() if record.value is not None)
    topic = stream.settings.changelog_topic
    stream.client.alter_topic(topic, {"cleanup.policy": "delete"})  # or nothing can be deleted
    stream.client.delete_records(topic, {0: last})
    (path,) = former.datadir.glob("**/windows-0.rocksdb")
    assert set(checks.windows_on_disk({former.datadir: [0]})) == {"gone", "stays"}
    with closing(PartitionTable(path, 1 << 20)) as table:
        table.begin(int(time.time() * 1000) - 5 * DAY_MS)

    former.start().wait_running()
    assert former.said("5.0 days old and is restored from the beginning of the changelog")
    stream.send([view("stays", "d")])
    stream.drain()
    stream.stop_workers()
    assert _windows(stream) == {"stays": (["b", "c", "d"], 4)}
    assert set(checks.windows_on_disk({former.datadir: [0]})) == {"stays"}
