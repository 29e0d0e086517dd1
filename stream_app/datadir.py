"""The worker's own folder: one worker at a time, one vector dimension for as long as it lives."""

from __future__ import annotations

import fcntl
import logging
import os
from pathlib import Path
from typing import IO

import msgspec

from encoders.interface import EncoderInfo
from stream_app.errors import FixSettings
from stream_app.failures import DISK_FULL

log = logging.getLogger("stream_app.datadir")


class Datadir:
    """An exclusive hold on a datadir, released when the process ends however it ends."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock: IO[str] | None = None

    def hold(self) -> None:
        """Take the folder.

        Raises:
            FixSettings: another worker has it, or it cannot be written.
            OSError: the disk is full.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock = (self.path / "worker.lock").open("a+")
        except OSError as error:
            if error.errno in DISK_FULL:
                raise
            raise FixSettings(f"datadir {self.path} cannot be used: {error}") from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            lock.seek(0)
            raise FixSettings(
                f"datadir {self.path} is in use by the worker with pid {lock.read().strip()}: "
                "give every worker a datadir of its own"
            ) from None
        lock.truncate(0)
        lock.write(str(os.getpid()))
        lock.flush()
        self._lock = lock

    @property
    def held(self) -> bool:
        """Whether the folder is ours."""
        return self._lock is not None

    def release(self) -> None:
        """Let go of the folder."""
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def check(self, info: EncoderInfo, app_id: str, updates_topic: str) -> None:
        """Remember whose windows and which vectors this folder is for, and refuse others.

        A topic with vectors of two lengths breaks every reader's dot products, and windows of
        another changelog are another stream's past.

        Raises:
            FixSettings: the application or the dimension has changed; the message names both.
        """
        path = self.path / "model.json"
        before = _read(path)
        if before is not None:
            if before.app_id != app_id:
                raise FixSettings(
                    f"datadir {self.path} belongs to app_id {before.app_id!r}, not {app_id!r}: "
                    "give every application a datadir of its own"
                )
            if before.updates_topic == updates_topic and before.dimensions != info.dimensions:
                raise FixSettings(
                    f"the model has {info.dimensions} dimensions, but {updates_topic} holds "
                    f"vectors of {before.dimensions} (model {before.model_id}): set another "
                    f"updates_topic, or delete that topic and {path}"
                )
        model = PublishedModel(info.model_id, info.dimensions, updates_topic, app_id)
        draft = path.with_suffix(".tmp")
        draft.write_bytes(msgspec.json.encode(model))
        draft.replace(path)


def _read(path: Path) -> PublishedModel | None:
    try:
        return msgspec.json.decode(path.read_bytes(), type=PublishedModel)
    except FileNotFoundError:
        return None
    except msgspec.MsgspecError as error:  # a power failure may leave an empty file
        log.warning("%s cannot be read and is written anew: %s", path, error)
        return None


class PublishedModel(msgspec.Struct, frozen=True):
    """What model.json holds."""

    model_id: str
    dimensions: int
    updates_topic: str
    app_id: str
