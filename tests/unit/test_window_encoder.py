"""Vectors that are no numbers: found, halved down to the user they are of, never handed on."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np
import pytest

import encoders
from encoders.interface import Float32, Interests, TextReport
from state.window import Window
from stream_app import encoder_child
from stream_app.dead_letters import DeadLetter
from stream_app.encoder_process import EncoderFailed, EncoderProcess, EncoderRaised
from stream_app.encoding import WindowEncoder
from stream_app.settings import Settings
from stream_app.status import Counts


class Titles:
    """A catalogue in which every item is called by its id."""

    def texts(self, item_ids: Sequence[str]) -> list[str | None]:
        return list(item_ids)

    def media(self, item_ids: Sequence[str]) -> list[Float32 | None]:
        return [None] * len(item_ids)


class Inline:
    """An encoder process without a process: the stub, whose vectors of some texts are NaN."""

    epoch = 1

    def __init__(self) -> None:
        config = Settings(encoder="stub", stub_dimensions=8, text_cache_rows=64).encoder_config()
        self._encoder = encoders.build(config)
        self.info = self._encoder.info
        self._bad_rows: set[int] = set()
        self.batches: list[int] = []
        self.asked: list[str] = []

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        self.asked.append(function.__name__.removeprefix("request_"))
        await asyncio.sleep(0)
        if function is encoder_child.request_texts:
            self._bad_rows |= {row for row, text in arguments[0] if text.startswith("bad")}
            return self._encoder.put_texts(*arguments)
        if function is encoder_child.request_item_vectors:
            vectors = self._encoder.item_vectors(*arguments)
            vectors[np.isin(arguments[0], list(self._bad_rows))] = np.inf
            return vectors
        assert function is encoder_child.request_interests
        return self._interests(arguments[0])

    def _interests(self, batch: encoders.WindowBatch) -> Interests:
        interests = self._encoder.encode(batch)
        users = len(batch.offsets) - 1
        self.batches.append(users)
        for user in range(users):
            rows = batch.rows[batch.offsets[user] : batch.offsets[user + 1]]
            if self._bad_rows & set(rows.tolist()):
                interests.vectors[user, 3] = np.nan
        return interests


@pytest.fixture
def letters() -> list[DeadLetter]:
    return []


@pytest.fixture
def process() -> Inline:
    return Inline()


@pytest.fixture
def encoder(process: Inline, letters: list[DeadLetter]) -> WindowEncoder:
    return WindowEncoder(
        cast(EncoderProcess, process),
        Titles(),
        Counts(),
        rows=64,
        with_granularities=False,
        bury=letters.append,
    )


def seen(item: str) -> Window:
    return Window(1, ("e",), b"\x00", (1,), (item,))


async def test_a_vector_that_is_no_numbers_fails_its_user_alone(
    encoder: WindowEncoder, process: Inline
) -> None:
    users = ["good-0", "good-1", "good-2", "bad-3", "good-4", "bad-5", "good-6", "good-7"]
    encoded = await encoder.encode([seen(item) for item in users])
    rows = list(encoded.rows())
    for item, (vector, *_, failure) in zip(users, rows, strict=True):
        if item.startswith("bad"):
            assert vector is None
            assert "NaN" in failure
        else:
            assert vector is not None
            assert np.linalg.norm(vector) == pytest.approx(1)
    assert process.batches[:2] == [8, 8], "the same once more, then halved"
    assert sorted(set(process.batches)) == [1, 2, 4, 8]


async def test_an_item_without_numbers_is_buried_and_the_others_published(
    encoder: WindowEncoder, letters: list[DeadLetter]
) -> None:
    items, vectors = await encoder.item_vectors(["good-0", "bad-1", "good-2"])
    assert items == ["good-0", "good-2"]
    assert vectors.shape == (2, 8)
    assert np.isfinite(vectors).all()
    ((key, value, reason, *_),) = letters
    assert (key, value, reason) == (b"bad-1", b"bad-1", "text-not-encodable")


async def test_users_wait_for_a_slice_of_the_items_texts_and_not_for_all(
    encoder: WindowEncoder, process: Inline
) -> None:
    items = [f"{name} " * 700 for name in ("one", "two", "three", "four")]
    whole = asyncio.create_task(encoder.item_vectors(items))
    await asyncio.sleep(0)
    assert process.asked == ["texts"], "the first item is on its way"
    await encoder.encode([seen("short")])
    at = process.asked.index("interests")
    assert process.asked[:at].count("texts") <= 3, "two items at most, and the user's own"
    found, vectors = await whole
    assert found == items
    assert len(vectors) == 4
    assert process.asked.count("texts") == 5
    assert process.asked[-1] == "item_vectors"


class Shelf(Inline):
    """Remembers which text lies in which row, and of which texts each user's vector was made."""

    def __init__(self) -> None:
        super().__init__()
        self.text_of: dict[int, str] = {}
        self.made_of: list[str | None] = []

    def restart(self) -> None:
        self.text_of.clear()
        self.epoch += 1

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if function is encoder_child.request_texts:
            self.text_of |= dict(arguments[0])
            return TextReport(hits_memory=0, encoded=len(arguments[0]), tokens=0)
        if function is encoder_child.request_forgetting:
            return None
        (batch, *_) = arguments
        self.made_of = [self.text_of.get(row) for row in batch.rows.tolist()]
        return Interests(np.zeros((len(batch.offsets) - 1, 8), np.float32), None, None)


