"""Text vectors on disk, capped in bytes. A cache: losing it costs time, not truth.

Legend: T dimensions of the text model.
"""

from __future__ import annotations

import logging
import shutil
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from string import hexdigits

import numpy as np
import rocksdict

from encoders.config import VectorFormat
from encoders.interface import Float32
from encoders.tokens import LEVELS

logger = logging.getLogger(__name__)

_FOLDER = "text-vectors"
_LOCK_WAIT_S = 2.0
"""A killed process leaves its lock to the system, which may need a moment to take it back."""
_HELD = "/LOCK:"
"""What tells a held folder from a damaged one in RocksDB's message: it names the lock file."""
_NAMESPACES = "namespaces"
_NAMESPACES_MAX = 64
"""Of models that a cache may hold vectors of; a line each. More models than that in one cache's
life push the oldest out, whose vectors FIFO compaction has dropped by then."""
_PARTS = 16
"""Size of a write buffer, and so of a file, as a share of the cap: what is oldest goes by files.
Three quarters of the cap are files; two buffers and their logs are the rest."""
_MOST_BUFFER_BYTES = 16 << 20
_LOG_BYTES = 64 << 10


class TextCache:
    """RocksDB with FIFO compaction: what was written first is dropped first.

    Values are as they are kept in memory, float32 as computed or float16, so a hit is bit for bit
    a fresh vector; RocksDB's block checksums tell damage. A damaged cache is dropped and begun
    anew. A folder that another process holds is left alone, and this process does without.
    """

    def __init__(
        self, folder: Path, max_bytes: int, dimensions: int, vectors: VectorFormat = "float32"
    ) -> None:
        self._type = "<f2" if vectors == "float16" else "<f4"
        self._folder = folder / _FOLDER
        self._max_bytes = max_bytes
        self._shape = (LEVELS, dimensions)
        self._db = self._open_or_rebuild()

    def get(self, keys: Sequence[bytes]) -> dict[bytes, Float32]:
        """Return the [3, T] vectors of those keys that are held."""
        if self._db is None or not keys:
            return {}
        try:
            values: list[bytes | None] = self._db.get(list(keys))  # type: ignore[assignment]
            return {
                key: np.frombuffer(value, dtype=self._type).reshape(self._shape).astype(np.float32)
                for key, value in zip(keys, values, strict=True)
                if value is not None
            }
        except Exception as error:  # noqa: BLE001 - rocksdict raises bare Exception
            self._rebuild(f"cannot be read: {error}")
            return {}

    def put(self, vectors: Mapping[bytes, Float32]) -> None:
        """Keep [3, T] vectors under their keys."""
        if self._db is None or not vectors:
            return
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key, vector in vectors.items():
            batch.put(key, vector.astype(self._type, copy=False).tobytes())
        self._write(batch)

    def delete(self, keys: Sequence[bytes]) -> None:
        """Hold these keys no longer."""
        if self._db is None or not keys:
            return
        batch = rocksdict.WriteBatch(raw_mode=True)
        for key in keys:
            batch.delete(key)
        self._write(batch)

    def _write(self, batch: rocksdict.WriteBatch) -> None:
        if self._db is None:
            return
        try:
            self._db.write(batch)
        except Exception as error:  # noqa: BLE001 - rocksdict raises bare Exception
            self._rebuild(f"cannot be written: {error}")

    def close(self) -> None:
        """Close the files; what was put stays for the next process."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _open_or_rebuild(self) -> rocksdict.Rdict | None:
        deadline = time.monotonic() + _LOCK_WAIT_S
        while True:
            try:
                return self._open()
            except Exception as error:  # noqa: BLE001 - rocksdict raises bare Exception
                reason = str(error)
            if _HELD not in reason:
                break
            if time.monotonic() > deadline:
                logger.warning("text cache %s is held by another process: none used", self._folder)
                return None
            time.sleep(0.1)
        logger.warning("text cache %s is dropped and rebuilt: %s", self._folder, reason)
        return self._begin_anew()

    def _rebuild(self, reason: str) -> None:
        logger.warning("text cache %s is dropped and rebuilt: it %s", self._folder, reason)
        self.close()
        self._db = self._begin_anew()

    def _begin_anew(self) -> rocksdict.Rdict | None:
        try:
            shutil.rmtree(self._folder, ignore_errors=True)
            return self._open()
        except Exception as error:  # noqa: BLE001 - rocksdict raises bare Exception
            logger.warning("text cache %s cannot be made, none used: %s", self._folder, error)
            return None

    def _open(self) -> rocksdict.Rdict:
        self._folder.mkdir(parents=True, exist_ok=True)
        fifo = rocksdict.FifoCompactOptions()
        fifo.max_table_files_size = self._max_bytes * 3 // 4
        options = rocksdict.Options(raw_mode=True)
        options.create_if_missing(True)
        options.set_compaction_style(rocksdict.DBCompactionStyle.fifo())
        options.set_fifo_compaction_options(fifo)
        options.set_write_buffer_size(min(self._max_bytes // _PARTS, _MOST_BUFFER_BYTES))
        options.set_max_write_buffer_number(2)
        # Floating point numbers of a model hardly compress.
        options.set_compression_type(rocksdict.DBCompressionType.none())
        options.set_max_open_files(-1)  # FIFO compaction asks for it
        options.set_keep_log_file_num(1)
        options.set_max_log_file_size(_LOG_BYTES)
        # Named, or a cache that is there already keeps the caps it was made with.
        families = {"default": options}
        return rocksdict.Rdict(str(self._folder), options, column_families=families)


def namespaces(folder: Path, also: bytes | None = None) -> list[bytes]:
    """Return what the keys of the cache in ``folder`` may have been made with, one per model.

    ``also`` is a model's that begins to use it: what is forgotten is deleted under all of them.
    """
    path = folder / _NAMESPACES
    found = [bytes.fromhex(line) for line in _lines(path)]
    if also is not None and also not in found:
        found = [*found, also][-_NAMESPACES_MAX:]
        try:
            folder.mkdir(parents=True, exist_ok=True)
            beside = path.with_suffix(".new")
            beside.write_text("".join(f"{one.hex()}\n" for one in found))
            beside.replace(path)
        except OSError as error:
            logger.warning("%s cannot be written: %s", path, error)
    return found


def _lines(path: Path) -> list[str]:
    try:
        lines = path.read_text().split()
    except OSError:
        return []
    return [line for line in lines if len(line) % 2 == 0 and set(line) <= set(hexdigits)]


def held(folder: Path, keys: Sequence[bytes]) -> list[bytes]:
    """Return those keys that the cache in ``folder`` holds, a running encoder's, too; only read.

    Raises:
        Exception: RocksDB's own, where the files change too fast to be read beside their owner.
    """
    path = folder / _FOLDER
    if not keys or not path.is_dir():
        return []
    options = rocksdict.Options(raw_mode=True)
    access = rocksdict.AccessType.read_only()
    database = rocksdict.Rdict(str(path), options=options, access_type=access)
    try:
        values: list[bytes | None] = database.get(list(keys))  # type: ignore[assignment]
        return [key for key, value in zip(keys, values, strict=True) if value is not None]
    finally:
        database.close()
