"""Another model by a rolling restart: no event waits for it, and no reader mixes the two."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.conftest import StreamMaker
from tests.harness import checks
from tests.harness.bundles import old_and_new
from tests.harness.client import Message, Record
from tests.harness.deadline import eventually
from tests.harness.load import Load
from tests.harness.reference import Reference
from tests.harness.stream import STOP_S, Stream
from tests.harness.worker import Worker

pytestmark = pytest.mark.faults

LOAD = Load(events=6_000, users=200, items=60)


@pytest.fixture(scope="module")
def bundles(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two bundles by model_id: a tiny random model, and the same with one layer less."""
    return old_and_new(tmp_path_factory.mktemp("bundles"))


def test_a_new_model_is_rolled_out_without_a_gap(
    bundles: dict[str, Path], make_stream: StreamMaker
) -> None:
    """Two workers under load take up another bundle, one after the other."""
    (old, old_bundle), (new, new_bundle) = bundles.items()
    stream = make_stream(encoder="transformer", model=str(old_bundle))
    stream.publish(LOAD.catalogue())
    first, second = stream.start_workers(2)
    stream.watch_commits()
    begin, during_one, between, during_two, after = parts(LOAD.messages(), 5)
    stream.send(begin)
    stream.wait_published()
    restart_with(stream, first, second, new_bundle, during_one)
    stream.send(between)
    eventually(
        lambda: set(published_by_model(stream.updates())) == {old, new},
        what="both models publishing, each under its own id",
    )
    restart_with(stream, second, first, new_bundle, during_two)
    rolled_out = stream.client.ends(stream.settings.events_topic)
    stream.send(after)
    reference = stream.reference()
    stream.drain()
    assert {worker.status()["model_id"] for worker in (first, second)} == {new}
    stream.bundles[new] = new_bundle
    stream.verify()
    touched, updates = touched_after(reference, rolled_out), stream.updates()
    assert touched
    assert touched <= checks.users_of_model(updates, new)
    reader = stream.as_read(model_id=new)
    assert set(reader.models) == {new}
    assert touched <= set(reader.updates)
    assert reader.dropped_of_other_models == published_by_model(updates)[old]
    mixed = stream.as_read(model_id=None)
    assert set(mixed.updates) == set(reference.users), "nobody lost"
    assert sum(mixed.models.values()) == len(reference.users)


def test_a_worker_that_cannot_take_up_the_bundle_leaves_the_others_alone(
    bundles: dict[str, Path], make_stream: StreamMaker, tmp_path: Path
) -> None:
    """A damaged copy is refused at the start, in one line with exit code 2."""
    (old_bundle, _) = bundles.values()
    damaged = Path(shutil.copytree(old_bundle, tmp_path / "damaged"))
    (damaged / "interest.safetensors").write_bytes(b"")
    stream = make_stream(encoder="transformer", model=str(old_bundle))
    (first,) = stream.start_workers(1)
    second = stream.worker(model=damaged)
    assert second.wait() == 2, second.log_tail()
    second.ended_by_test = True
    (line,) = [line for line in second.log.read_text().splitlines() if line.startswith("error: ")]
    assert "interest.safetensors is not what was exported" in line
    stream.publish(LOAD.catalogue())
    stream.send(LOAD.messages()[:200])
    stream.drain()
    assert first.alive


def parts(messages: list[Message], count: int) -> list[list[Message]]:
    """Return the messages in so many equal parts, in order."""
    size = -(-len(messages) // count)
    return [messages[start : start + size] for start in range(0, len(messages), size)]


def restart_with(
    stream: Stream, worker: Worker, other: Worker, bundle: Path, events: list[Message]
) -> None:
    """Restart ``worker`` on ``bundle`` while ``events`` come and the ``other`` does them all."""
    worker.ask_to_stop()
    assert worker.wait(STOP_S) == 0, worker.log_tail()
    worker.settings["model"] = bundle
    before = other.count("updates_published")
    feeder = stream.feed(events, over_s=5)
    worker.start()
    # No gap: whoever is left has all partitions, and publishes before this one is back.
    eventually(
        lambda: other.count("updates_published") > before and not worker.partitions(),
        what=lambda: f"{other.name} at work alone: {other.status()}",
    )
    stream.wait_shared([worker, other])
    feeder.finish()


def published_by_model(updates: Sequence[Record]) -> Counter[str]:
    """Return model id -> updates; header and value must say the same."""
    found: Counter[str] = Counter()
    for record in updates:
        if record.value is not None:
            model_id = json.loads(record.value)["model_id"]
            assert record.headers["model_id"].decode() == model_id
            found[model_id] += 1
    return found


def touched_after(reference: Reference, ends: Mapping[int, int]) -> set[str]:
    """Return the users that are there and have an event at or behind ``ends``."""
    return {
        user
        for user in reference.users
        if reference.offsets[user][-1] >= ends[reference.partition[user]]
    }
