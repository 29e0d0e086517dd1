"""Training on what is streamed: the topics give the model that the files give."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conformance.models import tiny_bert
from tests.conftest import StreamMaker
from tests.harness.clusters import world, write_files
from tests.harness.deadline import LONG_PATIENCE_S
from tests.harness.stream import Stream
from tests.harness.worker import environment

pytestmark = pytest.mark.broker

QUICK = ["--dimensions", "16", "--layers", "1", "--epochs", "1", "--json", "--out"]


def command(stream: Stream, text_model: Path, *arguments: str) -> dict[str, object]:
    own = {"INTEREST_ENCODER": "transformer", "INTEREST_TEXT_MODEL": str(text_model)}
    outcome = subprocess.run(
        [sys.executable, "-m", "stream_app", *arguments],
        capture_output=True, text=True, check=False, timeout=2 * LONG_PATIENCE_S, cwd=stream.folder,
        env={**os.environ, **environment(stream.raw_settings), **own},
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    found: dict[str, object] = json.loads(outcome.stdout)
    return found


def test_topics_and_files_give_the_same_model(make_stream: StreamMaker) -> None:
    stream = make_stream()
    text_model = tiny_bert(stream.folder / "bert")
    events, catalogue = world(users=20, searches=True)
    # By id, as the topics are read: which partition comes first is chance.
    events.sort(key=lambda event: (event.user_id, event.event_id))
    write_files(stream.folder, events, dict(sorted(catalogue.items())))
    command(stream, text_model, "items", "publish", "items.jsonl", "--json")
    command(stream, text_model, "events", "play", "events.jsonl", "--json")
    files = ("--events", "events.jsonl", "--items", "items.jsonl")
    from_topics = command(stream, text_model, "train", "--from-kafka", *QUICK, "topics")
    from_files = command(stream, text_model, "train", *files, *QUICK, "files")
    assert from_topics["data"] == from_files["data"]
    model = "interest.safetensors"
    assert (stream.folder / "topics" / model).read_bytes() == (
        stream.folder / "files" / model
    ).read_bytes()
