"""The live group set back: windows made anew under new settings, readers none the worse for it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable

import pytest

from stream_app.reader import Change, LatestUpdates
from stream_app.replaying import group
from stream_app.settings import Settings
from stream_app.updates import decode
from tests.broker.test_command_line import command
from tests.harness import checks
from tests.harness.client import Record
from tests.harness.load import Load
from tests.harness.reference import replay
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

LOAD = Load(events=6_000, users=120, seed=31)
MORE = Load(events=2_000, users=150, seed=32)


def read_on(reader: LatestUpdates, updates: Iterable[Record]) -> None:
    """Let a reader see these records; a user never goes back in time for it."""
    for record in updates:
        user = (record.key or b"").decode()
        before = reader.updates.get(user)
        update = None if record.value is None else decode(record.value)
        reader.apply(Change(user, update, int(record.headers["applied_offset"])))
        after = reader.updates.get(user)
        if before and after:
            assert after.applied_offset >= before.applied_offset


def rewound(stream: Stream, *arguments: str) -> list[dict[str, int]]:
    done = command(stream, "rewind", *arguments, "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["rewound"] == ("--dry-run" not in arguments)
    partitions: list[dict[str, int]] = found["partitions"]
    return partitions


def test_windows_are_made_anew_from_the_beginning_under_another_setting(stream: Stream) -> None:
    """By the worker that had them, and by one that knows nothing but the changelog."""
    stream.publish(LOAD.catalogue())
    stream.send(LOAD.messages())
    (worker,) = stream.start_workers(1)
    refused = command(stream, "rewind", "--to", "earliest", "--yes")
    assert refused.returncode == 2
    assert "has 1 members" in refused.stderr
    stream.drain()
    stream.stop_workers()
    reader = LatestUpdates()
    before = stream.updates()
    read_on(reader, before)
    committed, users = stream.committed(), len(stream.reference().users)

    dry = rewound(stream, "--to", "earliest", "--dry-run")
    assert stream.committed() == committed
    assert {each["partition"]: each["committed"] for each in dry} == committed
    assert sum(each["users_anew"] for each in dry) == users
    assert sum(each["users_kept"] for each in dry) == 0
    assert "say --yes" in command(stream, "rewind", "--to", "earliest").stderr
    assert rewound(stream, "--to", "earliest", "--yes") == dry
    assert sum(stream.committed().values()) == 0

    smaller = {"window_max_events": 4}
    stream.raw_settings |= smaller
    stream.settings = Settings(**stream.raw_settings)  # type: ignore[arg-type]
    worker.settings |= smaller
    worker.start()
    stream.drain()
    reference = stream.verify()  # against a plain loop from the beginning, windows of 4
    assert worker.count("redelivered") == 0
    assert worker.count("records") == len(LOAD.messages())
    read_on(reader, newer(before, stream.updates()))
    last = {
        user: decode(record.value)
        for user, record in checks.last_per_key(stream.updates()).items()
        if record.value is not None
    }
    assert dict(reader.updates) == last
    assert set(last) == set(reference.users)
    stream.send(MORE.messages())
    fresh = stream.worker()
    stream.drain()
    stream.verify(on_disk=[fresh])


def newer(before: list[Record], now: list[Record]) -> list[Record]:
    """Return the records of a topic that were not there before."""
    seen = {(record.partition, record.offset) for record in before}
    return [record for record in now if (record.partition, record.offset) not in seen]


def test_from_a_point_on_windows_are_anew_or_kept_or_only_published_again(
    stream: Stream,
) -> None:
    load = Load(events=3_000, users=300, seed=33, forget=0, leaving=0)
    stream.send(load.messages())
    (worker,) = stream.start_workers(1)
    stream.drain()
    stream.stop_workers()
    points = {number: end - 100 for number, end in stream.committed().items()}
    said = ",".join(f"{number}:{offset}" for number, offset in points.items())
    events = stream.events()
    touched = {r.key for r in events if r.offset >= points[r.partition]}
    before = stream.updates()

    _a_time_is_the_first_events_from_then_on(stream, events)
    again = rewound(stream, "--to", said, "--keep-windows", "--yes")
    assert sum(each["users_anew"] for each in again) == len(touched)
    worker.start()
    stream.drain()
    stream.verify()
    assert worker.count("redelivered") == worker.count("records") == 100 * len(points)
    assert {record.key for record in newer(before, stream.updates())} == touched

    _cut_off(stream, points)
    rewound(stream, "--to", said, "--yes")
    worker.start()
    stream.drain()
    stream.stop_workers()
    assert worker.count("folded") > 0
    assert worker.count("redelivered") == 0
    after = [r for r in events if r.key not in touched or r.offset >= points[r.partition]]
    reference = replay(after, max_events=stream.settings.window_max_events)
    assert set(reference.users) == {(r.key or b"").decode() for r in events}
    checks.assert_same_windows(reference, checks.windows_in(stream.changelog()), "changelog")
    stored = checks.windows_on_disk({worker.datadir: set(points)})
    checks.assert_same_windows(reference, stored, "RocksDB")
    stream.verify_updates(reference, stream.updates())
    ahead = command(stream, "rewind", "--to", "0:99999", "--yes")
    assert ahead.returncode == 2
    assert "lies ahead of the committed" in ahead.stderr


def _cut_off(stream: Stream, points: dict[int, int]) -> None:
    """Do what a rewind does that ends before it has marked the changelog."""
    settings = stream.settings
    asyncio.run(group.set_offsets(settings.kafka, settings.app_id, settings.events_topic, points))


def _a_time_is_the_first_events_from_then_on(stream: Stream, events: list[Record]) -> None:
    at_ms = sorted(event.timestamp_ms for event in events)[len(events) // 2]
    first = {
        number: min(
            event.offset
            for event in events
            if event.partition == number and event.timestamp_ms >= at_ms
        )
        for number in {event.partition for event in events if event.timestamp_ms >= at_ms}
    }
    planned = rewound(stream, "--to", str(at_ms), "--dry-run")
    assert {each["partition"]: each["to"] for each in planned if each["events"]} == first
