"""The Faust app that both stock contestants share, tuned as far as Faust's settings go."""

from __future__ import annotations

import faust

from benchmarks.job import Run

_STREAM_BUFFER = 64
"""Events read ahead per stream. While there are any, the agent never really waits, so neither the
producer nor the commit timer gets a turn: with 16,384 the first commit came after a minute.
Chosen by CPU per event on a busy machine, start-up taken off: about 0.28 ms with 64, 0.3 to 0.4
with 256, 0.4 with 1,024 and 4,096 (Faust's default)."""


def build_app(run: Run) -> faust.App:
    """Return an app on rocksdict, with the commit interval and session limits all others have."""
    return faust.App(
        run.group,
        broker=f"kafka://{run.bootstrap}",
        store="rocksdb://",
        datadir=run.directory,
        topic_partitions=run.partitions,
        topic_replication_factor=1,
        web_enabled=False,
        consumer_auto_offset_reset="earliest",
        stream_buffer_maxsize=_STREAM_BUFFER,
        broker_max_poll_records=4_000,
        broker_commit_interval=run.commit_interval_s,
        broker_commit_every=1_000_000,  # by time alone, as everybody
        broker_session_timeout=10.0,
        broker_heartbeat_interval=1.0,
        producer_acks=-1,
        producer_linger_ms=5 if run.low_latency else 20,
        producer_max_batch_size=1 << 18,
        stream_wait_empty=False,
    )


def start(app: faust.App) -> None:
    """Run the worker until SIGTERM."""
    faust.Worker(app, loglevel="WARNING").execute_from_commandline()
