"""The broker goes away under a running worker and comes back: the worker waits and goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest
import uvloop
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest

from stream_app.kafka_server import KafkaServer
from stream_app.lost_connections import let_aiokafka_notice
from tests.harness.broker import SESSION_TIMEOUT_S
from tests.harness.client import KafkaClient
from tests.harness.deadline import PATIENCE_S, eventually
from tests.harness.load import Load
from tests.harness.stream import Stream

pytestmark = pytest.mark.faults

LOAD = Load(events=8_000, users=100)
IN_FLIGHT: dict[str, object] = {"delivery_timeout_s": 5, "checkpoint_interval_ms": 5_000}
"""Little is stored yet when the broker goes: the worker has something to wait with."""


@pytest.fixture
def own_broker(tmp_path: Path) -> Iterator[KafkaServer]:
    """A broker of this test's own: the session's must not be harmed."""
    with KafkaServer(tmp_path / "own-kafka") as server:
        yield server


@pytest.mark.parametrize("how", ["stop", "kill"])
def test_a_broker_restarted_under_load_costs_time_and_nothing_else(
    how: str, own_broker: KafkaServer, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    folder = tmp_path / f"restarted-{how}"
    folder.mkdir()
    client = KafkaClient(own_broker.bootstrap)
    stream = Stream(client, folder, SESSION_TIMEOUT_S, **IN_FLIGHT)
    request.node.streams = [stream]
    try:
        _play(stream.create_topics(), own_broker, how)
    finally:
        stream.close()
        client.close()


def _play(stream: Stream, broker: KafkaServer, how: str) -> None:
    messages = LOAD.messages()
    half = len(messages) // 2
    stream.publish(LOAD.catalogue())
    (worker,) = stream.start_workers(1)
    stream.send(messages[:half])
    worker.wait_counts("folded", half // 4)
    getattr(broker, how)()
    eventually(
        lambda: worker.alive and worker.said("no heartbeat confirmed"),
        what=lambda: f"the worker telling that it waits:\n{worker.log_tail()}",
    )
    broker.start()
    stream.send(messages[half:])
    stream.verify()


def test_a_request_on_a_connection_closed_this_instant_is_one_on_a_lost_connection(
    broker: str,
) -> None:
    let_aiokafka_notice()

    async def close_and_go_on() -> None:
        async with AIOKafkaProducer(bootstrap_servers=broker) as producer:
            node = producer.client.get_random_node()
            connection = await producer.client._get_conn(node)
            connection._writer.transport.abort()
            await asyncio.sleep(0)  # closed now
            with pytest.raises(KafkaConnectionError, match="closed"):
                await connection.send(MetadataRequest([]))
            async with asyncio.timeout(PATIENCE_S):
                assert await producer.client.force_metadata_update()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(close_and_go_on())
