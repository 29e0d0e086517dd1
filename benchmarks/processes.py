"""A contestant's process: started, watched for memory, stopped."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from benchmarks.job import Run
from stream_app import child_process

_SAMPLE_S = 0.5
_STOP_S = 40.0


class ContestantProcess:
    """``python -m benchmarks.contestants.<name>``, with all its children as one."""

    def __init__(self, module: str, run: Run) -> None:
        self._module = module
        self._run = run
        self.log = Path(run.directory) / "log.txt"
        self.samples: list[tuple[float, int]] = []
        """(seconds since the epoch, resident bytes of the process tree), every half second."""
        self.started_s = 0.0
        self._ended = threading.Event()

    def __enter__(self) -> Self:
        config = Path(self._run.directory) / "run.json"
        self._run.save(config)
        self.started_s = time.time()
        with self.log.open("wb") as log:
            self._process = child_process.start_bound(
                [sys.executable, "-m", self._module, str(config)],
                output=log,
                env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1"},
            )
        self._sampler = threading.Thread(target=self._sample, daemon=True)
        self._sampler.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._sampler.join()
        child_process.stop(self._process, _STOP_S)

    def must_run(self) -> None:
        """Raise with the end of the log if the process has ended by itself."""
        code = self._process.poll()
        if code is not None:
            tail = self.log.read_text(errors="replace")[-3000:]
            raise subprocess.CalledProcessError(code, self._module, output=tail) from RuntimeError(
                f"{self._module} ended with {code}; the end of its log:\n{tail}"
            )

    def log_size(self) -> int:
        """Return the bytes written so far: a contestant that complains should be looked at."""
        return self.log.stat().st_size

    def _sample(self) -> None:
        while not self._ended.wait(_SAMPLE_S):
            self.samples.append((time.time(), resident_bytes(self._process.pid)))


def resident_bytes(pid: int) -> int:
    """Return the resident memory of a process and everything below it."""
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            total += process.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended between the listing and the look
    return total
