"""(e) Quix Streams: state with changelog, one vector per event, checkpoint by time."""

from __future__ import annotations

from typing import Any

from quixstreams import Application, State, message_context
from quixstreams.state.rocksdb import RocksDBOptions

from benchmarks.job import Job, Run
from state import codec

_WINDOW = b"w"


def main() -> None:
    run = Run.from_argv()
    job = Job(run)
    app = Application(
        broker_address=run.bootstrap,
        consumer_group=run.group,
        auto_offset_reset="earliest",
        commit_interval=run.commit_interval_s,
        state_dir=run.directory,
        auto_create_topics=True,  # the changelog; source and updates are there already
        rocksdb_options=RocksDBOptions(block_cache_size=256 << 20),
        consumer_poll_timeout=0.1,
        producer_extra_config={
            "acks": "all",
            "linger.ms": 0 if run.low_latency else 20,
            "batch.size": 1 << 18,
        },
        consumer_extra_config={
            "session.timeout.ms": 10_000,
            "heartbeat.interval.ms": 1_000,
            "fetch.wait.max.ms": 100,
        },
        loglevel="WARNING",
    )
    source = app.topic(run.events_topic, value_deserializer="bytes", key_deserializer="bytes")
    target = app.topic(run.updates_topic, value_serializer="bytes", key_serializer="bytes")

    def interest(
        value: bytes, key: Any, timestamp: int, _headers: Any, state: State[Any, Any]
    ) -> bytes:
        at = message_context()
        event = job.event(key, value, timestamp)
        stored = state.get_bytes(_WINDOW)
        window = job.fold(None if stored is None else codec.decode(stored), event, at.offset)
        state.set_bytes(_WINDOW, codec.encode(window))
        return job.update(event.user_id, job.vector(window), window, at.partition)

    app.dataframe(source).apply(interest, stateful=True, metadata=True).to_topic(target)
    app.run()


if __name__ == "__main__":
    main()
