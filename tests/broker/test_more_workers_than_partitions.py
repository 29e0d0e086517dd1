"""A worker that gets no partition is ready all the same, and takes over when another leaves."""

from __future__ import annotations

import pytest

from tests.conftest import StreamMaker
from tests.harness.load import Load

pytestmark = pytest.mark.broker

LOAD = Load(events=400, users=20, seed=31)
MORE = Load(events=400, users=20, seed=32)


@pytest.mark.parametrize("standby_replicas", [0, 1])
def test_a_worker_without_a_partition_waits_ready(
    make_stream: StreamMaker, standby_replicas: int
) -> None:
    stream = make_stream(partitions=1, standby_replicas=standby_replicas)
    stream.publish(LOAD.catalogue())
    stream.send(LOAD.messages())
    workers = stream.start_workers(3)
    stream.drain()
    assert sorted(len(worker.partitions()) for worker in workers) == [0, 0, 1]
    (busy,) = (worker for worker in workers if worker.partitions())
    busy.kill()
    others = [worker for worker in workers if worker is not busy]
    stream.wait_shared(others)
    stream.send(MORE.messages())
    stream.verify(on_disk=[worker for worker in others if worker.partitions()])
