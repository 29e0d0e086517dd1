"""Child processes that do not outlive this one."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO

_PR_SET_PDEATHSIG = 1
"""prctl(2): the signal a process gets when its parent dies, even by SIGKILL. Linux only."""

_libc = ctypes.CDLL(None, use_errno=True) if sys.platform == "linux" else None


def _die_with_parent() -> None:
    """Run in the child between fork and exec: one system call and nothing that takes a lock."""
    if _libc is not None:
        _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def start_bound(
    command: Sequence[str],
    *,
    output: IO[bytes],
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start ``command`` so that it cannot outlive this process, even if this one is killed.

    The child gets a session of its own: a Ctrl-C at the terminal reaches us alone, and we decide
    in which order things stop. stdout and stderr go to ``output``.

    The kernel sends the death signal when the *thread* that forked ends, so a thread that lives
    as long as the child does the forking.

    Raises:
        OSError: the command cannot be run.
    """
    started: list[subprocess.Popen[bytes] | OSError] = []
    ready = threading.Event()

    def fork_and_wait() -> None:
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=env,
                cwd=cwd,
                start_new_session=True,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 - one system call, see above
            )
        except OSError as error:
            started.append(error)
            ready.set()
            return
        started.append(process)
        ready.set()
        process.wait()

    threading.Thread(target=fork_and_wait, name="child-process", daemon=True).start()
    ready.wait()
    outcome = started[0]
    if isinstance(outcome, OSError):
        raise outcome
    return outcome


def stop(process: subprocess.Popen[bytes], grace_s: float) -> int:
    """Ask ``process`` to end (SIGTERM), kill it after ``grace_s`` seconds; return its exit code."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(grace_s)
        except subprocess.TimeoutExpired:
            process.kill()
    return process.wait()
