"""What we use of Faust's inside: a new Faust that changes it must fail here, by name."""

from __future__ import annotations

import inspect
from collections import defaultdict
from importlib.metadata import version
from types import SimpleNamespace
from typing import Any

import faust
import pytest
from aiokafka.consumer.group_coordinator import GroupCoordinator
from faust.stores.base import Store
from faust.tables.recovery import Recovery
from faust.transport.consumer import Consumer, ThreadDelegateConsumer
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from stream_app.delivery import BatchConsumer, RecordBatch

SOURCE = TP("events", 0)
OTHER = TP("changelog", 0)

USED = [
    (driver.Consumer, "_new_consumer_thread"),
    (driver.Consumer, "_to_message"),
    (Consumer, "_add_gap"),
    (Consumer, "_new_offset"),
    (Consumer, "_get_active_partitions"),
    (Consumer, "perform_seek"),
    (Consumer, "getmany"),
    (ThreadDelegateConsumer, "_getmany"),
    (driver.AIOKafkaConsumerThread, "_commit"),
    (driver.AIOKafkaConsumerThread, "_ensure_consumer"),
    (driver.AIOKafkaConsumerThread, "on_start"),
    (driver.Transport, "Consumer"),
    (faust.Table, "_new_store"),
    (faust.Table, "on_recovery_completed"),
    (faust.App, "FlowControlQueue"),
    (faust.App, "on_first_start"),
    (faust.App, "on_stop"),
    (faust.App, "on_shutdown"),
    (Recovery, "flush_buffers"),
    (Store, "on_rebalance"),
    (GroupCoordinator, "_do_heartbeat"),
]


def test_this_is_the_faust_it_was_written_for() -> None:
    assert version("faust-streaming").startswith("0.15."), (
        "faust-streaming has changed: read stream_app/delivery.py against it, then pin it anew"
    )


@pytest.mark.parametrize(("owner", "name"), USED, ids=lambda part: getattr(part, "__name__", part))
def test_every_private_name_is_still_there(owner: type, name: str) -> None:
    assert hasattr(owner, name), (
        f"{owner.__module__}.{owner.__qualname__}.{name} is gone: stream_app/delivery.py needs it"
    )


def test_the_consumer_still_keeps_its_acks_where_we_take_them() -> None:
    source = inspect.getsource(Consumer)
    for name in ("_acked", "_acked_index", "flow_active", "can_resume_flow"):
        assert f"self.{name}" in source, f"Consumer.{name} is gone: BatchConsumer needs it"


def bare_consumer() -> Any:
    """A consumer with only what commits and messages need: no thread, no broker."""
    consumer: Any = object.__new__(BatchConsumer)
    consumer.source_topic = "events"
    consumer._acked = {SOURCE: [], OTHER: []}
    consumer._acked_index = {SOURCE: set(), OTHER: set()}
    return consumer


def test_the_last_acknowledged_fetch_says_all() -> None:
    consumer = bare_consumer()
    assert consumer._new_offset(SOURCE) is None
    consumer._acked[SOURCE] += [499, 1300]  # the last offsets of two fetches, with a gap between
    consumer._acked_index[SOURCE] |= {499, 1300}
    assert consumer._new_offset(SOURCE) == 1301
    assert consumer._new_offset(SOURCE) is None
    assert not consumer._acked_index[SOURCE]


async def test_no_gaps_are_kept_for_the_source_topic() -> None:
    consumer = bare_consumer()
    await consumer._add_gap(SOURCE, 5, 9)  # would raise, for there is no interval tree here


def record(offset: int) -> Any:
    return SimpleNamespace(
        topic="events", partition=0, offset=offset, timestamp=1000, timestamp_type=0
    )


def test_a_fetch_is_one_message_at_its_last_offset_and_numbered() -> None:
    consumer = bare_consumer()
    consumer._sequences = defaultdict(int)
    consumer._sequences_since = 1
    consumer.app = SimpleNamespace(rebalancing_count=1)
    records = [record(7), record(8), record(12)]
    message = consumer._batch_message(SOURCE, records, generation=4)
    assert (message.offset, message.tp, message.generation_id) == (12, SOURCE, 4)
    assert message.value == RecordBatch(0, records)
    assert consumer._batch_message(SOURCE, records, 4).value.sequence == 1
    consumer.app.rebalancing_count = 2
    assert consumer._batch_message(SOURCE, records, 5).value.sequence == 0


def test_what_is_fetched_at_the_end_of_a_rebalance_is_kept_until_it_is_over() -> None:
    consumer = bare_consumer()
    consumer._held = [(4, SOURCE, [record(7)]), (3, SOURCE, [record(1)])]
    consumer.app = SimpleNamespace(rebalancing=True, consumer_generation_id=4)
    assert consumer._released() == []
    consumer.app.rebalancing = False
    (kept,) = consumer._released()
    assert (kept[0], kept[1][0].offset) == (SOURCE, 7)  # of this generation only
    assert consumer._released() == []
