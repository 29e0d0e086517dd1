"""A real worker says how it is: while it starts, its encoder hangs, its broker is away."""

from __future__ import annotations

import json
import os
import re
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from prometheus_client.parser import text_string_to_metric_families

from stream_app.local_ports import HOST, free_port
from stream_app.serving.metrics import PREFIX
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient
from tests.harness.collector import Collector, collector
from tests.harness.deadline import eventually
from tests.harness.faults.disk_faults import empty
from tests.harness.faults.encoder_faults import MODULE
from tests.harness.faulty_encoder import HANGS, Harm
from tests.harness.kafkas import ProxiedKafka
from tests.harness.load import Load
from tests.harness.proxy import FAIR, Weather
from tests.harness.stream import Stream

pytestmark = pytest.mark.faults

LOAD = Load(events=2_000, users=50, poison=0.05)
RESTORE_S = 4.0


class Answer(NamedTuple):
    """A status, 0 where nobody answers, and the body."""

    status: int
    body: str

    def reasons(self) -> str:
        reasons: list[str] = json.loads(self.body)["reasons"]
        return "; ".join(reasons)


class Asked:
    """A worker's HTTP address."""

    def __init__(self, port: int) -> None:
        self.port = port

    def get(self, path: str) -> Answer:
        try:
            with urllib.request.urlopen(f"http://{HOST}:{self.port}{path}", timeout=5) as answer:
                return Answer(answer.status, answer.read().decode())
        except urllib.error.HTTPError as error:
            with error:
                return Answer(error.code, error.read().decode())
        except OSError:
            return Answer(0, "")

    def until(self, path: str, status: int, said: str = "") -> list[Answer]:
        """Ask until the answer is so; return all answers on the way."""
        answers: list[Answer] = []

        def so() -> bool:
            answers.append(self.get(path))
            last = answers[-1]
            return last.status == status and said in last.body

        eventually(so, what=lambda: f"{path} {status} {said!r}: {answers[-1]}")
        return answers

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of a metric's samples that have these labels."""
        families = text_string_to_metric_families(self.get("/metrics").body)
        return sum(
            sample.value
            for family in families
            for sample in family.samples
            if sample.name == PREFIX + name and labels.items() <= sample.labels.items()
        )


@pytest.fixture
def kafka(tmp_path: Path) -> Iterator[ProxiedKafka]:
    with ProxiedKafka(tmp_path / "kafka") as server:
        yield server


@pytest.fixture
def traces() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture
def proxied(
    kafka: ProxiedKafka, traces: Collector, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stream]:
    """A stream whose worker, and nobody else, reaches the broker through a proxy."""
    client = KafkaClient(kafka.bootstrap)
    changed: dict[str, Any] = {
        "http_port": free_port(),
        "health_encoder_s": 1,
        "encode_timeout_s": 6,
        "delivery_timeout_s": 5,
        "log_format": "json",
        "log_level": "debug",
        "otlp_endpoint": traces.endpoint,
    }
    stream = Stream(client, tmp_path, SESSION_TIMEOUT_S, **changed).create_topics()
    stream.raw_settings["bootstrap_servers"] = kafka.proxy.bootstrap
    stream.worker_module = MODULE
    request.node.streams = [stream]
    yield stream
    kafka.proxy.change(FAIR)
    stream.close()
    client.close()


