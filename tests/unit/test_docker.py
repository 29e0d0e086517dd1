"""The image and the compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_app.kafka_jars import KAFKA_VERSION
from stream_app.settings import PREFIX, Settings, load
from tests.harness.documents import ROOT

DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "FROM", "HEALTHCHECK", "RUN", "STOPSIGNAL",
         "USER", "VOLUME", "WORKDIR"}  # fmt: skip


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, arguments) of the Dockerfile, continued lines joined."""
    text = (DOCKER / "Dockerfile").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if line.strip() and not line.startswith("#")]
    joined = re.sub(r"\s*\\\n\s*", " ", "\n".join(lines))
    return [(name, rest) for name, _, rest in (line.partition(" ") for line in joined.splitlines())]


def of(name: str) -> list[str]:
    return [arguments for instruction, arguments in instructions() if instruction == name]


@pytest.fixture(scope="module")
def compose() -> dict[str, Any]:
    """Return the compose file, by the docker client where it has compose, else as YAML."""
    found: dict[str, Any] = yaml.safe_load(COMPOSE.read_text(encoding="utf-8"))
    return found


def workers(compose: dict[str, Any]) -> dict[str, Any]:
    services = compose["services"]
    return {name: service for name, service in services.items() if name.startswith("worker")}


def test_every_instruction_is_one() -> None:
    assert {name for name, _ in instructions()} <= KNOWN


def test_both_stages_stand_on_a_slim_image_of_the_right_python() -> None:
    images = [arguments.split()[0] for arguments in of("FROM")]
    assert len(images) == 2
    assert len(set(images)) == 1
    assert images[0].startswith("python:3.11-slim-")


def test_torch_is_for_cpus_unless_an_argument_says_otherwise() -> None:
    assert of("ARG") == ["TORCH_BACKEND=cpu"]
    assert any('--torch-backend "$TORCH_BACKEND"' in command for command in of("RUN"))


def test_what_is_copied_is_there_and_gets_into_the_context() -> None:
    let_in = [
        line.removeprefix("!").removesuffix("/*.txt").rstrip("/")
        for line in (DOCKER / "Dockerfile.dockerignore").read_text().splitlines()
        if line.startswith("!")
    ]
    for arguments in of("COPY"):
        if arguments.startswith("--from="):
            continue
        for source in arguments.split()[:-1]:
            assert (ROOT / source).exists(), source
            assert source.rstrip("/") in let_in, source


def test_the_packages_the_image_wants_are_in_the_locks() -> None:
    command = next(command for command in of("RUN") if "uv pip install" in command)
    pattern = re.search(r"grep '\^([\w-]+)' requirements/data.txt", command)
    assert pattern is not None
    assert (ROOT / "requirements" / "data.txt").read_text().count(f"\n{pattern[1]}") == 1
    assert "--constraint requirements/dev.txt" in command


def test_the_worker_is_not_root_and_its_state_is_its_own() -> None:
    names = [name for name, _ in instructions()]
    last_run = len(names) - 1 - names[::-1].index("RUN")
    assert of("USER") == ["10001:10001"]
    assert names.index("USER") > last_run
    assert of("VOLUME") == ["/data"]
    assert any("--owner=10001 --group=10001 /data" in command for command in of("RUN"))


def test_it_runs_the_command_line_and_hears_sigterm() -> None:
    assert [json.loads(arguments) for arguments in of("ENTRYPOINT")] == [["interest-stream"]]
    assert [json.loads(arguments) for arguments in of("CMD")] == [["worker"]]
    assert of("STOPSIGNAL") == ["SIGTERM"]


def test_variables_are_settings(compose: dict[str, Any]) -> None:
    set_in_image = dict(re.findall(rf"({PREFIX}\w+)=(\S+)", " ".join(of("ENV"))))
    assert set_in_image == {"INTEREST_DATADIR": "/data"}
    for service in [*workers(compose).values(), compose["services"]["topics"]]:
        given = {name: resolved(value) for name, value in service["environment"].items()}
        assert all(name.startswith(PREFIX) for name in given)
        load(environ=set_in_image | given)  # refuses unknown names and bad values


