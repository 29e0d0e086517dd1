"""The demo as a person starts it, small and with the stub: its totals, and what it leaves."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.harness.deadline import LONG_PATIENCE_S

pytestmark = pytest.mark.broker


class Demo:
    """A demo in a process of its own, its output in a file."""

    def __init__(self, directory: Path, *arguments: str) -> None:
        self._output = directory / "output.txt"
        self._seen: dict[int, psutil.Process] = {}
        keep = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("INTEREST_") and name != "KAFKA_BOOTSTRAP"
        }
        with self._output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "stream_app", "demo"]
                + ["--directory", str(directory / "demo"), *arguments],
                env={**keep, "INTEREST_ENCODER": "stub", "INTEREST_PARTITIONS": "2"},
                cwd=directory, stdout=output, stderr=subprocess.STDOUT,
            )  # fmt: skip

    def text(self) -> str:
        return self._output.read_text()

    def wait_for(self, text: str) -> None:
        deadline = time.monotonic() + LONG_PATIENCE_S
        while text not in self.text():
            assert self.process.poll() is None, self.text()
            assert time.monotonic() < deadline, self.text()
            time.sleep(0.05)
        self.look()

    def look(self) -> None:
        """Remember the processes that run for it now."""
        for child in psutil.Process(self.process.pid).children(recursive=True):
            self._seen[child.pid] = child

    def left_behind(self) -> list[psutil.Process]:
        """Return the processes it had and that still run."""
        _, alive = psutil.wait_procs(list(self._seen.values()), timeout=30)
        return alive

    @property
    def names(self) -> set[str]:
        return {child.name() for child in self._seen.values()}


@pytest.fixture
def demos(tmp_path: Path) -> Iterator[list[Demo]]:
    started: list[Demo] = []
    yield started
    for demo in started:
        if demo.process.poll() is None:
            demo.process.kill()
        demo.process.wait()


def test_every_sum_comes_out(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--events", "1500", "--rate", "3000")
    demos.append(demo)
    demo.wait_for("starting a worker")
    assert demo.process.wait(LONG_PATIENCE_S) == 0, demo.text()
    shown = demo.text()
    assert shown.count("ok    ") == 3
    assert "WRONG" not in shown
    totals = dict(re.findall(r"^ *(\w[\w ]+?)  +([\d,]+) *$", shown, re.MULTILINE))
    assert totals["events sent"] == totals["folded"] == "1,500"
    assert totals["duplicates"] == totals["dead letters"] == "0"
    assert totals["updates published"] == totals["updates read back"]
    assert shown.count("nearest unseen titles") == 5
    assert demo.left_behind() == []


def test_an_interrupt_leaves_nothing_running(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--events", "20000", "--rate", "500")
    demos.append(demo)
    demo.wait_for("events/s")
    assert "java" in demo.names
    assert len(demo.names) > 1  # the worker, too
    demo.process.send_signal(signal.SIGINT)
    assert demo.process.wait(LONG_PATIENCE_S) == 130, demo.text()
    assert demo.left_behind() == []


def test_a_killed_demo_leaves_nothing_running(tmp_path: Path, demos: list[Demo]) -> None:
    demo = Demo(tmp_path, "--events", "20000", "--rate", "500")
    demos.append(demo)
    demo.wait_for("events/s")
    demo.process.kill()
    demo.process.wait()
    assert demo.left_behind() == []


def test_kept_up_it_prints_addresses_until_it_is_interrupted(
    tmp_path: Path, demos: list[Demo]
) -> None:
    demo = Demo(tmp_path, "--events", "300", "--keep")
    demos.append(demo)
    demo.wait_for("still up, until Ctrl-C")
    assert "  Kafka    127.0.0.1:" in demo.text()
    assert "java" in demo.names
    demo.process.send_signal(signal.SIGTERM)  # the same as SIGINT
    assert demo.process.wait(LONG_PATIENCE_S) == 0, demo.text()
    assert demo.left_behind() == []
