"""What the image starts, without an engine: the wheel, another user, code it cannot write to."""

from __future__ import annotations

import json
import os
import pwd
import shutil
import signal
import site
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from stream_app.local_ports import free_port
from tests.harness import checks
from tests.harness.deadline import LONG_PATIENCE_S, eventually
from tests.harness.documents import ROOT
from tests.harness.load import Load
from tests.harness.reference import replay
from tests.harness.stream import STOP_S, Stream
from tests.harness.worker import environment
from tests.unit.test_docker import of

pytestmark = [
    pytest.mark.broker,
    pytest.mark.skipif(os.geteuid() != 0, reason="only root can start it as another user"),
]
USER = "nobody"


@dataclass(frozen=True)
class Container:
    """A folder that looks like the image's: code at one place, data at another."""

    folder: Path

    @property
    def code(self) -> Path:
        """What the image has in /opt/interest-stream."""
        return self.folder / "code"

    @property
    def data(self) -> Path:
        """Its volume."""
        return self.folder / "data"

    def environment(self, settings: dict[str, object]) -> dict[str, str]:
        """Return nothing of ours but the settings: what a container begins with."""
        own = {
            name: value
            for name, value in environment(settings | {"datadir": self.data}).items()
            if name.startswith("INTEREST_")
        }
        places = {"HOME": str(self.data), "TMPDIR": str(self.folder / "tmp")}
        return own | places | {"PATH": f"{self.code}/bin:/usr/bin:/bin", "PYTHONUNBUFFERED": "1"}

    def run(self, *command: str, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
        """Run a command as the user, in the working directory of the image."""
        return subprocess.run(
            [self.code / "bin" / command[0], *command[1:]],
            user=USER, group=_group(), extra_groups=[], cwd=self.data, env=env,
            capture_output=True, text=True, check=False,
        )  # fmt: skip

    def files(self) -> set[Path]:
        """Return everything in the code folder."""
        return set(self.code.rglob("*"))


def _group() -> int:
    return pwd.getpwnam(USER).pw_gid


@pytest.fixture
def container() -> Iterator[Container]:
    """The tree's wheel in an environment of its own; packages are those that are here already."""
    with tempfile.TemporaryDirectory(prefix="interest-image-") as name:
        container = Container(Path(name))
        container.folder.chmod(0o755)
        _uv("venv", "--python", _interpreter(), str(container.code))
        _uv("build", "--wheel", "--out-dir", name, str(ROOT))
        (wheel,) = container.folder.glob("*.whl")
        python = str(container.code / "bin" / "python")
        _uv("pip", "install", "--no-deps", "--compile-bytecode", "--python", python, str(wheel))
        (packages,) = container.code.glob("lib/*/site-packages")
        # Added by a .pth, a folder's own .pth files do nothing: the editable install stays out.
        (packages / "here.pth").write_text("\n".join(site.getsitepackages()) + "\n")
        shutil.copy(ROOT / "docker" / "healthcheck.py", container.code)
        subprocess.run(["chmod", "--recursive", "a-w,a+rX", container.code], check=True)
        for place in (container.data, container.folder / "tmp"):
            place.mkdir(mode=0o700)
            shutil.chown(place, USER, _group())
        yield container
        subprocess.run(["chmod", "--recursive", "u+w", container.code], check=True)


def _interpreter() -> str:
    """Return a Python of this version that the user may run; ours may lie in somebody's home."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    others = [shutil.which(name, path=place) for place in ("/usr/local/bin", "/usr/bin")]
    for python in (os.path.realpath(sys.executable), *filter(None, others)):
        try:
            subprocess.run([python, "-c", ""], user=USER, group=_group(), cwd="/", check=True)
        except (PermissionError, subprocess.CalledProcessError):
            continue
        return python
    pytest.skip(f"{USER} may run no {name} here: {sys.executable} lies in a closed folder")


def _uv(*arguments: str) -> None:
    command = [sys.executable, "-m", "uv", *arguments[:1], "--quiet", *arguments[1:]]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("encoder", ["stub", "transformer"])
def test_the_worker_runs_as_the_image_runs_it(
    stream: Stream, container: Container, encoder: str
) -> None:
    """The transformer is the packaged text model, read and cached by a user without a home."""
    settings = {**stream.raw_settings, "http_host": "0.0.0.0", "http_port": free_port()}
    settings["encoder"] = encoder
    env = container.environment(settings)
    _must_be_able(container, env)
    before = container.files()
    messages = Load(events=2_000, users=50).messages()
    stream.send(messages)
    (entrypoint,), (arguments,) = of("ENTRYPOINT"), of("CMD")
    command = [*json.loads(entrypoint), *json.loads(arguments)]
    log = container.folder / "log.txt"
    with log.open("wb") as output:
        worker = subprocess.Popen(
            [container.code / "bin" / command[0], *command[1:]],
            user=USER, group=_group(), extra_groups=[], cwd=container.data, env=env,
            stdout=output, stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    try:
        eventually(
            lambda: worker.poll() is not None or sum(stream.committed().values()) == len(messages),
            within_s=LONG_PATIENCE_S,
            what=lambda: f"everything committed\n{log.read_text(errors='replace')}",
        )
        asked = container.run("python", str(container.code / "healthcheck.py"), env=env)
        assert asked.returncode == 0, asked.stderr + log.read_text(errors="replace")
        worker.send_signal(getattr(signal, of("STOPSIGNAL")[0]))
        assert worker.wait(STOP_S) == 0, log.read_text(errors="replace")
    finally:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait()
    status = json.loads((container.data / "status.json").read_text())
    assert (status["state"], status["counts"]["records"]) == ("stopped", len(messages))
    reference = replay(stream.events(), max_events=stream.settings.window_max_events)
    checks.assert_same_windows(reference, checks.windows_in(stream.changelog()), "changelog")
    assert container.files() == before
    assert container.run("python", str(container.code / "healthcheck.py"), env=env).returncode == 1


def _must_be_able(container: Container, env: dict[str, str]) -> None:
    """Skip where the user cannot read the packages; the code must be the wheel's, and read-only."""
    script = "import faust, os, stream_app; print(os.geteuid(), stream_app.__file__)"
    asked = container.run("python", "-c", script, env=env)
    if "Permission denied" in asked.stderr or "No module named 'faust'" in asked.stderr:
        pytest.skip(f"{USER} cannot read the packages of this environment: {asked.stderr[-200:]}")
    user, place = asked.stdout.split()
    assert int(user) == pwd.getpwnam(USER).pw_uid, asked.stderr
    assert Path(place).is_relative_to(container.code)
    touched = container.run("python", "-c", f"open({place!r}, 'a')", env=env)
    assert "PermissionError" in touched.stderr
