"""The catalogue's database: what it waits for before it goes on, and when it is begun anew."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from aiokafka.structs import ConsumerRecord, TopicPartition

from stream_app.catalogue import Catalogue
from stream_app.dead_letters import DeadLetter
from stream_app.delivery.window_table import DATABASE_MAX_AGE_MS
from stream_app.status import Counts

DAY_MS = 86_400_000
TOPIC = "items"
TP = TopicPartition(TOPIC, 0)

Maker = Callable[..., Catalogue]


def now_ms() -> int:
    return int(time.time() * 1000)


def record(offset: int, item_id: str, text: str | None, value: bytes | None = None) -> Any:
    if text is not None:
        value = json.dumps({"item_id": item_id, "text": text}).encode()
    key = item_id.encode()
    return ConsumerRecord(TOPIC, 0, offset, now_ms(), 0, key, value, None, 0, 0, ())


async def nowhere(_: Sequence[DeadLetter]) -> None:
    """Where a catalogue without bad records buries them."""


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    """Make the catalogue of one start of the worker after the other."""
    made: list[Catalogue] = []

    def close() -> None:
        while made:
            made.pop()._db.close()

    def maker(
        bury: Callable[[Sequence[DeadLetter]], Awaitable[None]] = nowhere,
    ) -> Catalogue:
        close()
        made.append(
            Catalogue(
                tmp_path / "catalogue",
                TOPIC,
                "",
                Counts(),
                max_text_chars=100,
                isolation_level="read_committed",
                changed=lambda _: None,
                bury=bury,
            )
        )
        return made[-1]

    yield maker
    close()


class Topic:
    """A consumer that has read up to ``position`` of a topic, as far as the broker told."""

    def __init__(self, position: int, end: int | None, told_ms: int | None) -> None:
        self.at, self.end, self.told_ms = position, end, told_ms

    def assignment(self) -> set[TopicPartition]:
        return {TP}

    def highwater(self, tp: TopicPartition) -> int | None:
        return self.end

    async def position(self, tp: TopicPartition) -> int:
        return self.at

    def last_poll_timestamp(self, tp: TopicPartition) -> int | None:
        return self.told_ms


def offset(catalogue: Catalogue) -> int:
    return int(catalogue._db.get(b"o0") or 0)


def as_of_ms(catalogue: Catalogue) -> int:
    return int(catalogue._db[b"t"])


def age(catalogue: Catalogue, days: float) -> None:
    catalogue._db[b"t"] = b"%d" % (now_ms() - int(days * DAY_MS))


async def test_what_is_no_item_is_buried_before_the_offset_says_it_was_read(make: Maker) -> None:
    """All of a fetch at once; a stop or a kill in between has it read again."""
    buried: list[Sequence[DeadLetter]] = []
    acknowledged = asyncio.Event()

    async def bury(letters: Sequence[DeadLetter]) -> None:
        buried.append(letters)
        await acknowledged.wait()

    catalogue = make(bury)
    bad = [record(at, "a", None, b"{}") for at in range(3)]
    reading = asyncio.create_task(catalogue._apply({TP: [*bad, record(3, "b", "tent")]}))
    await asyncio.sleep(0.01)
    ((*letters,),) = buried
    assert [letter.offset for letter in letters] == [0, 1, 2]
    assert {letter.reason for letter in letters} == {"invalid-item"}
    assert offset(catalogue) == 0
    assert catalogue.texts(["b"]) == [None]
    acknowledged.set()
    await reading
    assert offset(catalogue) == 4
    assert catalogue.texts(["b"]) == ["tent"]
    assert catalogue._counts.items_refused == 3


async def test_a_burial_that_no_retry_mends_ends_the_reading(make: Maker) -> None:
    async def bury(letters: Sequence[DeadLetter]) -> None:
        raise PermissionError("an ACL is missing")

    catalogue = make(bury)
    with pytest.raises(PermissionError):
        await catalogue._apply({TP: [record(0, "a", None, b"{}")]})
    assert offset(catalogue) == 0


async def test_a_young_database_goes_on_where_it_left_off(
    make: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    before = make()
    assert abs(as_of_ms(before) - now_ms()) < 60_000, "a new one is as old as its beginning"
    await before._apply({TP: [record(7, "a", "tent")]})
    age(before, DATABASE_MAX_AGE_MS / DAY_MS - 1)
    since_ms = as_of_ms(before)
    catalogue = make()
    assert (offset(catalogue), catalogue.known) == (8, 1)
    assert as_of_ms(catalogue) == since_ms
    assert caplog.messages == []


@pytest.mark.parametrize("days", [5, None])
async def test_one_that_tombstones_may_have_outlived_is_read_anew(
    make: Maker, days: int | None, caplog: pytest.LogCaptureFixture
) -> None:
    """Or one of a version that stored no time."""
    before = make()
    await before._apply({TP: [record(7, "deleted", "tent")]})
    before.mark_published([("deleted", b"m")])
    if days is None:
        del before._db[b"t"]
    else:
        age(before, days)
    catalogue = make()
    assert (offset(catalogue), catalogue.known) == (0, 0)
    assert list(catalogue.marked()) == []
    (line,) = caplog.messages
    assert "is read anew" in line
    await catalogue._apply({TP: [record(9, "b", "stove")]})
    assert make().texts(["b"]) == ["stove"]
    assert len(caplog.messages) == 1, "once"


@pytest.mark.parametrize(
    ("consumer", "renewed"),
    [
        pytest.param(Topic(8, 8, now_ms()), True, id="at the end"),
        pytest.param(Topic(8, 9, now_ms()), False, id="more to come"),
        pytest.param(Topic(8, None, None), False, id="never told"),
        pytest.param(Topic(8, 8, now_ms() - 3 * DAY_MS), False, id="silent for days"),
    ],
)
async def test_it_is_as_young_as_the_brokers_last_word_that_nothing_more_is_there(
    make: Maker, consumer: Any, renewed: bool
) -> None:
    catalogue = make()
    age(catalogue, 3)
    before_ms = as_of_ms(catalogue)
    await catalogue._renew(consumer)
    if renewed:
        assert as_of_ms(catalogue) == consumer.told_ms
    else:
        assert as_of_ms(catalogue) - before_ms < 60_000


async def test_idle_polls_renew_it(make: Maker) -> None:
    catalogue = make()
    age(catalogue, 3)
    polled = asyncio.Event()

    class Idle(Topic):
        async def getmany(self, **_: Any) -> dict[TopicPartition, list[ConsumerRecord]]:
            polled.set()
            await asyncio.sleep(0.001)
            return {}

    consumer: Any = Idle(0, 0, now_ms())
    catalogue._consumer = consumer
    following = asyncio.create_task(catalogue.follow())
    await polled.wait()
    async with asyncio.timeout(10):
        while as_of_ms(catalogue) != consumer.told_ms:  # noqa: ASYNC110 - a database tells nobody
            await asyncio.sleep(0.001)
    following.cancel()


async def test_marks_are_listed_and_taken_back(make: Maker) -> None:
    catalogue = make()
    await catalogue._apply({TP: [record(0, "a", "tent"), record(1, "b", "stove")]})
    catalogue.mark_published([("a", b"1"), ("b", b"2")])
    assert list(catalogue.marked()) == ["a", "b"]
    catalogue.unmark(["a"])
    assert catalogue.published(["a", "b"]) == [None, b"2"]
