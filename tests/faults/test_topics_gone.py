"""Topics deleted under the worker, and made anew: it stops and says so; nothing is skipped."""

from __future__ import annotations

import pytest

from stream_app.errors import FixSettings
from tests.harness.deadline import eventually
from tests.harness.load import Load
from tests.harness.stream import Stream
from tests.harness.worker import Worker

pytestmark = pytest.mark.faults

LOAD = Load(events=1_000, users=60)


def working(stream: Stream) -> Worker:
    """Return a worker that has done its work."""
    stream.publish(LOAD.catalogue())
    (worker,) = stream.start_workers(1)
    stream.send(LOAD.messages())
    stream.drain()
    return worker


def told_at_its_end(worker: Worker) -> str:
    """Return the line that it ended with, the exit code of settings to be fixed."""
    worker.ended_by_test = True
    assert worker.wait() == FixSettings.exit_code, worker.log_tail()
    assert "Traceback" not in worker.log.read_text(), worker.log_tail()
    line = worker.log.read_text().splitlines()[-1]
    assert line.startswith("error: ")
    return line


def test_an_events_topic_made_anew_is_not_taken_for_the_old_one(stream: Stream) -> None:
    """Its offsets begin again, so its events would pass for redelivered."""
    topic = stream.settings.events_topic
    worker = working(stream)
    stream.client.delete_topics([topic])
    assert f"topics were deleted or changed: missing topics: {topic}" in told_at_its_end(worker)
    eventually(lambda: topic not in stream.client.topics(), what="the topic gone")
    stream.create_topics()
    stream.send(Load(events=3_000, users=60, seed=8).messages())  # more than there were
    worker.start()
    line = told_at_its_end(worker)
    assert f"{topic}/" in line
    assert "is not the log that the windows of" in line
    assert not stream.committed(), "of the new topic nothing is skipped"


@pytest.mark.parametrize(
    "name",
    ["changelog_topic", "updates_topic", "items_topic", "item_vectors_topic", "dead_letters_topic"],
)
def test_a_topic_deleted_under_the_worker_stops_it(name: str, stream: Stream) -> None:
    topic = getattr(stream.settings, name)
    worker = working(stream)
    stream.client.delete_topics([topic])
    stream.send(LOAD.messages()[:50])
    assert f"topics were deleted or changed: missing topics: {topic}" in told_at_its_end(worker)


def test_windows_on_disk_ahead_of_a_changelog_made_anew_are_refused(stream: Stream) -> None:
    """Their changelog offsets point behind its end: what is stored could never be restored."""
    topic = stream.settings.changelog_topic
    worker = working(stream)
    stream.stop_workers()
    stream.client.delete_topics([topic])
    eventually(lambda: topic not in stream.client.topics(), what="the topic gone")
    stream.create_topics()
    worker.start()
    assert f"are ahead of {topic}" in told_at_its_end(worker)
