"""One Kafka for the whole session; a stream of its own for every test that asks for one."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.harness.broker import SESSION_TIMEOUT_S, session_broker
from tests.harness.client import KafkaClient
from tests.harness.stream import Stream

StreamMaker = Callable[..., Stream]

_LONG = ("test_docs_commands", "test_plans", "test_promote", "test_replay", "test_disk")
"""Files that take minutes, longest first: begun last they would keep one process busy alone."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with what takes longest, then what waits for brokers and workers, then the rest."""

    def turn(item: pytest.Item) -> tuple[int, bool]:
        long = _LONG.index(item.path.stem) if item.path.stem in _LONG else len(_LONG)
        return long, item.get_closest_marker("broker") is None

    items.sort(key=turn)


@pytest.fixture(scope="session")
def broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Bootstrap servers of a real Kafka: KAFKA_BOOTSTRAP, or one started for this session."""
    with session_broker(tmp_path_factory.mktemp("kafka")) as bootstrap:
        yield bootstrap


@pytest.fixture(scope="session")
def client(broker: str) -> Iterator[KafkaClient]:
    """A plain client of the session's broker."""
    client = KafkaClient(broker)
    yield client
    client.close()


@pytest.fixture
def bare_stream(
    client: KafkaClient, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[StreamMaker]:
    """Make streams with changed settings, without creating their topics."""
    made: list[Stream] = []
    request.node.streams = made

    def make(**changed: object) -> Stream:
        stem = re.sub(r"[^A-Za-z0-9.-]", "-", request.node.name)
        folder = tmp_path / f"{stem}-{len(made)}"
        folder.mkdir()
        made.append(Stream(client, folder, SESSION_TIMEOUT_S, **changed))
        return made[-1]

    yield make
    for stream in made:
        stream.close()


@pytest.fixture
def make_stream(bare_stream: StreamMaker) -> StreamMaker:
    """Make streams with changed settings, topics created."""

    def make(**changed: object) -> Stream:
        return bare_stream(**changed).create_topics()

    return make


@pytest.fixture
def stream(make_stream: StreamMaker) -> Stream:
    """A stream with the settings of most tests."""
    return make_stream()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
    """Show the workers' logs with a failure."""
    report = yield
    if report.failed:
        for stream in getattr(item, "streams", ()):
            report.sections += stream.describe()
    return report
