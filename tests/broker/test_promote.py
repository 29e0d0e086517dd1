"""Two models on one past: compared, rolled over, promoted while events flow, verified."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import encoders
from tests.broker.test_command_line import command
from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.bundles import old_and_new
from tests.harness.client import Message
from tests.harness.load import Load
from tests.harness.replay import Replay
from tests.harness.stream import STOP_S, Stream
from tests.harness.worker import Worker

pytestmark = pytest.mark.broker

LOAD = Load(events=3_000, users=150, items=60, seed=41)
FLOWING = Load(events=400, users=20, items=60, seed=42, forget=0.05)
"""Of few users, so that most are silent while the models change."""
NEW: dict[str, object] = {"vectors": "float16"}
"""What makes another model of the stub, of as many dimensions."""


def test_a_shadow_of_a_new_bundle_is_compared_before_it_is_promoted(
    tmp_path: Path, make_stream: StreamMaker
) -> None:
    (old, old_bundle), (new, new_bundle) = old_and_new(tmp_path).items()
    stream = make_stream(encoder="transformer", model=str(old_bundle), publish_granularities=True)
    stream.publish(LOAD.catalogue())
    stream.start_workers(1)
    stream.send(LOAD.messages())
    stream.drain()
    replay = Replay(stream, "next", "--model", str(new_bundle))
    replay.start()
    replay.finished()
    compared(stream, old, new)
    too_early = command(stream, "replay", "promote", "next")
    assert too_early.returncode == 2
    assert f"is of model {old}, not of {new}: restart the workers" in too_early.stderr


def test_a_shadow_is_promoted_while_events_flow(make_stream: StreamMaker) -> None:
    """Copied are bytes, whatever made them: the stub, without torch to import ten times."""
    stream = make_stream()
    old = model_id(stream)
    stream.publish(LOAD.catalogue())
    workers = stream.start_workers(2)
    stream.send(LOAD.messages())
    stream.drain()
    replay = Replay(stream, "next")
    replay.settings |= NEW
    replay.start()
    replay.finished()

    flowing = FLOWING.messages()
    before, meanwhile = flowing[: len(flowing) // 2], flowing[len(flowing) // 2 :]
    roll_over(stream, workers, before)
    stream.change(NEW)
    new = model_id(stream)
    silent = set(stream.as_read(None).updates) - set(stream.as_read(new).updates)
    assert len(silent) > 50, "most were silent, and have no vector of the new model yet"
    would = promoted(stream, "--dry-run")
    assert would["dry_run"]
    assert would["shadow_behind_events"] > 0
    assert not would["not_rolled_over"]
    assert would["users"] - would["users_of_model"] == len(silent)

    feeder = stream.feed(meanwhile, over_s=8)
    done = promoted(stream)
    assert done["complete"]
    assert 0 < done["copied"] <= len(silent)
    feeder.finish()
    stream.drain()
    stream.wait_healed()
    again = promoted(stream)
    assert (again["copied"], again["complete"]) == (0, True)
    assert again["users"] == len(stream.reference().users)

    # Every reader has everybody: those who wait for the new model, and those who stay.
    assert set(stream.as_read(new).updates) == set(stream.reference().users)
    forgetful = {(message.key or b"").decode() for message in meanwhile}
    assert silent - forgetful <= set(stream.as_read(old).updates)
    assert len(silent - forgetful) > 50
    reference = stream.verify()
    assert checks.users_of_model(stream.updates(), new) == set(reference.users)
    verified = json.loads(command(stream, "replay", "--verify", "--json").stdout)
    assert verified["differences"] == []
    assert verified["vectors"] >= done["copied"]
    assert verified["of_other_models"][old] > 0


def compared(stream: Stream, old: str, new: str) -> None:
    """The report has users, granularities and items, as page, plots and figures."""
    done = command(stream, "replay", "compare", "next", "--out", "drift", "--json")
    assert done.returncode == 0, done.stderr
    folder = stream.folder / "drift"
    figures = json.loads((folder / "report.json").read_text())
    assert (figures["live"]["model_id"], figures["shadow"]["model_id"]) == (old, new)
    users = figures["parts"]["users"]
    zero = users["zero"]
    assert users["compared"] + max(zero.values()) == figures["live"]["users"] > 100
    assert {"word", "sentence", "paragraph", "document", "items"} < figures["parts"].keys()
    # One layer of two random ones is missing: akin, and not the same.
    assert users["neighbours_kept_by_chance"] < users["neighbours_kept"]["mean"] < 1
    assert 0 < users["rank_correlation"] < 1
    assert "cosine" in users, "the one bundle was made of what the other was made of"
    assert users["norms"]["live"]["mean"] == pytest.approx(1.0, abs=1e-3)
    assert len(figures["users"]) == users["compared"]
    page = (folder / "report.html").read_text()
    assert page.count("data:image/png;base64,") == 3
    assert {each.name for each in folder.glob("*.png")} == {
        "neighbours.png", "aligned.png", "norms.png"
    }  # fmt: skip


def promoted(stream: Stream, *arguments: str) -> dict[str, Any]:
    done = command(stream, "replay", "promote", "next", "--json", *arguments)
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def model_id(stream: Stream) -> str:
    """Return what the workers of these settings say of their vectors."""
    return encoders.build(stream.settings.encoder_config()).info.model_id


def roll_over(stream: Stream, workers: list[Worker], events: list[Message]) -> None:
    """Restart the workers with the new model, one after the other, while events come."""
    feeder = stream.feed(events, over_s=6)
    for worker in workers:
        worker.ask_to_stop()
        assert worker.wait(STOP_S) == 0, worker.log_tail()
        worker.settings |= NEW
        worker.start()
        stream.wait_shared(workers)
    feeder.finish()
    stream.drain()
    for worker in workers:
        worker.wait_counts("item_vectors_published", 1)
