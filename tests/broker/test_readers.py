"""What a service downstream sees: by our reader, and by the example that needs nothing of ours."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path

import pytest

from stream_app.reader import UpdatesReader
from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.client import KafkaClient
from tests.harness.deadline import LONG_PATIENCE_S, PATIENCE_S
from tests.harness.load import Load
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

EXAMPLE = Path(__file__).parents[2] / "examples" / "read_updates.py"


async def changes_of(stream: Stream, until: dict[str, int]) -> UpdatesReader:
    """Follow the topic from its beginning until every user of ``until`` is at that offset."""
    newest: dict[str, int] = {}
    reader = UpdatesReader(stream.client.bootstrap, stream.settings.updates_topic)
    async with reader, asyncio.timeout(PATIENCE_S):
        async for change in reader:
            assert change.applied_offset >= newest.get(change.user_id, -1)
            newest[change.user_id] = change.applied_offset
            if newest == until:
                return reader
    raise AssertionError("the reader ended by itself")


@pytest.mark.parametrize("update_format", ["json", "avro"])
def test_the_reader_has_the_latest_of_everybody_and_never_goes_back(
    update_format: str, make_stream: StreamMaker
) -> None:
    """Also where a worker was killed, and has published some users again."""
    stream = make_stream(update_format=update_format, checkpoint_interval_ms=1500)
    load = Load(events=4_000, users=60)
    (worker,) = stream.start_workers(1)
    stream.send(load.messages()[:3_000])
    worker.wait_counts("updates_published", 60)
    worker.kill()
    worker.start().wait_running()
    stream.send(load.messages()[3_000:])
    stream.drain()
    stream.stop_workers()

    reference = stream.reference()
    until = {name: user.applied_offset for name, user in reference.users.items()}
    reader = asyncio.run(changes_of(stream, until | reference.forgotten))
    found = {user: (u.applied_offset, u.event_count) for user, u in reader.updates.items()}
    assert found == {
        name: (user.applied_offset, len(user.held)) for name, user in reference.users.items()
    }
    last = checks.last_per_key(stream.updates())
    assert set(reader.updates) == {name for name, record in last.items() if record.value}


def test_the_example_prints_every_user(bare_stream: StreamMaker, client: KafkaClient) -> None:
    """It reads the topic of the default name, so that topic is made and taken away here."""
    topic = "interest.updates"
    if topic in client.topics():
        pytest.skip(f"{topic} exists on this broker: it may be somebody's own")
    stream = bare_stream(updates_topic=topic).create_topics()
    stream.send(Load(events=200, users=10, leaving=0).messages())
    stream.worker()
    reference = stream.verify()
    outcome = subprocess.run(
        [sys.executable, str(EXAMPLE), str(len(reference.users))],
        env={"KAFKA_BOOTSTRAP": client.bootstrap, "PATH": ""},
        capture_output=True,
        text=True,
        timeout=LONG_PATIENCE_S,
        check=True,
    )
    printed = {line.split()[0]: int(line.split()[1]) for line in outcome.stdout.splitlines()}
    assert set(printed) == set(reference.users)
    assert all(offset <= reference.users[name].applied_offset for name, offset in printed.items())