def test_health_and_readiness_are_right_whatever_happens(
    proxied: Stream, kafka: ProxiedKafka, traces: Collector
) -> None:
    stream = proxied
    asked = Asked(stream.settings.http_port)
    stream.publish(LOAD.catalogue())
    messages = LOAD.messages()
    worker = stream.worker()
    while_starting = [answer for answer in asked.until("/ready", 200) if answer.status]
    assert "is starting" in while_starting[0].reasons()
    assert asked.get("/health").status == 200
    assert json.loads(while_starting[-1].body)["partitions"] == list(
        range(stream.settings.partitions)
    )

    stream.send(messages[:1000])
    stream.drain()
    sent = 1000
    assert asked.metric("events_total") == sent
    assert asked.metric("lag_records") == 0
    assert asked.metric("commits_total") > 0
    assert asked.metric("rebalances_total") >= 1
    assert asked.metric("recovery_started_timestamp_seconds") > 0
    events = asked.metric("events_total") - asked.metric("events_total", outcome="dead_letter")
    # An event of a user who was then forgotten in the same round counts, too: all have an update
    # or a tombstone, acknowledged before the commit.
    assert asked.metric("event_to_update_seconds_count", stage="total") == events
    parts = [
        asked.metric("event_to_update_seconds_sum", stage=stage)
        for stage in ("broker_wait", "queue", "text", "interest", "publish")
    ]
    assert sum(parts) == pytest.approx(asked.metric("event_to_update_seconds_sum", stage="total"))
    letters = stream.client.read(stream.settings.dead_letters_topic)
    assert len(letters) > 10
    assert asked.metric("dead_letters_total") == len(letters)

    Harm(worker.datadir).do(HANGS)
    stream.send(messages[1000:1500])
    (*_, red) = asked.until("/health", 503)
    assert "encoder has not answered" in red.reasons()
    assert "encoder has not answered" in asked.get("/ready").reasons()
    assert asked.metric("encoder_up") == 0
    asked.until("/health", 200)  # the worker has killed it and started another
    assert asked.metric("encoder_restarts_total") == 1
    asked.until("/ready", 200)

    kafka.proxy.change(Weather(cut=True))
    (*_, red) = asked.until("/ready", 503, "no heartbeat confirmed")
    assert asked.get("/health").status == 200  # to start it anew would not bring the broker back
    assert asked.metric("ready") == 0
    kafka.proxy.change(FAIR)
    stream.send(messages[1500:])
    asked.until("/ready", 200)
    stream.verify()
    assert_log_is_json_and_names_nobody(worker.log.read_text())
    wholes = [trace for trace in traces.traces() if "publish" in trace]
    assert wholes
    assert all({"micro-batch", "queue", "text", "interest"} <= set(trace) for trace in wholes)


def test_a_worker_that_restores_or_was_frozen_is_not_ready_until_it_works_again(
    proxied: Stream, kafka: ProxiedKafka
) -> None:
    stream = proxied
    asked = Asked(stream.settings.http_port)
    stream.publish(LOAD.catalogue())
    messages = LOAD.messages()
    worker = stream.worker()
    asked.until("/ready", 200)
    stream.send(messages[:1000])
    stream.drain()

    worker.kill()
    empty(worker.datadir)
    # So slow that the changelog is on its way for seconds, a hundred times as long as it takes to
    # ask; where it ends is known before.
    records = stream.changelog()
    changelog_bytes = sum(len(record.value or b"") for record in records)
    kafka.proxy.change(Weather(bytes_per_s=changelog_bytes / RESTORE_S))
    worker.start()
    answers: list[Answer] = []

    def left() -> int:
        answers.append(asked.get("/ready"))
        said = json.loads(answers[-1].body or "{}")
        return int(said.get("recovery_remaining_records", 0))

    remaining = eventually(left, what=lambda: f"records left to restore: {answers[-1]}")
    kafka.proxy.change(FAIR)
    first = next(answer for answer in answers if answer.status)
    assert first.status == 503
    assert "is starting" in first.reasons()
    assert asked.get("/health").status == 200
    assert remaining <= len(records)
    assert answers[-1].status == 503
    assert f"being restored: {remaining} changelog records to read" in answers[-1].reasons()
    (*_, last) = asked.until("/ready", 200)
    said = json.loads(last.body)
    assert said["partitions"] == list(range(stream.settings.partitions))
    assert said["recovery_remaining_records"] == 0

    worker.freeze()
    assert asked.get("/health").status == 0  # nobody answers: a probe's time is over
    time.sleep(SESSION_TIMEOUT_S)
    os.kill(worker.pid, signal.SIGCONT)
    assert "nothing is written" in asked.get("/ready").reasons()  # the first thing that it says
    assert asked.get("/health").status == 200
    stream.send(messages[1000:])
    asked.until("/ready", 200)
    stream.verify()


def assert_log_is_json_and_names_nobody(log: str) -> None:
    """Whatever happened, at the level of debug."""
    no_json = "\n".join(line for line in log.splitlines() if not line.startswith("{"))
    assert not no_json
    lines = [json.loads(line) for line in log.splitlines()]
    starts = [line["start"] for line in lines if "start" in line]
    assert len(starts) == 1
    assert starts[0]["settings"]["log_level"] == "debug"
    assert {"debug", "info", "warning"} <= {line["level"] for line in lines}
    assert any("Dead letter, " in line["message"] for line in lines)
    named = [line for line in log.splitlines() if re.search(r"user-\d|item-\d", line)]
    assert not named
