"""The embedded Kafka: it answers, keeps what it was given, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from stream_app import topics
from stream_app.errors import FixSettings
from stream_app.kafka_server import KafkaServer, KafkaServerError, open_kafka, running_pid
from stream_app.sender import open_sender
from stream_app.settings import Settings, load
from stream_app.topic_scan import open_consumer, to_the_end

pytestmark = pytest.mark.broker


def settings_for(bootstrap: str, **changed: object) -> Settings:
    return load({}, overrides={"bootstrap_servers": bootstrap, **changed})


async def send(bootstrap: str, topic: str, values: list[bytes]) -> None:
    async with open_sender(bootstrap) as sender:
        for value in values:
            await sender.send(topic, b"key", value)


async def values_of(bootstrap: str, topic: str) -> list[bytes]:
    async with open_consumer(bootstrap, topic) as consumer:
        return [record.value async for record in to_the_end(consumer)]


def test_a_killed_server_restarts_with_its_port_and_records(tmp_path: Path) -> None:
    server = KafkaServer(tmp_path / "kafka").start()
    try:
        bootstrap = server.bootstrap
        settings = settings_for(bootstrap, partitions=2)
        created = asyncio.run(topics.create(settings))
        assert len(created) == 6
        asyncio.run(send(bootstrap, settings.events_topic, [b"1", b"2"]))

        server.kill()
        assert running_pid(server.directory) is None
        server.start()

        assert server.bootstrap == bootstrap
        assert asyncio.run(topics.create(settings)) == []
        asyncio.run(send(bootstrap, settings.events_topic, [b"3"]))
        assert asyncio.run(values_of(bootstrap, settings.events_topic)) == [b"1", b"2", b"3"]

        server.stop()
        with KafkaServer(tmp_path / "kafka") as again:  # another object, the same directory
            assert again.bootstrap == bootstrap
            found = asyncio.run(values_of(bootstrap, settings.events_topic))
        assert found == [b"1", b"2", b"3"]
    finally:
        server.stop()


def test_counts_that_differ_are_refused_with_both_numbers(broker: str) -> None:
    own = {
        name: f"counts.{name}"
        for name in ("events_topic", "items_topic", "updates_topic", "item_vectors_topic")
    }
    four = settings_for(broker, app_id="counts", partitions=4, **own)
    asyncio.run(topics.create(four))
    three = settings_for(broker, app_id="counts", partitions=3, **own)
    for refuse in (topics.check, topics.create):
        with pytest.raises(FixSettings, match=r"counts\.events_topic has 4, expected 3"):
            asyncio.run(refuse(three))


def test_a_missing_topic_is_refused_by_name(broker: str) -> None:
    with pytest.raises(FixSettings, match=r"missing topics: .*nowhere\.events"):
        asyncio.run(topics.check(settings_for(broker, events_topic="nowhere.events")))


def test_it_dies_with_a_parent_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time\n"
        "from stream_app.kafka_server import KafkaServer\n"
        f"print(KafkaServer({str(tmp_path / 'kafka')!r}).start().pid, flush=True)\n"
        "time.sleep(600)"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        pid = int(owner.stdout.readline())
        assert psutil.pid_exists(pid)
        owner.send_signal(signal.SIGKILL)
    deadline = time.monotonic() + 10
    while psutil.pid_exists(pid) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not psutil.pid_exists(pid)


def test_detached_it_outlives_the_command_until_it_is_stopped(tmp_path: Path) -> None:
    def kafka(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "stream_app", "kafka", *arguments]
        command += ["--directory", str(tmp_path / "kafka")]
        return subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path)

    started = kafka("start", "--port", "0")
    try:
        assert started.returncode == 0, started.stderr
        pid = running_pid(tmp_path / "kafka")
        assert pid is not None
        assert f"(process {pid}, log " in started.stdout
        twice = kafka("start", "--port", "0")
        assert twice.returncode == 4
        assert "already runs" in twice.stderr
    finally:
        stopped = kafka("stop")
    assert stopped.stdout == "stopped\n"
    assert not psutil.pid_exists(pid)
    assert running_pid(tmp_path / "kafka") is None


def test_a_taken_port_is_said(tmp_path: Path) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(KafkaServerError, match=f"port {port} of 127.0.0.1 is taken"):
            KafkaServer(tmp_path / "kafka", port).start()


def test_a_failed_start_shows_the_end_of_the_log(tmp_path: Path) -> None:
    directory = tmp_path / "kafka"
    KafkaServer(directory).start().stop()
    meta = directory / "data" / "meta.properties"
    meta.write_text(meta.read_text().replace("node.id=1", "node.id=7"))
    with pytest.raises(KafkaServerError, match=r"(?s)ended with exit code 1.*Stored node id 7"):
        KafkaServer(directory).start()
    assert running_pid(directory) is None


def test_a_kafka_of_ones_own_is_used_instead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(os.environ, "KAFKA_BOOTSTRAP", "elsewhere:9092")
    with open_kafka(tmp_path / "kafka") as bootstrap:
        assert bootstrap == "elsewhere:9092"
    assert not (tmp_path / "kafka").exists()
