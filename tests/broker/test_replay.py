"""The past computed anew beside a live worker: exact, bounded, resumable, shared by several."""

from __future__ import annotations

import json
import signal
from dataclasses import replace

import pytest

from stream_app.replaying.names import plan_topic
from stream_app.topics import partition_of
from tests.broker.test_command_line import command
from tests.conftest import StreamMaker
from tests.harness.client import Message, Record
from tests.harness.load import Load
from tests.harness.replay import Replay
from tests.harness.stream import Stream
from tests.harness.worker import TRAPPED

pytestmark = pytest.mark.broker

LOAD = Load(events=6_000, users=120, seed=21)
MORE = Load(events=3_000, users=120, seed=22)
SLOW = {"fetch_max_records": 10, "checkpoint_interval_ms": 100}
"""So that a replay of some thousand events lasts long enough to be killed in the middle."""
QUICK = {"fetch_max_records": 1000}


def everything(record: Record) -> bool:
    return True


def test_a_replay_beside_a_live_worker_is_bounded_exact_and_leaves_no_trace(
    stream: Stream,
) -> None:
    stream.publish(LOAD.catalogue())
    stream.send(LOAD.messages())
    stream.start_workers(1)
    ends = stream.client.ends(stream.settings.events_topic)
    feeder = stream.feed(MORE.messages(), over_s=6)
    replay = Replay(stream, "june", "--to", ",".join(f"{n}:{end}" for n, end in ends.items()))
    replay.start()
    summary = replay.finished()
    assert replay.committed() == ends
    reference = replay.verify(lambda record: record.offset < ends[record.partition], everything)
    assert summary["events"] == sum(ends.values()) == sum(reference.outcomes.values())
    assert summary["users"] == len(reference.users)
    updates = replay.updates()
    assert summary["updates"] == sum(record.value is not None for record in updates)
    assert summary["tombstones"] == sum(record.value is None for record in updates) > 0
    assert summary["notes"] == []
    items = stream.client.read(replay.shadow.item_vectors_topic)
    assert {record.key for record in items} == {item.key for item in LOAD.catalogue()}

    feeder.finish()
    extended = Replay(stream, "june", "--extend").start()
    assert isinstance(extended, Replay)
    assert extended.finished()["events"] == len(MORE.messages())
    extended.verify(everything, everything)
    (listed,) = json.loads(command(stream, "replay", "list", "--json").stdout)
    assert (listed["name"], listed["complete"], listed["members"]) == ("june", True, 0)

    deleted = json.loads(command(stream, "replay", "delete", "june", "--json").stdout)["deleted"]
    shadow = replay.shadow
    assert {shadow.updates_topic, shadow.changelog_topic} <= set(deleted)
    left = {name for name in stream.client.topics() if "-replay-june" in name}
    assert not left
    assert replay.committed() == {}
    stream.verify()  # the live worker's windows, updates and offsets: as without a replay


def test_killed_it_goes_on_and_another_beginning_is_refused(stream: Stream) -> None:
    load = Load(events=20_000, users=400, seed=23)
    stream.send(load.messages())
    arguments = ("--from", "earliest")
    killed = Replay(stream, "wide", *arguments)
    killed.settings |= SLOW
    killed.module = TRAPPED
    killed.arm("TERM changelog 4")
    killed.start()
    assert killed.wait() == 5, killed.log_tail()
    assert killed.said("was stopped before its end; the same command goes on with it")
    killed.arm("KILL changelog 4")
    killed.start()
    assert killed.wait() == -signal.SIGKILL, killed.log_tail()
    before = killed.committed()
    ends = stream.client.ends(stream.settings.events_topic)
    unfinished = {number for number, end in ends.items() if before.get(number, 0) < end}
    assert unfinished, "it was to be killed before its end"

    other = Replay(stream, "wide", "--from", "2020-01-01", process=1).start()
    assert isinstance(other, Replay)
    assert "--from is 2020-01-01, was earliest" in other.refused()
    wider = Replay(stream, "wide", process=2)
    wider.settings |= {"stub_dimensions": 16}
    wider.start()
    assert "was begun with model" in wider.refused()

    killed.settings |= QUICK
    killed.module = "stream_app"
    again = killed.start()
    assert isinstance(again, Replay)
    summary = again.finished()
    assert summary["events"] < len(load.messages()), "it began where it had stopped"
    reference = again.verify(everything, everything)
    finished_now = {user for user in reference.users if reference.partition[user] in unfinished}
    assert summary["users"] == len(finished_now)
    assert again.start().wait() == 0, "a replay that is complete has nothing left to do"


def test_three_share_it_out_and_two_go_on_when_one_is_killed(stream: Stream) -> None:
    load = Load(events=30_000, users=600, seed=24)
    stream.send(load.messages())
    three = [Replay(stream, "backfill", process=number) for number in range(3)]
    for each in three:
        each.settings |= SLOW
        each.start()
    stream.wait_shared(three)
    three[2].kill()
    assert sum(three[0].committed().values()) < len(load.messages()), "killed before the end"
    summaries = [each.finished() for each in three[:2]]
    three[0].verify(everything, everything)
    assert all(summary["events"] for summary in summaries)


