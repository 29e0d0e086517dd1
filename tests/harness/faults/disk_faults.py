"""Harm done to a worker's disk: wiped, damaged while it is down or up, full."""

from __future__ import annotations

import random
import shutil
from collections.abc import Callable
from pathlib import Path
from string import ascii_lowercase

from stream_app.errors import RestartWorker
from stream_app.kafka_server import KafkaServer
from tests.harness.client import Message
from tests.harness.fault import FaultSpec
from tests.harness.load import BASE_MS, event_message
from tests.harness.scene import Scene
from tests.harness.small_disk import SmallDisk, why_not
from tests.harness.stream import STOP_S, Stream
from tests.harness.worker import Worker

COLD: dict[str, object] = {"hot_windows_max": 20}
"""Far fewer windows in memory than users: most events need one from the disk."""
SMALL_DISK_MIB = 16
"""Too little for what RocksDB sets aside for a write-ahead log, 17.6 MB for a buffer of 16: a full
disk would not be noticed before that is used up."""
_DISK = "small disk"
_FAT_USERS = 1_200
_MAX_TEXT = 4_000


def wiped(scene: Scene, random_: random.Random) -> None:
    """kill -9, and nothing left of the datadir: the changelog has it all."""
    worker = random_.choice(scene.workers)
    worker.kill()
    empty(worker.datadir)
    come_back(scene, worker)


def damaged_while_down(scene: Scene, random_: random.Random) -> None:
    """A clean stop or kill -9, then some files of some databases are not what they were."""
    worker = random_.choice(scene.workers)
    end(worker, random_)
    for path in some_of(databases(worker), random_):
        harm = random_.choice(HARMS)
        for file in some_of(files_of(path), random_):
            harm(file, random_)
    come_back(scene, worker)


def damaged_while_up(scene: Scene, random_: random.Random) -> None:
    """The files of windows change under a running worker, which says so, ends, and begins anew."""
    worker = random_.choice(scene.workers)
    mark = random_.randrange(10**6)
    scene.stream.send(of_fat_users(random_, mark, _MAX_TEXT))
    scene.stream.drain()
    worker.ask_to_stop()
    assert worker.wait(STOP_S) == 0, worker.log_tail()
    come_back(scene, worker)  # a database writes its windows to a table file when it is closed
    # A new owner looks at what was published of late, and has all these windows in memory until
    # the next events push them out.
    scene.stir(random_)
    scene.stream.drain()
    damaged = damage_tables(worker, random_)
    assert damaged or len(scene.workers) > 1
    worker.ended_by_test = True
    scene.stream.send(of_fat_users(random_, mark + 1, 10))
    if len(scene.workers) == 1:
        wait_ended(scene, worker, random_)
    elif worker.alive:
        # It may have come back to other partitions than it left: the damage is then in databases
        # that it does not read before it gets their partitions again.
        worker.kill()
    come_back(scene, worker)


def of_fat_users(random_: random.Random, mark: int, chars: int) -> list[Message]:
    """Return two events of each of many users, with so much text that no two are alike.

    With all that they can hold, 9.6 MB, their windows are more than the read caches of up to seven
    partitions, for which nothing less than 1 MiB can be set: what is not in the cache has to be
    read from the files.
    """
    return [
        event_message(
            {
                "event_id": f"fat-{mark}-{number}-{user}",
                "user_id": f"fat-{user}",
                "type": "search",
                "text": "".join(random_.choices(ascii_lowercase, k=chars)),
                "time_ms": BASE_MS + mark % 1_000 + number,
            }
        )
        for number in range(2)
        for user in range(_FAT_USERS)
    ]


def full(scene: Scene, random_: random.Random) -> None:
    """No byte is left on the disk: the worker ends, will not start, and goes on once there is."""
    disk: SmallDisk = scene.stream.tools[_DISK]
    worker = scene.stream.workers[0]
    assert worker in scene.workers
    disk.fill()
    wait_ended(scene, worker, random_)
    disk.release()
    come_back(scene, worker)


