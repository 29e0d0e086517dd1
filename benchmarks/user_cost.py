"""What a user costs, without a broker: python -m benchmarks.user_cost, about a minute.

One partition of eight of a million users: their windows through the fold and the codec into the
worker's own table, checkpoint by checkpoint; the record batches of changelog and updates as Kafka
stores them, byte for byte, for the worker does not compress them; windows in memory as the worker
holds them. What a whole worker does with a million users is in ``benchmarks.million_users``.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import psutil
from aiokafka.producer.message_accumulator import BatchBuilder

from benchmarks.million_users import EVENTS_PER_USER, sample_updates, user_key, window_of
from benchmarks.soak.sampling import disk_bytes
from state import codec
from state.table import PartitionTable
from stream_app.producer import MAX_BATCH_BYTES, OutRecord
from tests.chaos.record import Session

_CHECKPOINT_USERS = 5_000
_BLOCK_CACHE_BYTES = 32 << 20
_SAMPLE_USERS = 5_000


def log_bytes(records: Iterable[OutRecord]) -> int:
    """Return what the records take in Kafka's log, batched as the worker's producer does it."""
    total = 0
    batch = _batch()
    for key, value, headers in records:
        if batch.append(key=key, value=value, timestamp=None, headers=headers) is None:
            batch.close()
            total += batch.size()
            batch = _batch()
            batch.append(key=key, value=value, timestamp=None, headers=headers)
    batch.close()
    return total + batch.size()


def _batch() -> BatchBuilder:
    return BatchBuilder(MAX_BATCH_BYTES, 0, is_transactional=False)


def measure(users: int, folder: Path) -> dict[str, Any]:
    """Return every figure, in bytes per user unless its name says otherwise."""
    process = psutil.Process()
    table = PartitionTable(folder / "t", _BLOCK_CACHE_BYTES)
    window_bytes = changelog_bytes = 0
    for first in range(0, users, _CHECKPOINT_USERS):
        last = min(first + _CHECKPOINT_USERS, users)
        rows = [OutRecord(user_key(u), codec.encode(window_of(u))) for u in range(first, last)]
        table.write([(row.key or b"", row.value) for row in rows], last)
        window_bytes += sum(len(row.value or b"") for row in rows)
        changelog_bytes += log_bytes(rows)
    memory_rocksdb = table.memory_bytes()
    table.close()
    found: dict[str, Any] = {
        "users": users,
        "events_per_user": EVENTS_PER_USER,
        "window": window_bytes / users,
        "changelog": changelog_bytes / users,
        "rocksdb_disk": disk_bytes([folder / "t"]) / users,
        "rocksdb_memory_total": memory_rocksdb,
    }
    began_s = time.perf_counter()
    table = PartitionTable(folder / "t", _BLOCK_CACHE_BYTES)
    found["open_table_s"] = time.perf_counter() - began_s
    began_s = time.perf_counter()
    stored = table.get_many([user_key(user) for user in range(0, users, 5)])
    before = process.memory_info().rss
    hot = [codec.decode(each) for each in stored if each is not None]
    found["window_in_memory"] = (process.memory_info().rss - before) / len(hot)
    found["loaded_windows_per_s"] = len(hot) / (time.perf_counter() - began_s)
    began_s, cursor, seen = time.perf_counter(), b"", 0
    while rows_after := table.after(cursor, 256):
        seen += sum(codec.last_seen(value).newest_ms > 0 for _, value in rows_after)
        cursor = rows_after[-1][0]
    found["swept_windows_per_s"] = seen / (time.perf_counter() - began_s)
    table.close()
    for name, records in sample_updates(np.random.default_rng(2), _SAMPLE_USERS).items():
        found[f"updates {name}"] = log_bytes(records) / len(records)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.user_cost", description=__doc__)
    parser.add_argument("--users", type=int, default=125_000)
    parser.add_argument("--out", type=Path, help="the figures, docs/user-cost.json as committed")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="interest-user-cost-") as name:
        found = json.dumps(measure(arguments.users, Path(name)) | vars(Session.here()), indent=1)
    print(found)
    if arguments.out is not None:
        arguments.out.write_text(found + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
