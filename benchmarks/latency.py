"""Event to update at a steady trickle: sent, worked on and read by three processes.

The generator notes when it hands an event to its producer, the reader when an update reaches it,
both on the machine's monotonic clock. An event is answered by the first update of its user whose
``applied_offset`` is not before it; that works for whoever answers several events at once, too.
"""

from __future__ import annotations

import asyncio
import bisect
import json
import signal
import subprocess
import sys
import time
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from benchmarks.broker import Broker
from benchmarks.contestants import Contestant
from benchmarks.job import Run
from benchmarks.processes import ContestantProcess
from benchmarks.workload import Record, event, skewed, user_id, user_partitions
from stream_app import child_process, updates

USERS = 1_000
"""Few enough for windows to fill up while it runs."""
_FIRST_EVENTS = 200
"""Sent before anything is timed, and answered: then the contestant has its partitions."""
_TICK_S = 0.002
"""The generator wakes this often and sends what is due: two events at 1,000/s."""


@dataclass(frozen=True)
class Latency:
    """Milliseconds from event to update, after the warm-up."""

    name: str
    p50_ms: float
    p99_ms: float
    events: int
    unanswered: int


@dataclass(frozen=True)
class Pace:
    """How fast, how long."""

    events_per_s: int = 1_000
    warm_up_s: float = 5.0
    measured_s: float = 20.0

    @property
    def seconds(self) -> float:
        """Of sending, all in all."""
        return self.warm_up_s + self.measured_s


async def measure(broker: Broker, contestant: Contestant, run: Run, pace: Pace) -> Latency:
    """Start the contestant, wait until it answers, then send and read at ``pace``."""
    with ContestantProcess(f"benchmarks.contestants.{contestant.name}", run) as process:
        await broker.fill(run.events_topic, _first(run.partitions))
        while await broker.end_offsets(run.updates_topic) == 0:
            process.must_run()
            await asyncio.sleep(0.2)
        await asyncio.sleep(2.0)  # start-up work of whatever kind has settled
        waited = await trickle(
            contestant.name, run.bootstrap, (run.events_topic, run.updates_topic), run.partitions,
            Path(run.directory), pace,
        )  # fmt: skip
        process.must_run()
    return waited


async def trickle(
    name: str,
    bootstrap: str,
    topics: tuple[str, str],
    partitions: int,
    directory: Path,
    pace: Pace,
) -> Latency:
    """Send to the events topic and read from the updates topic at ``pace``, whoever answers."""
    events, updates_topic = topics
    sent, seen = directory / "sent.json", directory / "seen.json"
    reader = _start("read", [bootstrap, updates_topic, str(seen)], directory)
    try:
        await asyncio.sleep(1.5)
        arguments = [bootstrap, events, str(partitions), str(sent)]
        pace_arguments = [str(pace.events_per_s), str(pace.seconds)]
        sender = _start("send", arguments + pace_arguments, directory)
        await asyncio.to_thread(sender.wait, pace.seconds + 60)
        await asyncio.sleep(2.0)
    finally:
        reader.send_signal(signal.SIGTERM)
        await asyncio.to_thread(reader.wait, 20)
    return joined(name, json.loads(sent.read_text()), seen, pace.warm_up_s)


def joined(name: str, sent: list[list[float]], seen: Path, warm_up_s: float) -> Latency:
    """Match events (user, offset, time) with the first update that covers each."""
    offsets: defaultdict[str, list[int]] = defaultdict(list)
    times: defaultdict[str, list[float]] = defaultdict(list)
    with seen.open() as lines:
        for line in lines:
            user, offset, at_s = json.loads(line)
            offsets[user].append(offset)
            times[user].append(at_s)
    begin_s = sent[0][2] + warm_up_s
    waits = []
    unanswered = 0
    for user_number, offset, at_s in sent:
        if at_s < begin_s:
            continue
        user = user_id(int(user_number))
        place = bisect.bisect_left(offsets[user], offset)
        if place == len(offsets[user]):
            unanswered += 1
        else:
            waits.append((times[user][place] - at_s) * 1000)
    if not waits:
        raise ValueError(f"{name} answered none of {unanswered} events")
    p50, p99 = np.percentile(waits, [50, 99])
    return Latency(name, float(p50), float(p99), len(waits), unanswered)


def _first(partitions: int) -> list[Record]:
    places = user_partitions(_FIRST_EVENTS, partitions)
    now_ms = int(time.time() * 1000)
    return [
        Record(places[user], user_id(user).encode(), event(-1 - user, user, user, 0, now_ms))
        for user in range(_FIRST_EVENTS)
    ]


def _start(role: str, arguments: list[str], directory: Path) -> subprocess.Popen[bytes]:
    with (directory / f"{role}.txt").open("wb") as log:
        command = [sys.executable, "-m", "benchmarks.latency", role, *arguments]
        return child_process.start_bound(command, output=log)


async def send(
    bootstrap: str, topic: str, partitions: int, rate: int, for_s: float
) -> list[list[float]]:
    """Send events at ``rate`` per second; return [user, offset, time] of each."""
    random = np.random.default_rng(5)
    count = int(rate * for_s)
    users = random.choice(USERS, count, p=skewed(USERS)).tolist()
    items = random.choice(4_000, count, p=skewed(4_000)).tolist()
    places = user_partitions(USERS, partitions)
    producer = AIOKafkaProducer(bootstrap_servers=bootstrap, linger_ms=0, acks=1)
    await producer.start()
    await producer.partitions_for(topic)
    times: list[float] = []
    futures = []
    begin_s = time.monotonic()
    while len(times) < count:
        due = min(int((time.monotonic() - begin_s) * rate), count)
        for number in range(len(times), due):
            user = users[number]
            value = event(number, user, items[number], 0, int(time.time() * 1000))
            times.append(time.monotonic())
            futures.append(
                await producer.send(
                    topic, value, key=user_id(user).encode(), partition=places[user]
                )
            )
        await asyncio.sleep(_TICK_S)
    acknowledged = await asyncio.gather(*futures)
    await producer.stop()
    return [
        [user, metadata.offset, at_s]
        for user, metadata, at_s in zip(users, acknowledged, times, strict=True)
    ]


async def read(bootstrap: str, topic: str, out: Path) -> None:
    """Note when each update comes, until SIGTERM; decode afterwards; write it line by line."""
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=bootstrap, auto_offset_reset="latest")
    await consumer.start()
    await consumer.seek_to_end()
    seen: list[tuple[float, bytes]] = []
    while not ending.is_set():
        fetched = await consumer.getmany(timeout_ms=200)
        now_s = time.monotonic()
        seen += [(now_s, record.value) for records in fetched.values() for record in records]
    await consumer.stop()
    with out.open("w") as lines:
        for at_s, value in seen:
            update = updates.decode(value)
            lines.write(json.dumps([update.user_id, update.applied_offset, at_s]) + "\n")


def main() -> None:
    role, bootstrap, topic, *rest = sys.argv[1:]
    if role == "send":
        partitions, out, rate, for_s = rest
        sent = asyncio.run(send(bootstrap, topic, int(partitions), int(rate), float(for_s)))
        Path(out).write_text(json.dumps(sent))
    else:
        asyncio.run(read(bootstrap, topic, Path(rest[0])))


if __name__ == "__main__":
    main()
