"""Kafka over TLS with a user that may do what it needs and nothing else."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr

from stream_app import topics
from stream_app.acls import Acl, creation_acls, worker_acls
from stream_app.kafka_access import KafkaAccess
from stream_app.kafka_refusals import KafkaRefuses
from stream_app.reader import UpdatesReader
from stream_app.settings import Settings
from tests.harness.api import TOKEN, start_with_api
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient
from tests.harness.deadline import eventually
from tests.harness.load import Load
from tests.harness.secured_kafka import PASSWORD, SecuredKafka
from tests.harness.stream import Stream
from tests.harness.worker import Worker, environment

pytestmark = pytest.mark.broker


@pytest.fixture(scope="module")
def kafka(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SecuredKafka]:
    with SecuredKafka(tmp_path_factory.mktemp("secured") / "kafka") as server:
        yield server


@pytest.fixture(scope="module")
def witness(kafka: SecuredKafka) -> Iterator[KafkaClient]:
    client = KafkaClient(kafka.bootstrap)
    yield client
    client.close()


@pytest.fixture
def bare(
    kafka: SecuredKafka, witness: KafkaClient, tmp_path: Path, request: pytest.FixtureRequest
) -> Iterator[Stream]:
    """A stream without topics."""
    stream = Stream(witness, tmp_path, SESSION_TIMEOUT_S, **kafka.settings())
    request.node.streams = [stream]
    yield stream
    stream.close()


@pytest.fixture
def secured(kafka: SecuredKafka, bare: Stream) -> Stream:
    """A stream whose topics exist, and whose worker's user has the ACLs that we list."""
    stream = bare
    by_hand = {**stream.raw_settings, "bootstrap_servers": kafka.bootstrap}
    for name in kafka.settings().keys() - {"bootstrap_servers"}:
        del by_hand[name]
    asyncio.run(topics.create(Settings(**by_hand)))  # type: ignore[arg-type]
    kafka.allow(worker_acls(stream.settings))
    return stream


def refusal(worker: Worker) -> str:
    """Return the one line that a worker with exit code 2 ends with; the log tells no secret."""
    assert worker.wait() == 2, worker.log_tail()
    said = worker.log.read_text()
    assert PASSWORD not in said
    assert "Traceback" not in said, said
    errors = [line for line in said.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, said
    return errors[0]


def test_a_worker_with_just_its_acls_goes_all_the_way(secured: Stream) -> None:
    load = Load(events=1_500, users=40, poison=0.02)
    secured.publish(load.catalogue())
    secured.send(load.messages())
    (worker,) = secured.start_workers(1)
    secured.drain()
    secured.stop_workers()
    worker.start().wait_running()  # restores from the changelog
    secured.verify()
    assert PASSWORD not in worker.log.read_text()


def test_the_api_answers_with_the_acls_of_a_worker_that_serves_it(
    kafka: SecuredKafka, secured: Stream
) -> None:
    serving = secured.settings.model_copy(update={"api_token": SecretStr(TOKEN)})
    kafka.allow(worker_acls(serving))
    load = Load(events=60, users=4, items=12, forget=0, leaving=0)
    secured.publish(load.catalogue())
    secured.send(load.messages())
    api = start_with_api(secured)
    api.worker.wait_running()
    secured.drain()

    def neighbours() -> list[object]:
        said = api.of_user("user-0", "neighbours").said
        return said.get("complete") and said["items"]

    assert eventually(neighbours, what=lambda: f"neighbours:\n{api.worker.log_tail()}")


def test_a_reader_and_the_commands_get_in_with_the_same_settings(
    kafka: SecuredKafka, secured: Stream
) -> None:
    async def models() -> int:
        async with UpdatesReader(secured.settings.kafka, secured.settings.updates_topic) as reader:
            await reader.catch_up()
            return len(reader.models)

    assert asyncio.run(models()) == 0
    counts = _command(secured, "topics", "check", "--json")
    assert secured.settings.events_topic in counts.stdout
    assert "the operation DescribeConfigs, which no worker needs" in counts.stderr
    assert secured.settings.changelog_topic in counts.stderr
    shown = _command(secured, "settings")
    assert shown.returncode == 0
    assert PASSWORD not in shown.stdout + shown.stderr


def test_a_certificate_of_our_own_is_shown_where_one_is_asked_for(kafka: SecuredKafka) -> None:
    """With it we are somebody, whom no ACL names here; without it we are not let in at all."""
    ours = KafkaAccess(**kafka.mutual_settings())  # type: ignore[arg-type]
    with pytest.raises(KafkaRefuses, match=r"does not allow certificate .* topic no-such-topic"):
        asyncio.run(topics.partition_count(ours, "no-such-topic"))
    nameless = KafkaAccess(ours.bootstrap_servers, "SSL", kafka.cafile)
    with pytest.raises(KafkaRefuses, match="certificate required"):
        asyncio.run(topics.partition_count(nameless, "no-such-topic"))
    stranger = KafkaAccess(ours.bootstrap_servers, "SSL")  # the system's authorities
    with pytest.raises(KafkaRefuses, match="issuer certificate"):
        asyncio.run(topics.partition_count(stranger, "no-such-topic"))


Change = Callable[[SecuredKafka], dict[str, object]]

REFUSED: dict[str, tuple[Change, tuple[str, ...]]] = {
    "wrong password": (
        lambda kafka: {"sasl_password_file": "", "sasl_password": "not " + PASSWORD},
        ("does not accept user stream", "invalid credentials", "sasl_password"),
    ),
    "expired certificate": (
        lambda kafka: {"bootstrap_servers": kafka.settings("expired")["bootstrap_servers"]},
        ("certificate has expired", "renew"),
    ),
}


@pytest.mark.parametrize(("changed", "words"), REFUSED.values(), ids=REFUSED)
def test_who_is_not_let_in_says_why_in_one_line(
    changed: Change, words: tuple[str, ...], kafka: SecuredKafka, bare: Stream
) -> None:
    said = refusal(bare.worker(**changed(kafka)))
    assert all(word in said for word in words), said


ACLS_TAKEN = {
    "group": lambda s: Acl("group", s.app_id, "Read"),
    "events": lambda s: Acl("topic", s.events_topic, "Read"),
    "updates": lambda s: Acl("topic", s.updates_topic, "Write"),
}


@pytest.mark.parametrize("acl_of", ACLS_TAKEN.values(), ids=ACLS_TAKEN)
def test_a_missing_acl_is_named(
    acl_of: Callable[[Settings], Acl], kafka: SecuredKafka, secured: Stream
) -> None:
    acl = acl_of(secured.settings)
    secured.send(Load(events=50, users=5).messages())
    kafka.forbid(acl)
    said = refusal(secured.worker())
    assert f"{acl.resource} {acl.name}" in said
    assert "topics acls" in said


def test_who_may_not_create_topics_hears_which_right_it_takes(
    kafka: SecuredKafka, bare: Stream
) -> None:
    """As the job of the Kubernetes component `secured` does it, on an empty cluster."""
    kafka.allow(worker_acls(bare.settings))
    wanted = [spec.name for spec in topics.topic_specs(bare.settings)]
    with pytest.raises(KafkaRefuses, match=r"user stream to create .* Create on") as said:
        asyncio.run(topics.create(bare.settings))
    assert all(name in str(said.value) for name in wanted)
    kafka.allow(creation_acls(bare.settings))
    assert sorted(asyncio.run(topics.create(bare.settings))) == sorted(wanted)


def _command(stream: Stream, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "stream_app", *arguments],
        env=environment(stream.raw_settings) | {"COLUMNS": "200", "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=True,
    )
