"""(b) The whole job as Faust's documentation writes it: one event, one table write, one send."""

from __future__ import annotations

from typing import Any

import faust

from benchmarks.contestants.stock_app import build_app, start
from benchmarks.job import Job, Run
from state import codec

run = Run.from_argv()
job = Job(run)
app = build_app(run)
events = app.topic(run.events_topic, key_type=bytes, value_type=bytes, value_serializer="raw")
updates = app.topic(run.updates_topic, key_type=bytes, value_type=bytes, value_serializer="raw")
windows = app.Table(
    "windows",
    partitions=run.partitions,
    key_type=bytes,
    value_type=bytes,
    options={"driver": "rocksdict", "block_cache_size": 64 << 20},
)


@app.agent(events)
async def interests(stream: faust.StreamT[Any]) -> None:
    async for record in stream.events():
        message = record.message
        event = job.event(message.key, record.value, int(message.timestamp * 1000))
        stored = windows.get(message.key)
        window = job.fold(None if stored is None else codec.decode(stored), event, message.offset)
        windows[message.key] = codec.encode(window)
        update = job.update(event.user_id, job.vector(window), window, message.partition)
        await updates.send(key=message.key, value=update)


if __name__ == "__main__":
    start(app)
