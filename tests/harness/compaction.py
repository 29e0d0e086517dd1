"""Compaction on demand: what a log cleaner does in days, done now and seen to be done."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tests.harness.client import KafkaClient, Message, Record
from tests.harness.deadline import eventually
from tests.harness.load import BASE_MS, event_message
from tests.harness.stream import Stream

_rolls = itertools.count()

EAGER = {
    "cleanup.policy": "compact",
    "min.compaction.lag.ms": "0",
    "min.cleanable.dirty.ratio": "0.001",
    "segment.ms": "100",  # the next record closes the segment, and only closed ones are compacted
}


def force(stream: Stream) -> int:
    """Compact changelog and updates up to here; return how many records that removed.

    The workers must be running: records of theirs close the segments.
    """
    client = stream.client
    client.make_cleaner_eager()
    names = (stream.settings.changelog_topic, stream.settings.updates_topic)
    marks = {name: client.ends(name) for name in names}
    before = {name: _below(client, name, marks[name]) for name in names}
    for name in names:
        client.alter_topic(name, EAGER)

    def compacted() -> bool:
        _close_segments(stream)
        return all(_is_compacted(_below(client, name, marks[name])) for name in names)

    eventually(
        compacted,
        what=lambda: f"one record per key left below {marks} of {names}",
    )
    after = {name: _below(client, name, marks[name]) for name in names}
    return sum(len(before[name]) - len(after[name]) for name in names)


def _below(client: KafkaClient, topic: str, marks: dict[int, int]) -> list[Record]:
    return [record for record in client.read(topic) if record.offset < marks[record.partition]]


def _is_compacted(records: Sequence[Record]) -> bool:
    keys = [record.key for record in records]
    return len(keys) == len(set(keys))


def _close_segments(stream: Stream) -> None:
    """Have a record written in every partition, of users who are nobody else."""
    for partition in range(stream.settings.partitions):
        number = next(_rolls)
        user = f"roller-{partition}"
        event = {
            "event_id": f"roll-{number}",
            "user_id": user,
            "type": "view",
            "item_id": "item-0",
            "time_ms": BASE_MS + number,
        }
        roller = event_message(event)
        stream.send([Message(roller.key, roller.value, partition)])
    stream.drain()
