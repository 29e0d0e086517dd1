"""A worker frozen with writes queued inside it, which leave it when it thaws: the worst case.

The broker stalls first, so that one request of the worker is on its way and other partitions'
batches wait behind it in the worker's memory; then the worker is frozen past its session.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.kafka_server import KafkaServer
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient
from tests.harness.load import Load
from tests.harness.stream import Stream

pytestmark = pytest.mark.faults

LOAD = Load(events=30_000, users=200, items=60)
STALL_S = 0.5
"""Far below any timeout, far above the time between two writes."""


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker of this test's own, to be stalled."""
    with KafkaServer(tmp_path / "own-kafka") as server:
        yield server


@pytest.fixture
def own_stream(
    own_broker: KafkaServer, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stream]:
    """A stream on that broker."""
    folder = tmp_path / "frozen"
    folder.mkdir()
    client = KafkaClient(own_broker.bootstrap)
    stream = Stream(client, folder, SESSION_TIMEOUT_S).create_topics()
    request.node.streams = [stream]
    yield stream
    stream.close()
    client.close()


def test_queued_writes_of_a_thawed_worker_do_not_stay_the_last_word(
    own_broker: KafkaServer, own_stream: Stream
) -> None:
    stream = own_stream
    stream.publish(LOAD.catalogue())
    frozen, other = stream.start_workers(2)
    feeder = stream.feed(LOAD.messages(), over_s=1.5)
    feeder.wait_for(0.2)
    stream.wait_published()
    broker_pid = own_broker.pid or 0
    os.kill(broker_pid, signal.SIGSTOP)
    try:
        time.sleep(STALL_S)  # the fault itself, not a wait: nothing can be asked meanwhile
        frozen.freeze()
    finally:
        os.kill(broker_pid, signal.SIGCONT)
    stream.wait_shared([other])
    feeder.finish()
    stream.drain()
    frozen.thaw_and_rejoin()
    stream.wait_shared([frozen, other])
    stream.wait_healed()
    stream.verify()