def test_a_part_of_the_log_for_some_users_after_a_warm_up(make_stream: StreamMaker) -> None:
    """Read from an hour before, published from the beginning on, and not past the end."""
    stream = make_stream(window_max_age_ms=30 * 86_400_000)
    hour_ms = 3_600_000
    start_ms = 1_700_000_000_000
    load = Load(events=4_000, users=50, seed=25, hopeless=0, forget=0, leaving=0)
    messages = load.messages()
    stream.send([
        type(message)(message.key, message.value, timestamp_ms=start_ms + number * 4_000)
        for number, message in enumerate(messages)
    ])  # fmt: skip
    begin_ms, end_ms = start_ms + 2 * hour_ms, start_ms + 3 * hour_ms
    users = [f"user-{n}" for n in range(0, 50, 2)]
    (stream.folder / "users.txt").write_text("\n".join(users))
    replay = Replay(
        stream, "part", "--from", str(begin_ms), "--to", str(end_ms), "--warm-up", "1h",
        "--users", "@users.txt",
    )  # fmt: skip
    replay.start()
    summary = replay.finished()

    def wanted(record: Record) -> bool:
        mine = (record.key or b"").decode() in users
        return mine and begin_ms - hour_ms <= record.timestamp_ms < end_ms

    reference = replay.verify(wanted, lambda record: record.timestamp_ms >= begin_ms)
    assert summary["skipped"] > summary["events"] * 0.8
    events = {(r.partition, r.offset): r for r in stream.events()}
    for update in replay.updates():
        at = events[update.partition, int(update.headers["applied_offset"])]
        assert at.timestamp_ms >= begin_ms, "published in the warm-up"
    assert reference.users
    assert summary["notes"] == []


def test_what_was_empty_or_quiet_at_first_is_read_and_warmed_up_when_extended(
    make_stream: StreamMaker,
) -> None:
    """Partition 0 has nothing at the first plan, partition 1 nothing from ``--from`` on."""
    stream = make_stream(window_max_age_ms=30 * 86_400_000)
    hour_ms, begin_ms = 3_600_000, 1_700_000_000_000
    load = Load(events=1_200, users=60, seed=28, hopeless=0, forget=0, leaving=0)
    times_ms = range(begin_ms - 2 * hour_ms, begin_ms + 2 * hour_ms, 4 * hour_ms // load.events)
    early: list[Message] = []
    later: list[Message] = []
    for message, time_ms in zip(load.messages(), times_ms, strict=True):
        number = partition_of(message.key or b"", stream.settings.partitions)
        is_early = time_ms < begin_ms + hour_ms
        if (number == 0 and is_early) or (number == 1 and begin_ms <= time_ms < begin_ms + hour_ms):
            continue
        (early if is_early else later).append(replace(message, timestamp_ms=time_ms))
    stream.send(early)
    arguments = ("--from", str(begin_ms), "--warm-up", "1h")
    replay = Replay(stream, "quiet", *arguments)
    replay.start()
    replay.finished()
    ends = stream.client.ends(stream.settings.events_topic)
    assert ends[0] == 0
    assert replay.committed() == ends

    stream.send(later)
    extended = Replay(stream, "quiet", "--extend").start()
    assert isinstance(extended, Replay)
    summary = extended.finished()
    assert summary["notes"] == []
    extended.verify(
        lambda record: record.timestamp_ms >= begin_ms - hour_ms,
        lambda record: record.timestamp_ms >= begin_ms,
    )
    assert extended.committed() == stream.client.ends(stream.settings.events_topic)
    assert extended.committed()[0] > 0
    assert extended.committed()[1] > ends[1]


def test_gaps_at_the_end_do_not_make_it_hang_and_a_lost_beginning_is_said(
    stream: Stream,
) -> None:
    """The log ends with transaction markers, one partition with nothing else, and begins late."""
    load = Load(events=400, users=20, seed=26)
    stream.client.produce_in_transaction(stream.settings.events_topic, load.messages())
    ends = stream.client.ends(stream.settings.events_topic)
    records = stream.events()
    last = {record.partition: record.offset for record in records}
    assert all(last[number] < end - 1 for number, end in ends.items() if end)
    lost = dict.fromkeys((0, 1), 20)
    stream.client.delete_records(stream.settings.events_topic, lost)
    stream.client.alter_topic(stream.settings.events_topic, {"cleanup.policy": "compact,delete"})
    replay = Replay(stream, "gaps", "--from", "earliest")
    replay.start()
    summary = replay.finished()
    assert replay.committed() == ends
    notes = "\n".join(summary["notes"])
    assert "partition 0: the log begins at offset 20" in notes
    assert "partition 2" not in notes
    assert f"{stream.settings.events_topic} is compacted: which earlier events are gone" in notes
    replay.verify(everything, everything)
    assert plan_topic(stream.settings, "gaps") in stream.client.topics()

    more = Load(events=400, users=20, seed=27)
    stream.send(more.messages())
    overtaken = {0: ends[0] + 5}
    stream.client.delete_records(stream.settings.events_topic, overtaken)
    extended = Replay(stream, "gaps", "--extend").start()
    assert isinstance(extended, Replay)
    said = "\n".join(extended.finished()["notes"])
    assert (
        f"partition 0: the replay had come to offset {ends[0]}, the log now begins at "
        f"{overtaken[0]}: what lay between is gone"
    ) in said
    assert "partition 1: the replay had come" not in said
