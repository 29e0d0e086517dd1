"""The encoder process dies under load: it is restarted, and nothing is lost or wrong."""

from __future__ import annotations

import psutil
import pytest

from tests.harness.deadline import eventually
from tests.harness.load import Load
from tests.harness.stream import Stream

pytestmark = pytest.mark.faults


def test_a_killed_encoder_is_replaced_under_load(stream: Stream) -> None:
    """kill -9 of the encoder alone, twice; every window and every vector is right afterwards."""
    load = Load(events=20_000, users=200)
    stream.publish(load.catalogue())
    (worker,) = stream.start_workers(1)
    stream.watch_commits()
    feeder = stream.feed(load.messages(), over_s=8)
    killed: set[int] = set()
    for restarts, share in ((1, 0.2), (2, 0.6)):
        feeder.wait_for(share)
        eventually(
            lambda: worker.encoder_pid() not in (None, *killed),
            what=f"an encoder process other than {killed}",
        )
        victim = worker.encoder_pid() or 0
        psutil.Process(victim).kill()
        killed.add(victim)
        worker.wait_counts("encoder_restarts", restarts)
    feeder.finish()
    stream.verify()
    counts = worker.status()["counts"]
    assert counts["encoder_restarts"] == len(killed) == 2
    assert counts["users_failed"] == counts["texts_failed"] == counts["dead_letters"] == 0
    assert not stream.client.read(stream.settings.dead_letters_topic)


def test_a_killed_worker_takes_its_encoder_with_it(stream: Stream) -> None:
    """kill -9 of the worker leaves no process behind."""
    (worker,) = stream.start_workers(1)
    encoder = psutil.Process(worker.encoder_pid() or 0)
    assert encoder in worker.children()
    worker.kill()
    assert not encoder.is_running()
