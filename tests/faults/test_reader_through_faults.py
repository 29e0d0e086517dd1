"""A reader that is there all the time: over a killed worker, a killed broker, a topic made anew."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.blocking_reader import BlockingReader
from stream_app.errors import FixData
from stream_app.kafka_server import KafkaServer
from stream_app.reader import Change, UpdatesReader
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient
from tests.harness.deadline import eventually
from tests.harness.load import Load
from tests.harness.reference import Reference
from tests.harness.stream import PARTITIONS, Stream
from tests.harness.worker import Worker

pytestmark = pytest.mark.faults

LOAD = Load(events=3_000, users=60)


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker of this test's own: the session's must not be harmed."""
    with KafkaServer(tmp_path / "own-kafka") as server:
        yield server


def test_a_reader_is_right_whatever_happened_meanwhile(
    own_broker: KafkaServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / "stream"
    folder.mkdir()
    client = KafkaClient(own_broker.bootstrap)
    stream = Stream(client, folder, SESSION_TIMEOUT_S, checkpoint_interval_ms=1_500)
    request.node.streams = [stream]
    try:
        _play(stream.create_topics(), own_broker)
    finally:
        stream.close()
        client.close()


def _play(stream: Stream, broker: KafkaServer) -> None:
    stream.publish(LOAD.catalogue())
    (worker,) = stream.start_workers(1)
    told: list[Change] = []
    reader = UpdatesReader(broker.bootstrap, stream.settings.updates_topic)
    with pytest.raises(FixData, match=r"no longer holds what comes next .*a new reader"):
        _follow(BlockingReader(reader, told.extend), told, stream, worker, broker)


def _follow(
    following: BlockingReader,
    told: list[Change],
    stream: Stream,
    worker: Worker,
    broker: KafkaServer,
) -> None:
    messages, topic = LOAD.messages(), stream.settings.updates_topic
    with following as vectors:
        stream.send(messages[:1_000])
        worker.wait_counts("updates_published", 60)
        worker.kill()
        worker.start().wait_running()
        stream.send(messages[1_000:2_000])
        worker.wait_counts("updates_published", 60)
        broker.kill()
        broker.start()
        stream.send(messages[2_000:])
        check(vectors, told, stream.verify())

        stream.client.delete_topics([topic])
        stream.client.create_topic(topic, PARTITIONS)
        eventually(lambda: vectors.get("nobody"), what="the new topic noticed")


def check(vectors: BlockingReader, told: list[Change], reference: Reference) -> None:
    """It holds what a plain loop over the events says, and has told of no step back."""
    wanted = {name: (user.applied_offset, len(user.held)) for name, user in reference.users.items()}

    def held() -> dict[str, tuple[int, int]]:
        found = vectors.snapshot().items()
        return {name: (each.applied_offset, each.event_count) for name, each in found}

    eventually(lambda: held() == wanted, what=lambda: f"{wanted}, not {held()}")
    last = {name: offset for name, (offset, _) in wanted.items()} | reference.forgotten
    reached: dict[str, int] = {}

    def told_all() -> bool:
        reached.clear()
        for change in list(told):
            assert change.applied_offset >= reached.get(change.user_id, -1), "back in time"
            reached[change.user_id] = change.applied_offset
        return reached == last

    eventually(told_all, what=lambda: f"told of {last}, not {reached}")
