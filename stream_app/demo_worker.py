"""The demo's child processes: the worker, and the maker of its interest model."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from stream_app import child_process
from stream_app.errors import InterestStreamError
from stream_app.settings import PREFIX, Settings, as_text

_LOG_TAIL_LINES = 15


class DemoFailed(InterestStreamError):
    """A part of the demo did not do its work; the message says which, with its log's tail."""


def environment(settings: Settings) -> dict[str, str]:
    """Return this process's environment with exactly ``settings`` in it."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
    return inherited | {PREFIX + name.upper(): value for name, value in as_text(settings).items()}


class Child:
    """``interest-stream ARGUMENTS`` in a process that cannot outlive this one."""

    def __init__(self, arguments: list[str], settings: Settings, log_path: Path) -> None:
        self._name = arguments[0]
        self._log_path = log_path
        with log_path.open("ab") as log:
            self.process: subprocess.Popen[bytes] = child_process.start_bound(
                [sys.executable, "-m", "stream_app", *arguments],
                output=log,
                env=environment(settings),
            )

    def check_alive(self) -> None:
        """Raise DemoFailed if the process has ended."""
        exit_code = self.process.poll()
        if exit_code is not None:
            raise self._ended(exit_code)

    async def finished(self) -> None:
        """Wait for the process's end, which must be a good one.

        Raises:
            DemoFailed: its exit code is not 0.
        """
        exit_code = await asyncio.to_thread(self.process.wait)
        if exit_code != 0:
            raise self._ended(exit_code)

    def stop(self, grace_s: float) -> int:
        """Stop the process and return its exit code."""
        return child_process.stop(self.process, grace_s)

    def _ended(self, exit_code: int) -> DemoFailed:
        lines = self._log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        tail = "\n".join(lines[-_LOG_TAIL_LINES:])
        return DemoFailed(
            f"the {self._name} process ended with exit code {exit_code}. "
            f"The end of {self._log_path}:\n{tail}"
        )


def read_status(settings: Settings) -> dict[str, Any]:
    """Return the worker's status.json, empty where there is none yet."""
    try:
        status: dict[str, Any] = json.loads((settings.datadir / "status.json").read_text())
    except FileNotFoundError:
        return {}
    return status
