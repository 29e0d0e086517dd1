"""SIGTERM in the middle of a load: what is committed and what was done are the same thing."""

from __future__ import annotations

import pytest

from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.load import Load
from tests.harness.reference import replay
from tests.harness.stream import STOP_S, Stream

pytestmark = pytest.mark.broker


def test_a_clean_stop_commits_exactly_what_it_did(stream: Stream) -> None:
    """Exit 0 in time; changelog, RocksDB and updates stand at the committed offsets."""
    load = Load(events=20_000, users=100)
    (worker,) = stream.start_workers(1)
    feeder = stream.feed(load.messages(), over_s=4)
    feeder.wait_for(0.4)
    worker.wait_counts("folded", 100)
    held = worker.partitions()
    worker.ask_to_stop()
    assert worker.wait(STOP_S) == 0, worker.log_tail()
    committed = stream.committed()
    done = [record for record in stream.events() if record.offset < committed[record.partition]]
    reference = replay(done, max_events=stream.settings.window_max_events)
    assert 0 < len(done) < len(load.messages())
    checks.assert_same_windows(reference, checks.windows_in(stream.changelog()), "changelog")
    checks.assert_same_windows(reference, checks.windows_on_disk({worker.datadir: held}), "RocksDB")
    stream.verify_updates(reference, stream.updates())
    assert worker.status()["state"] == "stopped"


def test_a_worker_that_lingers_stops_in_time(make_stream: StreamMaker) -> None:
    """Its fetch is cancelled while it waits for the next one, and this ends nothing else."""
    stream = make_stream(micro_batch_linger_ms=1_000)
    (worker,) = stream.start_workers(1)
    stream.send(Load(events=20, users=5).messages())
    stream.drain()
    worker.ask_to_stop()
    assert worker.wait(STOP_S) == 0, worker.log_tail()
