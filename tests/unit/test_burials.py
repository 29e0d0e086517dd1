"""Dead letters of no source partition: who waits for them, and who hears of failures."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import pytest

from stream_app import burials
from stream_app.burials import Burials
from stream_app.dead_letters import DeadLetter
from stream_app.kafka_refusals import KafkaRefuses
from stream_app.meters import Meters
from stream_app.producer import DeliveryFailed, OutRecord
from stream_app.settings import Settings
from stream_app.status import Counts

LETTERS = [DeadLetter(b"a", b"{}", "invalid-item", "no text", "items", 1, at) for at in range(5)]


class Producer:
    """Fails as it is told, then takes everything."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.sent: list[list[OutRecord]] = []

    async def partitions(self, topic: str) -> int:
        return 8

    async def send(self, topic: str, partition: int, records: Sequence[OutRecord]) -> int:
        if self.failures:
            raise self.failures.pop(0)
        self.sent.append(list(records))
        return 0


def made(producer: Any, failed: list[BaseException], counts: Counts) -> Burials:
    return Burials(Settings(), producer, counts, Meters(), failed.append)


async def test_items_of_a_fetch_are_one_delivery_that_can_be_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(burials, "_RETRY_S", 0.001)
    producer, counts = Producer(DeliveryFailed("no answer")), Counts()
    buried = made(producer, [], counts)
    await buried.bury_items(LETTERS)
    ((*records,),) = producer.sent
    assert records == [letter.record() for letter in LETTERS]
    assert [each.offset for each in buried.last] == [0, 1, 2, 3, 4]
    assert counts.delivery_retries == 1


async def test_what_no_retry_mends_is_told() -> None:
    """To who waits; and where nobody does, to the worker."""
    failed: list[BaseException] = []
    buried = made(Producer(KafkaRefuses("an ACL"), KafkaRefuses("an ACL")), failed, Counts())
    with pytest.raises(KafkaRefuses):
        await buried.bury_items(LETTERS)
    assert failed == []
    buried.bury_alone(LETTERS[0])
    async with asyncio.timeout(10):
        while not failed:  # noqa: ASYNC110 - a callback, which nobody awaits
            await asyncio.sleep(0.001)
    assert [type(each) for each in failed] == [KafkaRefuses]
