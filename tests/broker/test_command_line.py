"""The commands that talk to a broker, each as a person or a script runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import StreamMaker
from tests.harness.deadline import LONG_PATIENCE_S
from tests.harness.stream import Stream
from tests.harness.worker import environment

pytestmark = pytest.mark.broker

ITEMS = [{"item_id": f"film-{n}", "text": f"A film about {n} horses."} for n in range(6)]
EVENTS: list[dict[str, object]] = [
    *(
        {"event_id": f"e{n}", "user_id": "alice", "type": "view", "item_id": f"film-{n}"}
        for n in range(3)
    ),
    {"event_id": "e9", "user_id": "bob", "type": "search", "text": "horses"},
]


def command(
    stream: Stream, *arguments: str, stdin: str = "", **variables: str
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream_app", *arguments],
        input=stdin, capture_output=True, text=True, check=False, timeout=LONG_PATIENCE_S,
        env={**os.environ, **environment(stream.raw_settings), **variables}, cwd=stream.folder,
    )  # fmt: skip


def lines(rows: list[dict[str, object]]) -> str:
    return "".join(json.dumps(row) + "\n" for row in rows)


def test_from_files_to_a_users_vector(make_stream: StreamMaker) -> None:
    stream = make_stream()
    (stream.folder / "items.jsonl").write_text(lines(ITEMS))
    published = command(stream, "items", "publish", "items.jsonl", "--json")
    assert json.loads(published.stdout)["acknowledged"] == len(ITEMS)
    worker = stream.start_workers(1)[0]
    worker.wait_counts("item_vectors_published", len(ITEMS))
    played = command(stream, "events", "play", "-", "--rate", "1000", stdin=lines(EVENTS))
    assert f"{len(EVENTS)} records acknowledged on" in played.stdout
    worker.wait_counts("folded", len(EVENTS))
    stream.drain()

    seen = command(stream, "inspect", "user", "alice", "--nearest", "2", "--json")
    assert seen.returncode == 0, seen.stderr
    alice = json.loads(seen.stdout)
    assert [event["event_id"] for event in alice["window"]] == ["e2", "e1", "e0"]
    assert alice["counts"] == {"view": 3}
    assert alice["applied_offset"] == alice["window_applied_offset"]
    assert alice["vector_norm"] == pytest.approx(1.0, abs=1e-3)
    assert alice["dimensions"] == 8
    scores = [item["score"] for item in alice["nearest_items"]]
    assert len(scores) == 2
    assert scores == sorted(scores, reverse=True)
    assert "film-2" in command(stream, "inspect", "user", "alice").stdout

    tailed = command(stream, "tail", "updates", "--from-beginning", "--count", "2", "--json")
    updates = [json.loads(line) for line in tailed.stdout.splitlines()]
    assert len(updates) == 2
    assert {update["user_id"] for update in updates} <= {"alice", "bob"}

    unknown = command(stream, "inspect", "user", "nobody")
    assert unknown.returncode == 3
    assert unknown.stderr.startswith("error: user nobody is not known")


def test_topics_are_created_once_and_checked(bare_stream: StreamMaker, tmp_path: Path) -> None:
    stream = bare_stream()
    missing = command(stream, "topics", "check")
    assert missing.returncode == 2
    assert missing.stderr.startswith("error: missing topics: ")
    refused = command(stream, "events", "play", "-", stdin=lines(EVENTS))
    assert refused.returncode == 2
    assert f"no topic {stream.settings.events_topic}" in refused.stderr

    first = json.loads(command(stream, "topics", "create", "--json").stdout)
    assert len(first["created"]) == 6
    again = json.loads(command(stream, "topics", "create", "--json").stdout)
    assert again == {"created": [], "present": first["created"]}
    counts = json.loads(command(stream, "topics", "check", "--json").stdout)
    assert set(counts.values()) == {stream.settings.partitions}

    changelog, items = stream.settings.changelog_topic, stream.settings.items_topic
    stream.client.alter_topic(changelog, {"cleanup.policy": "compact"})
    stream.client.alter_topic(items, {"cleanup.policy": "delete"})
    leaky = command(stream, "topics", "check")
    assert leaky.returncode == 2
    assert f"{items} has cleanup.policy=delete, expected compact; " in leaky.stderr
    for name, wanted in (("min.compaction.lag.ms", 36_000), ("delete.retention.ms", 604_800_000)):
        assert f"{changelog} has {name}=" in leaky.stderr
        assert f", expected {wanted} or more" in leaky.stderr


def test_a_bad_line_stops_the_play_and_names_itself(make_stream: StreamMaker) -> None:
    stream = make_stream()
    refused = command(stream, "events", "play", "-", stdin=lines(EVENTS[:1]) + '{"type": "view"}\n')
    assert refused.returncode == 3
    assert refused.stderr.startswith("error: -, line 2: Object missing required field `user_id`")
