"""Events as nobody would wish for them: what is good counts, what is too much is buried."""

from __future__ import annotations

import random

import pytest

from tests.conftest import StreamMaker
from tests.harness import compaction
from tests.harness.client import Message
from tests.harness.deadline import eventually
from tests.harness.faults import input_faults
from tests.harness.load import Load, event_message
from tests.harness.stream import Stream

pytestmark = pytest.mark.faults

ONE_USER_EVENTS = 20_000
NEW_USERS = 5_000


def test_whatever_comes_in_is_counted_or_buried(stream: Stream) -> None:
    """One user with very many events, many new users at once, ten megabytes, the wrong days."""
    random_ = random.Random(3)
    stream.publish(Load().catalogue())
    stream.start_workers(1)
    stream.send(Load(users=1, events=ONE_USER_EVENTS, forget=0, leaving=0).messages())
    huge = input_faults.send_huge(stream, random_)
    stream.send(input_faults.untimely(random_))
    input_faults.send_new_users(stream, NEW_USERS, mark=1)
    reference = stream.verify()
    assert sum(reference.users["user-0"].counts.values()) > ONE_USER_EVENTS // 2
    assert reference.outcomes["late"] > 0
    assert {f"new-1-{n}" for n in range(NEW_USERS)} <= set(reference.users)
    letters = stream.client.read(stream.settings.dead_letters_topic)
    reasons = [letter.headers["reason"] for letter in letters]
    assert sorted(reasons) == [*[b"absurd-time"] * 5, b"too-large"]
    (cut,) = [letter for letter in letters if letter.key == huge.key]
    assert huge.value is not None
    assert cut.headers["truncated_from"] == b"%d" % len(huge.value)
    assert cut.value
    assert huge.value.startswith(cut.value)


def test_a_compacted_source_is_read_for_what_is_left_of_it(make_stream: StreamMaker) -> None:
    """Of most users only the last event is left, with gaps all over the log."""
    stream = make_stream()
    topic, client = stream.settings.events_topic, stream.client
    load = Load(events=3_000, users=60, doubled=0, forget=0, leaving=0)
    stream.publish(load.catalogue())
    stream.send(load.messages())
    marks = client.ends(topic)
    client.make_cleaner_eager()
    client.alter_topic(topic, compaction.EAGER)

    def compacted() -> bool:
        stream.send([_filler(partition) for partition in range(stream.settings.partitions)])
        left = [record for record in client.read(topic) if record.offset < marks[record.partition]]
        return len(left) == load.users

    eventually(compacted, what="one event per user left")
    client.alter_topic(topic, {"cleanup.policy": "delete"})  # what is left now stays
    stream.start_workers(1)
    reference = stream.verify()
    assert stream.counts()["records"] == sum(reference.outcomes.values()) < load.events


def _filler(partition: int) -> Message:
    """Return a record that closes a segment, so that it can be compacted."""
    user = f"filler-{partition}"
    filler = event_message(input_faults.view(f"filler-{partition}", user))
    return Message(filler.key, filler.value, partition)
