"""Kafka's own Java tools, as a user without a Kafka distribution runs them."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from stream_app.updates import UpdateEncoder
from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.deadline import LONG_PATIENCE_S
from tests.harness.load import Load
from tests.harness.stream import Stream
from tests.harness.worker import environment

pytestmark = pytest.mark.broker


def tool(stream: Stream, *arguments: str) -> str:
    outcome = subprocess.run(
        [sys.executable, "-m", "stream_app", "kafka", "tool", *arguments],
        env=environment(stream.raw_settings),
        capture_output=True,
        text=True,
        timeout=LONG_PATIENCE_S,
        check=False,
    )
    assert outcome.returncode == 0, outcome.stderr
    return outcome.stdout


def test_the_console_consumer_reads_updates_with_key_headers_and_value(
    make_stream: StreamMaker,
) -> None:
    """What it prints is what the worker wrote, tombstones too."""
    stream = make_stream()
    load = Load(events=200, users=12, leaving=2)
    stream.publish(load.catalogue())
    stream.worker()
    stream.send(load.messages())
    stream.drain()
    stream.stop_workers()
    written = stream.updates()
    lines = tool(
        stream, "console-consumer", "--topic", stream.settings.updates_topic, "--from-beginning",
        "--max-messages", str(len(written)),
        "--formatter-property", "print.headers=true", "--formatter-property", "print.key=true",
        "--formatter-property", "print.partition=true", "--formatter-property", "print.offset=true",
    ).splitlines()  # fmt: skip
    assert len(lines) == len(written)
    printed = sorted(map(parsed, lines))
    assert printed == [
        (record.partition, record.offset, record.headers, (record.key or b"").decode(),
         None if record.value is None else json.loads(record.value))
        for record in written
    ]  # fmt: skip
    last = checks.last_per_key(written)
    assert any(record.value is None for record in last.values())
    headers = printed[0][2]
    assert list(headers) == [name for name, _ in UpdateEncoder("json", "", "", [], []).headers(0)]


def parsed(line: str) -> tuple[int, int, dict[str, bytes], str, dict[str, object] | None]:
    """Return a line's partition, offset, headers, key and value."""
    partition, offset, headers, key, value = line.split("\t")
    return (
        int(partition.removeprefix("Partition:")),
        int(offset.removeprefix("Offset:")),
        {name: told.encode() for name, told in (each.split(":") for each in headers.split(","))},
        key,
        None if value == "null" else json.loads(value),
    )


def test_a_tool_that_is_not_there_is_said(stream: Stream) -> None:
    with pytest.raises(AssertionError, match="no tool 'reassign': there are configs, console"):
        tool(stream, "reassign")
