"""Harm to a worker's disk: damage is found, said and repaired from the topics; a full one waits."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from tests.conftest import StreamMaker
from tests.harness.faults import disk_faults
from tests.harness.load import Load
from tests.harness.scene import Scene
from tests.harness.small_disk import why_not
from tests.harness.stream import Stream
from tests.harness.worker import Worker

pytestmark = pytest.mark.faults

LOAD = Load(events=12_000, users=200)
REBUILT = "was damaged and is rebuilt from the changelog"
READ_ANEW = "was damaged and is read anew from"


def begin(stream: Stream, over_s: float) -> tuple[Scene, Worker]:
    """Return a scene with one worker in the middle of the load."""
    stream.publish(LOAD.catalogue())
    workers = stream.start_workers(1)
    stream.watch_commits()
    feeder = stream.feed(LOAD.messages(), over_s)
    feeder.wait_for(0.2)
    stream.wait_published()
    return Scene(stream, workers, feeder), workers[0]


def test_a_database_found_damaged_at_the_start_is_made_anew(stream: Stream) -> None:
    """One database of windows and the catalogue's; the others are untouched and stay."""
    scene, worker = begin(stream, over_s=4)
    worker.kill()
    windows, catalogue = worker.datadir / "faust", worker.datadir / "catalogue"
    (first, *_others) = sorted(windows.glob("**/windows-*.rocksdb"))
    for path in (first, catalogue):
        (path / "CURRENT").write_bytes(b"junk")
    disk_faults.come_back(scene, worker)
    assert _lines(worker, REBUILT) == _lines(worker, READ_ANEW) == 1
    scene.feeder.finish()
    stream.verify()


def test_a_database_found_damaged_at_work_ends_the_worker_and_is_made_anew(
    make_stream: StreamMaker,
) -> None:
    stream = make_stream(**disk_faults.COLD)
    scene, worker = begin(stream, over_s=4)
    disk_faults.damaged_while_up(scene, random.Random(1))
    said = worker.log.read_text()
    assert "is damaged: Corruption" in said
    assert "Traceback" not in said
    assert REBUILT in said
    scene.feeder.finish()
    stream.verify()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_a_full_disk_ends_the_worker_which_goes_on_when_there_is_room(stream: Stream) -> None:
    disk_faults.small_disk_for_the_first_worker(stream, None)
    scene, worker = begin(stream, over_s=12)
    disk = stream.tools["small disk"]
    disk.fill()
    disk_faults.wait_ended(scene, worker, random.Random(1))
    assert not disk.free_bytes()
    worker.start()  # and it is still full
    disk_faults.wait_ended(scene, worker, random.Random(1))
    assert "Traceback" not in worker.log.read_text()
    disk.release()
    disk_faults.come_back(scene, worker)
    scene.feeder.finish()
    stream.verify()


def _lines(worker: Worker, words: str) -> int:
    return Path(worker.log).read_text().count(words)