@dataclass
class Changing(Titles):
    """A catalogue in which items get other texts."""

    edition: dict[str, str] = field(default_factory=dict)
    missing: set[str] = field(default_factory=set)

    def texts(self, item_ids: Sequence[str]) -> list[str | None]:
        return [None if item in self.missing else self.edition.get(item, item) for item in item_ids]


USERS = [seen(f"item {number}") for number in range(600)]
"""More than are resolved before the event loop may run something else."""


def shelved(shelf: Shelf, catalogue: Changing) -> WindowEncoder:
    return WindowEncoder(
        cast(EncoderProcess, shelf), catalogue, Counts(),
        rows=1024, with_granularities=False, bury=lambda letter: None,
    )  # fmt: skip


async def after_turns(turns: int, what: Callable[[], Any]) -> None:
    for _ in range(turns):
        await asyncio.sleep(0)
    what()


@pytest.mark.parametrize("turns", range(6))
async def test_an_item_that_changes_meanwhile_gives_no_user_another_items_text(turns: int) -> None:
    shelf, catalogue = Shelf(), Changing()
    encoder = shelved(shelf, catalogue)
    await encoder.encode(USERS)

    def change() -> None:
        catalogue.edition["item 0"] = "another text of item 0"
        encoder.items_changed(["item 0"])

    fresh = seen("a fresh item")
    await asyncio.gather(encoder.encode([*USERS, fresh]), after_turns(turns, change))
    first, *others = shelf.made_of
    assert first in ("item 0", "another text of item 0")
    assert others == [*(f"item {number}" for number in range(1, 600)), "a fresh item"]


@pytest.mark.parametrize(
    ("failure", "tries"), [(EncoderFailed("it died"), 12), (EncoderRaised("no"), 1)]
)
async def test_a_text_is_dropped_however_often_the_process_dies_of_another(
    monkeypatch: pytest.MonkeyPatch, failure: EncoderFailed, tries: int
) -> None:
    """A user who kills it is looked for by halves: each time it takes the forget with it."""
    shelf = Shelf()
    encoder = shelved(shelf, Changing())
    call, failed = shelf.call, 0

    async def dying(*arguments: Any) -> Any:
        nonlocal failed
        if failed < tries:
            failed += 1
            shelf.restart()
            raise failure
        return await call(*arguments)

    monkeypatch.setattr(shelf, "call", dying)
    await encoder.forget(["a secret"])
    assert failed == tries


async def test_a_forget_that_raises_twice_or_dies_for_ever_is_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    shelf = Shelf()
    encoder = shelved(shelf, Changing())
    for failure, most in ((EncoderRaised("no"), 2), (EncoderFailed("it died"), 100)):
        calls = 0

        async def failing(*_: Any, failure: EncoderFailed = failure) -> Any:
            nonlocal calls
            calls += 1
            raise failure

        monkeypatch.setattr(shelf, "call", failing)
        with pytest.raises(type(failure)):
            await encoder.forget(["a secret"])
        assert calls <= most


@pytest.mark.parametrize("turns", range(6))
async def test_no_user_is_encoded_by_rows_of_a_process_that_is_gone(turns: int) -> None:
    shelf = Shelf()
    encoder = shelved(shelf, Changing())
    await encoder.encode(USERS)
    await asyncio.gather(encoder.encode(USERS), after_turns(turns, shelf.restart))
    assert shelf.made_of == [f"item {number}" for number in range(600)]


async def test_an_item_unknown_before_a_restart_is_told_of_when_it_arrives() -> None:
    shelf, catalogue = Shelf(), Changing(missing={"late"})
    encoder = shelved(shelf, catalogue)
    await encoder.encode([seen("late")])
    shelf.restart()
    await encoder.encode([seen("another")])
    catalogue.missing.clear()
    assert encoder.items_changed(["late"]) == {"late"}