def small_disk_for_the_first_worker(stream: Stream, broker: KafkaServer | None) -> None:
    """Give the first worker of a stream a disk of its own.

    Raises:
        MountRefused: this process may not mount.
    """
    disk = SmallDisk(stream.folder / "worker-0", SMALL_DISK_MIB)
    stream.tools[_DISK] = disk
    stream.closing.callback(disk.close)


def empty(folder: Path) -> None:
    """Delete what lies in a folder, which may be the root of a disk of its own."""
    for entry in folder.iterdir():
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def come_back(scene: Scene, worker: Worker) -> None:
    """Start a worker that has ended, and wait until all share all partitions."""
    worker.start().wait_running()
    scene.stream.wait_shared(scene.workers)


def end(worker: Worker, random_: random.Random) -> None:
    """End a worker in one of two ways."""
    if random_.random() < 0.5:
        worker.kill()
        return
    worker.ask_to_stop()
    assert worker.wait(STOP_S) == 0, worker.log_tail()


def wait_ended(scene: Scene, worker: Worker, random_: random.Random) -> None:
    """Wait until a worker ends by itself, in one line and with the exit code of a restart."""
    worker.ended_by_test = True
    scene.stir_until(
        lambda: not worker.alive, random_, what=f"{worker.name} to end because of its disk"
    )
    assert worker.exit_code() == RestartWorker.exit_code, worker.log_tail()
    last = worker.log.read_text().splitlines()[-1]
    assert last.startswith("error: "), last
    assert "nothing is lost" in last, last


def databases(worker: Worker) -> list[Path]:
    """Return the folders of a worker's databases: windows, catalogue and text vectors."""
    found = [*worker.datadir.glob("**/windows-*.rocksdb"), worker.datadir / "catalogue"]
    return sorted(path for path in found if path.is_dir())


def files_of(database: Path) -> list[Path]:
    """Return the files that make up a database."""
    kinds = ("*.sst", "*.log", "MANIFEST-*", "CURRENT")
    return sorted(file for kind in kinds for file in database.glob(kind))


def some_of(paths: list[Path], random_: random.Random) -> list[Path]:
    """Return one path at the least, if there is one."""
    return random_.sample(paths, random_.randint(1, len(paths))) if paths else []


def truncate(file: Path, random_: random.Random) -> None:
    """Cut a file off somewhere."""
    with file.open("r+b") as opened:
        opened.truncate(random_.randrange(max(1, file.stat().st_size)))


def garble(file: Path, random_: random.Random) -> None:
    """Overwrite a file from some place near its beginning on, to its very end."""
    size = file.stat().st_size
    begin = random_.randrange(max(1, size // 4))
    with file.open("r+b") as opened:
        opened.seek(begin)
        opened.write(random_.randbytes(size - begin))


def vanish(file: Path, random_: random.Random) -> None:
    """Delete a file."""
    file.unlink()


HARMS: tuple[Callable[[Path, random.Random], None], ...] = (truncate, garble, vanish)


def damage_tables(worker: Worker, random_: random.Random) -> int:
    """Garble the table files of the windows under a worker; return how many there were."""
    assert worker.alive
    tables = [file for path in databases(worker) for file in path.glob("*.sst")]
    tables = [file for file in tables if file.parent.name.startswith("windows-")]
    for file in tables:
        garble(file, random_)
    return len(tables)


FAULTS = {
    "wiped": FaultSpec(wiped),
    "damaged-while-down": FaultSpec(damaged_while_down, over_s=10),
    "damaged-while-up": FaultSpec(damaged_while_up, settings=COLD, over_s=25),
}
if not why_not():
    FAULTS["full"] = FaultSpec(
        full,
        prepare=small_disk_for_the_first_worker,
        over_s=25,
        combines=False,  # another fault might end this very worker for good
    )
