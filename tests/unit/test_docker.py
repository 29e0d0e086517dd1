"""The image and the compose file, as far as they can be checked without an engine."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
import threading
import tomllib
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
import yaml

from stream_app.kafka_jars import KAFKA_VERSION
from stream_app.local_ports import free_port
from stream_app.settings import PREFIX, Settings, load
from tests.harness.documents import ROOT

DOCKER = ROOT / "docker"
COMPOSE = DOCKER / "compose.yaml"
COMPOSE_GPU = DOCKER / "compose.gpu.yaml"
KNOWN = {"ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "RUN",
         "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"}  # fmt: skip


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


def test_the_image_has_the_extras_that_a_worker_may_be_set_to_use() -> None:
    """The encoder, and otlp_endpoint, which docs/containers.md offers."""
    (extras,) = re.findall(r'"\.\[([\w,-]+)\]"', " ".join(of("RUN")))
    assert set(extras.split(",")) == {"transformer", "tracing"}
    offered = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) <= offered["optional-dependencies"].keys()
    locked = (ROOT / "requirements" / "dev.txt").read_text()
    for extra in extras.split(","):
        for wanted in offered["optional-dependencies"][extra]:
            assert f"\n{wanted.partition('~')[0]}==" in locked


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
    assert set_in_image == {
        "INTEREST_DATADIR": "/data",
        "INTEREST_HTTP_HOST": "0.0.0.0",
        "INTEREST_HTTP_PORT": "8080",
    }
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


def test_workers_on_a_gpu_are_the_same_workers(compose: dict[str, Any]) -> None:
    over = yaml.safe_load(COMPOSE_GPU.read_text(encoding="utf-8"))["services"]
    assert set(over) == set(workers(compose))
    for service in over.values():
        assert load(environ=service["environment"]).device == "cuda"
        assert resolved(service["build"]["args"]["TORCH_BACKEND"]).startswith("cu")
        (device,) = service["deploy"]["resources"]["reservations"]["devices"]
        assert device["capabilities"] == ["gpu"]


@pytest.mark.skipif(not has_compose(), reason="no docker client with compose here")
@pytest.mark.parametrize("files", [[COMPOSE], [COMPOSE, COMPOSE_GPU]], ids=["cpu", "gpu"])
def test_the_docker_client_takes_the_compose_file(files: list[Path]) -> None:
    named = [argument for file in files for argument in ("--file", str(file))]
    checked = subprocess.run(
        ["docker", "compose", *named, "config", "--quiet"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert checked.returncode == 0, checked.stderr


class Health(BaseHTTPRequestHandler):
    """Answers as a worker's /health would; which answer is the server's."""

    def do_GET(self) -> None:
        status, body = self.server.answer if self.path == "/health" else (404, b"")  # type: ignore[attr-defined]
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (200, b'{"healthy": true, "reasons": []}', None),
        (503, b'{"healthy": false, "reasons": ["the worker has failed"]}', "the worker has failed"),
        (404, b"not a worker", "/health answered 404"),
    ],
)
def test_healthy_is_what_health_says(status: int, body: bytes, said: str | None) -> None:
    with HTTPServer(("127.0.0.1", 0), Health) as server:
        server.answer = (status, body)  # type: ignore[attr-defined]
        answering = threading.Thread(target=server.handle_request)
        answering.start()
        checked = health(server.server_port)
        answering.join()
    assert (checked.returncode == 0) is (said is None)
    assert (said or "") in checked.stderr


def test_who_does_not_answer_is_not_healthy() -> None:
    checked = health(free_port())
    assert checked.returncode == 1
    assert "no answer from /health" in checked.stderr


def test_a_worker_that_hangs_is_told_before_docker_loses_patience() -> None:
    (command,) = of("HEALTHCHECK")
    limit_s = int(re.findall(r"--timeout=(\d+)s", command)[0])
    assert (
        runpy.run_path(str(DOCKER / "healthcheck.py"), run_name="imported")["TIMEOUT_S"] < limit_s
    )


def red_s(settings: Settings) -> float:
    """Return for how long /health is red at most, while a worker replaces a hung encoder."""
    killed_after_s = settings.encode_timeout_s - settings.health_encoder_s
    return killed_after_s + settings.encoder_start_timeout_s


def test_the_worker_may_get_rid_of_a_hung_encoder_before_it_counts_as_ill() -> None:
    (command,) = of("HEALTHCHECK")
    tries = int(re.findall(r"--retries=(\d+)", command)[0])
    every_s = int(re.findall(r"--interval=(\d+)s", command)[0])
    assert (tries - 1) * every_s > red_s(Settings()), "the first try may be at the first red moment"


def health(port: int) -> subprocess.CompletedProcess[str]:
    """Run what the image's HEALTHCHECK runs."""
    (command,) = of("HEALTHCHECK")
    words = json.loads(command.partition(" CMD ")[2])
    assert words[0] == "python"
    script = DOCKER / Path(words[1]).name
    assert any(f"docker/{script.name} {words[1]}" in copied for copied in of("COPY"))
    return subprocess.run(
        [sys.executable, script],
        env={**os.environ, "INTEREST_HTTP_PORT": str(port)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_containers_can_write_to_their_volume_and_nowhere_else(compose: dict[str, Any]) -> None:
    for service in [*workers(compose).values(), compose["services"]["topics"]]:
        assert service["read_only"] is True
        assert service["tmpfs"] == ["/tmp"]
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_prometheus_asks_every_worker_at_the_port_it_listens_on(compose: dict[str, Any]) -> None:
    prometheus = compose["services"]["prometheus"]
    files = [volume.split(":")[0] for volume in prometheus["volumes"] if volume.startswith("./")]
    config = yaml.safe_load((DOCKER / files[0]).read_text())
    assert [Path(file).name for file in files] == ["prometheus.yaml", *config["rule_files"]]
    (scrape,) = config["scrape_configs"]
    port = dict(re.findall(r"(INTEREST_\w+)=(\S+)", " ".join(of("ENV"))))["INTEREST_HTTP_PORT"]
    assert of("EXPOSE") == [port]
    assert scrape["static_configs"] == [
        {"targets": [f"{name}:{port}" for name in workers(compose)]}
    ]


def test_what_the_host_can_reach_it_reaches_on_its_loopback(compose: dict[str, Any]) -> None:
    ports = [port for each in compose["services"].values() for port in each.get("ports", ())]
    assert len(ports) == 3
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_every_file_and_volume_that_is_mounted_is_there(compose: dict[str, Any]) -> None:
    for service in compose["services"].values():
        for volume in service.get("volumes", ()):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or (DOCKER / source).exists(), volume
