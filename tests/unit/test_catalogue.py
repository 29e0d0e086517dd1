"""The catalogue's database: what it waits for before it goes on."""

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
from stream_app.status import Counts

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


@pytest.fixture
def make(tmp_path: Path) -> Iterator[Maker]:
    """Make the catalogue of one start of the worker after the other."""
    made: list[Catalogue] = []

    def close() -> None:
        while made:
            made.pop()._db.close()

    def maker(
        bury: Callable[[Sequence[DeadLetter]], Awaitable[None] | None] = lambda _: None,
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


def offset(catalogue: Catalogue) -> int:
    return int(catalogue._db.get(b"o0") or 0)


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
