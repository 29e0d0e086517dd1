"""A worker that cannot do its job says so in one line and ends; it never starts half-right."""

from __future__ import annotations

import json
import shutil

import pytest

from stream_app.local_ports import free_port
from tests.conftest import StreamMaker
from tests.harness.load import BASE_MS, event_message
from tests.harness.stream import Stream
from tests.harness.worker import Worker

pytestmark = pytest.mark.broker


def refusal(worker: Worker) -> str:
    """Return what a worker that refuses to start says; fail if it starts or says too much."""
    code = worker.wait()
    said = worker.log_tail()
    assert code not in (0, None), said
    assert "Traceback" not in said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    assert said.splitlines()[-1] == errors[0]
    return errors[0]


def refusal_of(stream: Stream, **settings: object) -> str:
    """Return the refusal of a worker with these settings changed."""
    return refusal(stream.worker(**settings))


SETTINGS = {
    "bad-number": ({"window_max_events": "many"}, ("window_max_events", "many")),
    "out-of-bounds": ({"window_max_events": 0}, ("window_max_events", "0", "1")),
    "no-such-choice": ({"encoder": "magic"}, ("encoder", "magic", "stub")),
    "unknown": ({"windw_max_events": 5}, ("unknown", "windw_max_events")),
    "contradiction": (
        {"heartbeat_interval_s": 5},
        ("heartbeat_interval_s", "session_timeout_s"),
    ),
}


@pytest.mark.parametrize(("changed", "words"), SETTINGS.values(), ids=SETTINGS)
def test_a_bad_setting_is_named_with_what_was_found(
    changed: dict[str, object], words: tuple[str, ...], bare_stream: StreamMaker
) -> None:
    worker = bare_stream().worker(**changed)
    said = refusal(worker)
    assert all(word in said for word in words), said
    assert len(worker.log_tail().splitlines()) == 1


def test_an_unreachable_broker_is_waited_for_visibly_and_not_for_ever(
    bare_stream: StreamMaker,
) -> None:
    """Retries are in the log; after broker_wait_s comes the one line."""
    address = f"127.0.0.1:{free_port()}"
    worker = bare_stream().worker(bootstrap_servers=address, broker_wait_s=3)
    said = refusal(worker)
    assert address in said
    retries = [line for line in worker.log_tail().splitlines() if "trying again" in line]
    assert retries
    assert all(address in line for line in retries)


def test_missing_topics_are_named(bare_stream: StreamMaker) -> None:
    stream = bare_stream()
    assert stream.settings.events_topic in refusal_of(stream)


def test_partition_counts_that_differ_are_both_said(bare_stream: StreamMaker) -> None:
    stream = bare_stream()
    settings = stream.settings
    for topic in (
        settings.events_topic,
        settings.items_topic,
        settings.changelog_topic,
        settings.item_vectors_topic,
        settings.dead_letters_topic,
    ):
        stream.client.create_topic(topic, 4)
    stream.client.create_topic(settings.updates_topic, 3)
    said = refusal_of(stream)
    assert settings.updates_topic in said
    assert "3" in said.replace(settings.updates_topic, "")
    assert "4" in said.replace(settings.updates_topic, "")


def test_a_datadir_in_use_is_refused_and_its_worker_goes_on(stream: Stream) -> None:
    (first,) = stream.start_workers(1)
    second = Worker("second", first.datadir, stream.raw_settings)
    second.log = stream.folder / "second.log"
    status = first.datadir / "status.json"
    stream.workers.append(second)
    said = refusal(second.start())
    assert str(first.pid) in said
    assert "datadir" in said
    assert first.running()
    assert json.loads(status.read_text())["pid"] == first.pid


def test_a_model_folder_that_cannot_be_used_is_named(stream: Stream) -> None:
    """Missing, empty, or pickled: pickles run code, so only safetensors are taken."""
    missing, empty, pickled = (stream.folder / name for name in ("missing", "empty", "pickled"))
    empty.mkdir()
    pickled.mkdir()
    (pickled / "config.json").write_text(json.dumps({"model_type": "bert"}))
    (pickled / "pytorch_model.bin").write_bytes(b"\x80\x04")
    folders = (missing, empty, pickled)
    workers = [stream.worker(encoder="transformer", text_model=folder) for folder in folders]
    said = [refusal(worker) for worker in workers]
    assert all(str(folder) in line for folder, line in zip(folders, said, strict=True)), said
    assert "safetensors" in said[2]


def test_another_dimension_than_the_state_was_made_with_is_refused(stream: Stream) -> None:
    """Both numbers are said; with another datadir there is nothing to contradict."""
    event = {"event_id": "e", "user_id": "u", "type": "view", "item_id": "i", "time_ms": BASE_MS}
    stream.send([event_message(event)])
    (worker,) = stream.start_workers(1)
    stream.drain()
    stream.stop_workers()
    worker.settings["stub_dimensions"] = 16
    worker.log.unlink()
    said = refusal(worker.start())
    assert "16" in said
    assert "8" in said
    shutil.rmtree(worker.datadir)
    worker.settings["stub_dimensions"] = 8
    worker.start().wait_running()
    stream.verify()
