"""How long a partition stands still, against how many windows there are to restore.

``python -m benchmarks.recovery`` starts a Kafka of its own, fills windows through a real worker,
and measures from the act to the first update in a partition of its: started again on its disk,
started again with an empty disk, taken over by another worker that has nothing of it, and by one
that has kept a warm copy (``standby_replicas``). Writes JSON, and prints a table for people.
"""

from __future__ import annotations

import argparse
import json
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from stream_app.kafka_server import KafkaServer
from tests.chaos.record import Session
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient, Message
from tests.harness.load import BASE_MS, event_message, item_message, item_text
from tests.harness.stream import STOP_S, Stream
from tests.harness.worker import Worker

SIZES = (1_000, 10_000, 50_000, 200_000)
EVENTS_EACH = 5
_CHUNK = 20_000
_PROBE_EVERY_S = 0.05
_STANDSTILL_S = 120.0
_SETTLE_S = 4.0
"""A standby says nothing of how far it is; one whose files stay the same for so long has it all."""
CASES = {
    "restart": "kill -9 and started at once on its disk; all partitions",
    "restart_wiped": "the same with an empty disk",
    "takeover_cold": "SIGTERM; another worker takes over half of the partitions",
    "takeover_standby": "the same with a warm copy",
}


def measure(users: int, broker: str, folder: Path) -> dict[str, float]:
    """Return the seconds of each case."""
    client = KafkaClient(broker)
    stream = Stream(client, folder, SESSION_TIMEOUT_S, checkpoint_interval_ms=1000)
    try:
        stream.create_topics()
        stream.publish([item_message(f"item-{n}", item_text(n)) for n in range(64)])
        (first,) = stream.start_workers(1)
        for chunk in _filling(users):
            stream.send(chunk)
        stream.drain(within_s=600)
        return _restarts(stream, first) | _takeovers(stream, first)
    finally:
        stream.close()
        client.close()


def _restarts(stream: Stream, worker: Worker) -> dict[str, float]:
    found = {}
    for case in ("restart", "restart_wiped"):
        worker.kill()
        if case == "restart_wiped":
            shutil.rmtree(worker.datadir)
        began = time.monotonic()
        worker.start()
        found[case] = _until_published(stream, 0) - began
        stream.drain()
    return found


def _takeovers(stream: Stream, first: Worker) -> dict[str, float]:
    found = {}
    _stop(first)
    for case, replicas in (("takeover_cold", 0), ("takeover_standby", 1)):
        first.settings["standby_replicas"] = replicas
        first.start()
        second = stream.worker(standby_replicas=replicas)
        stream.wait_shared([first, second])
        stream.drain()
        _wait_settled(second)
        partition = min(first.partitions())
        _stop(first)
        began = time.monotonic()
        found[case] = _until_published(stream, partition) - began
        stream.drain()
        _stop(second)
    return found


def _wait_settled(worker: Worker) -> None:
    size = -1
    while size != (size := _bytes_of(worker)):
        time.sleep(_SETTLE_S)


def _bytes_of(worker: Worker) -> int:
    files = worker.datadir.glob("faust/**/*")
    return sum(file.stat().st_size for file in files if file.suffix in {".sst", ".log"})


def _until_published(stream: Stream, partition: int) -> float:
    """Send events to a partition until an update comes out there; return when it did."""
    topic = stream.settings.updates_topic
    end = stream.client.ends(topic)[partition]
    deadline = time.monotonic() + _STANDSTILL_S
    number = 0
    while stream.client.ends(topic)[partition] == end:
        assert time.monotonic() < deadline, f"no update in {_STANDSTILL_S} s"
        number += 1
        probe = _event("probe", f"{time.time_ns()}-{number}", BASE_MS)
        stream.send([Message(probe.key, probe.value, partition)])
        time.sleep(_PROBE_EVERY_S)
    return time.monotonic()


def _filling(users: int) -> Iterator[list[Message]]:
    chunk: list[Message] = []
    for number in range(users * EVENTS_EACH):
        chunk.append(_event(f"user-{number % users}", str(number), BASE_MS + number))
        if len(chunk) == _CHUNK:
            yield chunk
            chunk = []
    if chunk:
        yield chunk


def _event(user: str, event_id: str, time_ms: int) -> Message:
    item = f"item-{time_ms % 64}"
    return event_message(
        {"event_id": event_id, "user_id": user, "type": "view", "item_id": item, "time_ms": time_ms}
    )


def _stop(worker: Worker) -> None:
    worker.ask_to_stop()
    assert worker.wait(STOP_S + 5) == 0, worker.log_tail()


def table(rows: list[dict[str, float]]) -> list[str]:
    """Return the lines of a Markdown table."""
    lines = ["| users | " + " | ".join(name.replace("_", ", ") for name in CASES) + " |"]
    lines.append("|" + " --- |" * (1 + len(CASES)))
    for row in rows:
        cells = [f"{row[name]:.1f} s" for name in CASES]
        lines.append(f"| {row['users']:,.0f} | " + " | ".join(cells) + " |")
    return lines


def words(session: Session) -> list[str]:
    """Return what the table's columns mean."""
    return [
        f"Seconds from the act to the first update; windows of {EVENTS_EACH} events, stub encoder, "
        f"broker and workers on {session.machine}. A worker that is killed is missed only after "
        f"the session timeout, {SESSION_TIMEOUT_S} s here, which comes on top of a takeover.",
        "",
        *(f"- *{name.replace('_', ', ')}*: {told}." for name, told in CASES.items()),
    ]


def main() -> None:
    """Measure all sizes, print the table, write the JSON."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--users", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--out", type=Path, default=Path("docs/recovery.json"))
    arguments = parser.parse_args()
    rows = []
    with (
        tempfile.TemporaryDirectory() as folder,
        KafkaServer(Path(folder) / "kafka") as server,
    ):
        for users in arguments.users:
            place = Path(folder) / f"users-{users}"
            place.mkdir()
            row = {"users": users, **measure(users, server.bootstrap, place)}
            print(json.dumps(row), flush=True)
            rows.append(row)
            _write(arguments.out, rows)  # after each size: the next one takes the longest
    print("\n".join(table(rows)))


def _write(path: Path, rows: list[dict[str, float]]) -> None:
    session = Session.here()
    found = {"rows": rows, **vars(session), "words": words(session), "table": table(rows)}
    path.write_text(json.dumps(found, indent=1) + "\n")


if __name__ == "__main__":
    main()
