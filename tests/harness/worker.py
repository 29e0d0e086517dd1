"""A worker as an operator has it: a process, its environment, its log, its status file."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import psutil

from stream_app import child_process
from tests.harness.deadline import LONG_PATIENCE_S, PATIENCE_S, eventually

ARM_VARIABLE = "TRAP_ARM_FILE"
TRAPPED = "tests.harness.trapped_worker"
TELL_TASKS = signal.SIGUSR2
"""To a trapped worker: say where you are."""
_LOG_TAIL_LINES = 60
_NOISE = re.compile(r"ERROR aiokafka.*(Unable (connect|to update)|NodeNotReady)")


class Life(NamedTuple):
    """One start of a worker, and what became of it."""

    exit_code: int | None
    counts: dict[str, int]
    """As its status file said at last: complete where it stopped by itself."""

    @property
    def ended_cleanly(self) -> bool:
        """Whether its counts are complete."""
        return self.exit_code == 0


class Worker:
    """One worker process; ``start`` may be called again after its end, on the same datadir."""

    def __init__(
        self, name: str, datadir: Path, settings: dict[str, object], module: str = "stream_app"
    ) -> None:
        self.name = name
        self.module = module
        self.arguments = ["worker"]
        self.datadir = datadir
        self.settings = {**settings, "datadir": datadir}
        self.log = datadir.with_suffix(".log")
        self.ended_by_test = False
        self.lives: list[Life] = []
        """Every start but the last, which :meth:`life` tells of."""
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> Worker:
        """Start the process and return at once; see :meth:`wait_running`."""
        assert not self.alive, f"{self.name} runs already"
        if self._process is not None:
            self.lives.append(self.life())
        self.ended_by_test = self.arm_file.exists()
        with self.log.open("ab") as log:
            self._process = child_process.start_bound(
                [sys.executable, "-m", self.module, *self.arguments],
                output=log,
                env=environment(self.settings) | {ARM_VARIABLE: str(self.arm_file)},
                cwd=self.datadir.parent,
            )
        return self

    @property
    def arm_file(self) -> Path:
        """Where a :mod:`tests.harness.trapped_worker` finds out that it is to harm itself."""
        return self.datadir.with_suffix(".armed")

    def life(self) -> Life:
        """Return what is known of the present or last start."""
        return Life(self.exit_code(), self.status().get("counts", {}))

    @property
    def pid(self) -> int:
        """Process id of the last start."""
        assert self._process is not None
        return self._process.pid

    @property
    def alive(self) -> bool:
        """Whether the process runs (a frozen one does)."""
        return self._process is not None and self._process.poll() is None

    def status(self) -> dict[str, Any]:
        """Return status.json, empty where there is none yet."""
        try:
            found: dict[str, Any] = json.loads((self.datadir / "status.json").read_text())
        except FileNotFoundError:
            return {}
        return found if found.get("pid") == self.pid else {}

    def partitions(self) -> set[int]:
        """Return the partitions it says it works on."""
        return set(self.status().get("partitions", ()))

    def ready(self) -> bool:
        """Whether it says it runs, perhaps with no partition."""
        assert self.alive, f"{self.name} ended with {self.exit_code()}:\n{self.log_tail()}"
        return bool(self.status().get("state") == "running")

    def running(self) -> bool:
        """Whether it says it runs, with at least one partition."""
        return self.ready() and bool(self.partitions())

    def wait_running(self) -> Worker:
        """Wait until it works on partitions."""
        eventually(
            self.running,
            within_s=LONG_PATIENCE_S,
            what=lambda: f"{self.name} running; status {self.status()}\n{self.log_tail()}",
        )
        return self

    def wait_counts(self, name: str, at_least: int) -> int:
        """Wait until the counter ``name`` of its status has reached a value; return it."""
        eventually(
            lambda: self.count(name) >= at_least,
            what=lambda: f"{name} >= {at_least} in {self.status()}\n{self.log_tail()}",
        )
        return self.count(name)

    def count(self, name: str) -> int:
        """Return one counter of its status, 0 where there is none yet."""
        return int(self.status().get("counts", {}).get(name, 0))

    def encoder_pid(self) -> int | None:
        """Return the process id of its encoder, as its status says."""
        pid: int | None = self.status().get("encoder_pid")
        return pid

    def children(self) -> list[psutil.Process]:
        """Return the processes it started."""
        return psutil.Process(self.pid).children(recursive=True)

    def kill(self) -> None:
        """SIGKILL; its children (the encoder process) must not outlive it."""
        children = self.children()
        self.ended_by_test = True
        os.kill(self.pid, signal.SIGKILL)
        self.wait()
        _, outliving = psutil.wait_procs(children, timeout=PATIENCE_S)
        assert not outliving, f"children of the killed {self.name} live on: {outliving}"

    def freeze(self) -> None:
        """SIGSTOP: it neither works nor heartbeats, and knows nothing of it."""
        os.kill(self.pid, signal.SIGSTOP)

    def is_frozen(self) -> bool:
        """Tell whether it was frozen, by whomever."""
        return psutil.Process(self.pid).status() == psutil.STATUS_STOPPED

    def thaw_and_rejoin(self) -> None:
        """SIGCONT; return when the group that it fell out of has given it partitions anew.

        Its log says so: its status file is from before the freeze for another second.
        """
        before = self._assignments()
        os.kill(self.pid, signal.SIGCONT)
        eventually(
            lambda: self._assignments() > before,
            within_s=LONG_PATIENCE_S,
            what=lambda: f"{self.name} assigned partitions anew\n{self.log_tail()}",
        )

    def rebalances(self) -> int:
        """Return how often it was told that the group is rebalancing."""
        return self.log.read_text(errors="replace").count("because it is rebalancing")

    def _assignments(self) -> int:
        return self.log.read_text(errors="replace").count("Partitions assigned and restored: [")

    def arm(self, trap: str) -> None:
        """Tell a :mod:`tests.harness.trapped_worker` where to harm itself, now or once started."""
        self.ended_by_test = True
        self.arm_file.write_text(trap)

    def died_by(self, number: signal.Signals) -> None:
        """The worker has ended by this signal, and not of itself before."""
        code = self.wait()
        assert code == -number, f"{self.name} ended with {code}:\n{self.log_tail()}"

    def ask_to_stop(self) -> None:
        """SIGTERM."""
        self.ended_by_test = True
        os.kill(self.pid, signal.SIGTERM)

    def wait(self, within_s: float = LONG_PATIENCE_S) -> int:
        """Return the exit code."""
        assert self._process is not None
        try:
            return self._process.wait(within_s / 2)
        except subprocess.TimeoutExpired:
            self._tell_tasks()
        try:
            return self._process.wait(within_s / 2)
        except subprocess.TimeoutExpired:
            tail = self.log_tail()
            raise AssertionError(f"{self.name} still there after {within_s} s\n{tail}") from None

    def _tell_tasks(self) -> None:
        """Have it write into its log what holds it up, unless it is still starting."""
        if self.module == TRAPPED and _catches(self.pid, TELL_TASKS):
            os.kill(self.pid, TELL_TASKS)

    def exit_code(self) -> int | None:
        """Return the exit code, None while it runs."""
        return None if self._process is None else self._process.poll()

    def said(self, words: str) -> bool:
        """Tell whether it has written ``words`` since it was first started."""
        return self.log.exists() and words in self.log.read_text(errors="replace")

    def log_tail(self) -> str:
        """Return the end of its output, without what aiokafka repeats while a broker is away."""
        if not self.log.exists():
            return "(no output)"
        lines = self.log.read_text(errors="replace").splitlines()
        return "\n".join([line for line in lines if not _NOISE.search(line)][-_LOG_TAIL_LINES:])

    def destroy(self) -> None:
        """Leave nothing running, whatever state it is in."""
        if self._process is None:
            return
        if self.alive:
            children = self.children()
            self._process.kill()
            for child in children:
                if child.is_running():
                    child.kill()
        self._process.wait(PATIENCE_S)


def _catches(pid: int, number: signal.Signals) -> bool:
    """Tell whether a process has a handler for the signal: until then it would die of it."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = next(line for line in status.splitlines() if line.startswith("SigCgt:"))
    return bool(int(caught.split()[1], 16) >> (number - 1) & 1)


def environment(settings: dict[str, object]) -> dict[str, str]:
    """Return this process's environment with ``settings`` as the only INTEREST_ variables."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("INTEREST_")}
    return kept | {f"INTEREST_{name.upper()}": str(value) for name, value in settings.items()}