def resolved(value: str) -> str:
    """Return a compose value with its default in place of the variable."""
    return re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", str(value))


def test_two_workers_with_a_volume_each(compose: dict[str, Any]) -> None:
    found = workers(compose)
    assert len(found) == 2
    volumes = [volume for worker in found.values() for volume in worker["volumes"]]
    assert len(set(volumes)) == len(found)
    for volume in volumes:
        name, place = volume.split(":")
        assert name in compose["volumes"]
        assert place == "/data"


def test_kafka_is_the_version_the_tests_run_on(compose: dict[str, Any]) -> None:
    kafka = compose["services"]["kafka"]
    assert kafka["image"] == f"apache/kafka:{KAFKA_VERSION}"
    assert kafka["healthcheck"]["test"][0] == "CMD"
    listeners = kafka["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    inside = workers(compose)["worker-1"]["environment"]["INTEREST_BOOTSTRAP_SERVERS"]
    assert f"INSIDE://{inside}" in listeners.split(",")
    assert "HOST://127.0.0.1:9092" in listeners.split(",")
    assert kafka["ports"] == ["127.0.0.1:9092:9092"]


def test_each_starts_when_what_it_needs_is_there(compose: dict[str, Any]) -> None:
    services = compose["services"]
    assert services["topics"]["depends_on"] == {"kafka": {"condition": "service_healthy"}}
    assert services["topics"]["command"] == ["topics", "create"]
    for worker in workers(compose).values():
        wanted = {"topics": {"condition": "service_completed_successfully"}}
        assert worker["depends_on"] == wanted


def test_a_worker_has_longer_to_stop_than_it_takes(compose: dict[str, Any]) -> None:
    for worker in workers(compose).values():
        grace_s = int(worker["stop_grace_period"].removesuffix("s"))
        assert grace_s > Settings().stop_timeout_s


def test_the_build_is_of_this_repository(compose: dict[str, Any]) -> None:
    for worker in workers(compose).values():
        context = (DOCKER / worker["build"]["context"]).resolve()
        assert context == ROOT
        assert (context / worker["build"]["dockerfile"]).is_file()
        assert set(worker["build"]["args"]) == {"TORCH_BACKEND"}


def has_compose() -> bool:
    docker = shutil.which("docker")
    if docker is None:
        return False
    asked = subprocess.run([docker, "compose", "version"], capture_output=True, check=False)
    return asked.returncode == 0


@pytest.mark.skipif(not has_compose(), reason="no docker client with compose here")
def test_the_docker_client_takes_the_compose_file() -> None:
    checked = subprocess.run(
        ["docker", "compose", "--file", COMPOSE, "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


@pytest.mark.parametrize(
    ("state", "age_s", "well"),
    [
        ("running", 0, True),
        ("rebalancing", 0, True),
        ("starting", 0, False),
        ("failed", 0, False),
        ("running", 60, False),
    ],
)
def test_health_is_a_fresh_status(tmp_path: Path, state: str, age_s: int, well: bool) -> None:
    status = tmp_path / "status.json"
    status.write_text(json.dumps({"state": state}))
    written_at = time.time() - age_s
    os.utime(status, (written_at, written_at))
    assert (health(tmp_path).returncode == 0) is well


def test_without_a_status_there_is_no_health(tmp_path: Path) -> None:
    checked = health(tmp_path)
    assert checked.returncode == 1
    assert "not there yet" in checked.stderr


def health(datadir: Path) -> subprocess.CompletedProcess[str]:
    """Run what the image's HEALTHCHECK runs."""
    (command,) = of("HEALTHCHECK")
    words = json.loads(command.partition(" CMD ")[2])
    assert words[0] == "python"
    script = DOCKER / Path(words[1]).name
    assert any(f"docker/{script.name} {words[1]}" in copied for copied in of("COPY"))
    return subprocess.run(
        [sys.executable, script],
        env={**os.environ, "INTEREST_DATADIR": str(datadir)},
        capture_output=True,
        text=True,
        check=False,
    )
