"""``interest-stream forget``: the event written, and the look whether anything still knows."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from encoders import text_cache
from encoders.text_rows import content_key
from stream_app import forgetting
from tests.broker.test_command_line import command
from tests.conformance.models import tiny_bert
from tests.conftest import StreamMaker
from tests.harness.load import event_message
from tests.harness.stream import Stream

pytestmark = pytest.mark.broker

PLACES = {"changelog", "updates", "windows", "text cache"}


def known(stream: Stream, datadir: Path, user: str, texts: list[str]) -> dict[str, bool | None]:
    """Return which places know the user."""
    settings = stream.settings.model_copy(update={"datadir": datadir})
    return named(stream, asyncio.run(forgetting.look(settings, user, texts, None)))


def named(stream: Stream, found: list[forgetting.Finding]) -> dict[str, bool | None]:
    names = {stream.settings.changelog_topic: "changelog", stream.settings.updates_topic: "updates"}
    return {names.get(each.place, each.place): each.known for each in found}


def test_everywhere_before_and_nowhere_after(make_stream: StreamMaker, tmp_path: Path) -> None:
    text_model = tiny_bert(tmp_path / "bert")
    stream = make_stream(encoder="transformer", text_model=str(text_model), partitions=1)

    def search(user: str, text: str) -> None:
        event = {"event_id": f"{user}-{text}", "user_id": user, "type": "search", "text": text}
        stream.send([event_message(event)])

    search("gone", "a red tent")
    search("stays", "a blue lamp")
    (worker,) = stream.start_workers(1)
    stream.drain()
    everywhere = dict.fromkeys(PLACES, True) | {"API": None}
    assert known(stream, worker.datadir, "gone", ["a red tent"]) == everywhere
    elsewhere = known(stream, tmp_path / "elsewhere", "gone", ["a red tent"])
    assert elsewhere == everywhere | {"windows": None, "text cache": False}

    outcome = command(
        stream, "forget", "gone", "--check", "--json", INTEREST_DATADIR=str(worker.datadir)
    )
    assert outcome.returncode == 0, outcome.stderr
    said = json.loads(outcome.stdout)
    assert said["written"] == {"partition": 0, "offset": 2}
    found = [forgetting.Finding(**each) for each in said["findings"]]
    assert named(stream, found) == dict.fromkeys({*PLACES, "workers"}, False) | {"API": None}
    assert _texts_held(worker.datadir, ["a red tent", "a blue lamp"]) == ["a blue lamp"]
    assert known(stream, worker.datadir, "stays", ["a blue lamp"]) == everywhere

    outcome = command(
        stream, "forget", "gone", "--only-check", INTEREST_DATADIR=str(worker.datadir)
    )
    assert outcome.returncode == 0, outcome.stderr
    last = outcome.stdout.splitlines()[-1]
    assert last == "gone is not known wherever was looked; not seen: text cache, API"

    search("gone", "back again")
    stream.drain()
    assert known(stream, worker.datadir, "gone", ["back again"]) == everywhere


def test_without_a_worker_the_check_says_what_it_waits_for(make_stream: StreamMaker) -> None:
    stream = make_stream(partitions=1)
    outcome = command(stream, "forget", "ann", "--check", "--within", "0.1")
    assert outcome.returncode == 1
    assert "is a worker running?" in outcome.stdout
    assert len(stream.events()) == 1


def _texts_held(datadir: Path, texts: list[str]) -> list[str]:
    folder = datadir / "text-cache"
    (name,) = text_cache.namespaces(folder)
    keys = {content_key(name, text): text for text in texts}
    return [keys[key] for key in text_cache.held(folder, list(keys))]
