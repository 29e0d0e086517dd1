"""Events produced in transactions: what was aborted never happened, no marker holds a commit up.

The markers and the aborted records lie in the log as gaps, at its end, too.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer

from tests.conftest import StreamMaker
from tests.harness.client import Message
from tests.harness.deadline import eventually
from tests.harness.load import Load
from tests.harness.stream import Stream

pytestmark = pytest.mark.faults

LOAD = Load(events=2_000, users=60)
CHUNK = 50
"""Events of one transaction."""


async def _produce(stream: Stream, chunks: Sequence[Sequence[Message]]) -> None:
    producer = AIOKafkaProducer(
        bootstrap_servers=stream.client.bootstrap, transactional_id=stream.settings.app_id
    )
    await producer.start()
    try:
        for number, chunk in enumerate(chunks):
            await producer.begin_transaction()
            for message in chunk:
                await producer.send(
                    stream.settings.events_topic, key=message.key, value=message.value
                )
            await (
                producer.abort_transaction()
                if is_aborted(number)
                else producer.commit_transaction()
            )
    finally:
        await producer.stop()


def is_aborted(number: int) -> bool:
    """Tell whether the transaction is one of those that are aborted: every third one."""
    return number % 3 == 0


def produce_in_transactions(stream: Stream, messages: Sequence[Message]) -> int:
    """Write the messages in transactions, and return how many events were committed."""
    chunks = [messages[start : start + CHUNK] for start in range(0, len(messages), CHUNK)]
    while not is_aborted(len(chunks) - 1):  # the log has to end with an aborted one
        chunks.append(messages[:CHUNK])
    asyncio.run(_produce(stream, chunks))
    return sum(len(chunk) for number, chunk in enumerate(chunks) if not is_aborted(number))


def test_aborted_events_are_left_out_and_markers_committed(stream: Stream) -> None:
    stream.publish(LOAD.catalogue())
    (worker,) = stream.start_workers(1)
    stream.watch_commits()
    committed = produce_in_transactions(stream, LOAD.messages())
    stream.drain()  # up to the ends of the log, behind the last aborted transaction
    worker.wait_counts("records", committed)
    eventually(  # a status is written every so often: this one may be of a moment before
        lambda: worker.status()["backlog"] == 0,
        what=lambda: f"no backlog in {worker.status()}",
    )
    reference = stream.verify()
    assert sum(reference.outcomes.values()) == committed
    assert stream.counts()["records"] == committed


def test_a_worker_may_be_told_to_take_aborted_events_too(make_stream: StreamMaker) -> None:
    stream = make_stream(isolation_level="read_uncommitted")
    (worker,) = stream.start_workers(1)
    messages = LOAD.messages()[:200]
    produce_in_transactions(stream, messages)
    stream.drain()
    worker.wait_counts("records", 200)
