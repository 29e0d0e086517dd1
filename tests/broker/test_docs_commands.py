"""Every command and script of README and docs, run as a reader would, top to bottom.

One folder, one Kafka, one worker for all of them: those that README itself starts. Three things
differ from a reader's machine: Kafka takes a free port instead of 9092, the encoder is the stub
(but in ``sh model`` blocks), and between two blocks the worker gets the moment that a person takes
to read on. ``tests/harness/documents.py`` says what each kind of block promises.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream_app.kafka_server import stop_detached
from stream_app.local_ports import free_port
from stream_app.settings import Settings
from tests.harness.client import KafkaClient
from tests.harness.deadline import LONG_PATIENCE_S, eventually
from tests.harness.documents import ROOT, Block, all_blocks

pytestmark = pytest.mark.broker

BLOCK_S = 480
STOP_S = 40
_OUTPUT_TAIL_CHARS = 4_000

RUNNABLE = [block for block in all_blocks() if block.runs]
STEPS = [block for block in RUNNABLE if block.kind != "sh finally"]
STEPS += [block for block in RUNNABLE if block.kind == "sh finally"]


class Tour:
    """A reader's machine: a folder with the repository's examples, and what was started there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("examples", "docs"):
            (folder / name).symlink_to(ROOT / name)
        self.port = free_port()
        self.settings = Settings()
        self._done = 0
        self._background: list[tuple[Block, subprocess.Popen[bytes]]] = []

    def reach(self, wanted: Block) -> None:
        """Run everything up to and including ``wanted`` that has not run yet."""
        last = STEPS.index(wanted)
        while self._done <= last:
            block = STEPS[self._done]
            self._done += 1  # a block that fails once is not tried again by those after it
            if block.kind == "sh finally":
                self._end_background()
            if block.kind == "sh background":
                self._start(block)
            else:
                self._run(block)
            self._let_the_worker_catch_up()

    def close(self) -> None:
        """Leave nothing running, whatever has failed."""
        for _, process in self._background:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        stop_detached(self.folder / ".run" / "kafka")

    def _run(self, block: Block) -> None:
        outcome = subprocess.run(
            self._command(block),
            cwd=self.folder,
            env=self._environment(block),
            capture_output=True,
            text=True,
            timeout=BLOCK_S,
            check=False,
        )
        said = (outcome.stdout + outcome.stderr)[-_OUTPUT_TAIL_CHARS:]
        assert outcome.returncode == 0, f"{block} exited {outcome.returncode}\n{block.text}\n{said}"

    def _start(self, block: Block) -> None:
        with self._log(block).open("wb") as log:
            process = subprocess.Popen(
                self._command(block),
                cwd=self.folder,
                env=self._environment(block),
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._background.append((block, process))
        eventually(
            lambda: self._status().get("state") == "running" or process.poll() is not None,
            within_s=LONG_PATIENCE_S,
            what=f"{block} running",
        )
        assert process.poll() is None, f"{block} ended\n{self._log(block).read_text()}"

    def _end_background(self) -> None:
        for block, process in self._background:
            process.terminate()
            exit_code = process.wait(STOP_S)
            assert exit_code == 0, f"{block} exited {exit_code}\n{self._log(block).read_text()}"
        self._background.clear()

    def _let_the_worker_catch_up(self) -> None:
        if not self._background:
            return
        client = KafkaClient(f"127.0.0.1:{self.port}")
        try:
            eventually(lambda: self._caught_up(client), what="all events committed")
        finally:
            client.close()

    def _caught_up(self, client: KafkaClient) -> bool:
        topic = self.settings.events_topic
        committed = client.committed(self.settings.app_id, topic)
        return all(committed.get(p, 0) >= end for p, end in client.ends(topic).items() if end)

    def _status(self) -> dict[str, object]:
        path = self.folder / self.settings.datadir / "status.json"
        found: dict[str, object] = json.loads(path.read_text()) if path.exists() else {}
        return found

    def _log(self, block: Block) -> Path:
        return self.folder / f"line-{block.line}.log"

    def _command(self, block: Block) -> list[str]:
        if block.kind == "python":
            return [sys.executable, "-W", "error", "-c", self._ported(block.text)]
        lines = [self._ported(_checked_elsewhere(line)) for line in block.text.splitlines()]
        return ["bash", "-euo", "pipefail", "-c", "\n".join(lines)]

    def _ported(self, text: str) -> str:
        started = text.replace("kafka start", f"kafka start --port {self.port}")
        return started.replace("127.0.0.1:9092", f"127.0.0.1:{self.port}")

    def _environment(self, block: Block) -> dict[str, str]:
        kept = {n: v for n, v in os.environ.items() if not n.startswith("INTEREST_")}
        bootstrap = f"127.0.0.1:{self.port}"
        own = {
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
            "KAFKA_BOOTSTRAP": bootstrap,
            "INTEREST_BOOTSTRAP_SERVERS": bootstrap,
            "INTEREST_ENCODER": "transformer" if block.kind == "sh model" else "stub",
        }
        return kept | own


def _checked_elsewhere(line: str) -> str:
    """Return what to run instead of a line that is run, or checked, by other tests."""
    command = line.strip()
    if command.startswith("make "):
        arguments = command.removeprefix("make ").partition("#")[0]
        return f"make -C {ROOT} -n {arguments} > /dev/null"
    if command.startswith("docker "):
        return "# " + command
    return line


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tour]:
    tour = Tour(tmp_path_factory.mktemp("reader"))
    yield tour
    tour.close()


@pytest.mark.parametrize("block", STEPS, ids=str)
def test_does_what_the_page_says(tour: Tour, block: Block) -> None:
    tour.reach(block)
