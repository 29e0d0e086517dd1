"""(a) Stock Faust with an agent that does nothing: what its delivery alone costs."""

from __future__ import annotations

from typing import Any

import faust

from benchmarks.contestants.stock_app import build_app, start
from benchmarks.job import Run

run = Run.from_argv()
app = build_app(run)
events = app.topic(run.events_topic, key_type=bytes, value_type=bytes, value_serializer="raw")


@app.agent(events)
async def nothing(stream: faust.StreamT[Any]) -> None:
    async for _ in stream:
        pass


if __name__ == "__main__":
    start(app)
