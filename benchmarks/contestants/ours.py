"""(c) Ours: the worker as anybody starts it, with the settings it comes with but for the names.

Avro, because the others publish Avro: a vector as JSON is four times the bytes.
"""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

from benchmarks.job import Run


def settings(run: Run) -> dict[str, str]:
    """Return the worker's settings as environment variables."""
    return {
        "INTEREST_APP_ID": run.group,
        "INTEREST_BOOTSTRAP_SERVERS": run.bootstrap,
        "INTEREST_EVENTS_TOPIC": run.events_topic,
        "INTEREST_ITEMS_TOPIC": run.items_topic,
        "INTEREST_UPDATES_TOPIC": run.updates_topic,
        "INTEREST_ITEM_VECTORS_TOPIC": f"{run.name}.item-vectors",
        "INTEREST_DEAD_LETTERS_TOPIC": f"{run.name}.dead-letters",
        "INTEREST_PARTITIONS": str(run.partitions),
        "INTEREST_DATADIR": str(datadir(run)),
        "INTEREST_UPDATE_FORMAT": "avro",
        "INTEREST_CHECKPOINT_INTERVAL_MS": str(int(run.commit_interval_s * 1000)),
        "INTEREST_LOG_LEVEL": "warning",
    }


def datadir(run: Run) -> Path:
    """Return where the worker keeps its state, text cache and ``status.json``."""
    return Path(run.directory) / "worker"


def main() -> None:
    run = Run.from_argv()
    if run.text_cache:
        shutil.copytree(run.text_cache, datadir(run) / "text-cache")
    command = [sys.executable, "-m", "stream_app", "worker"]
    os.execve(sys.executable, command, os.environ | settings(run))


if __name__ == "__main__":
    main()
