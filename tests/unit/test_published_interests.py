"""The K vectors of a user: out of the encoder process, into an update, and back."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

import encoders
from encoders import EncoderConfig
from encoders.interface import Float32, Interests, WindowBatch
from encoders.text_encoder import TextEncoder
from encoders.training.run import TrainingData, train
from encoders.training.settings import TrainingSettings
from state.event import TYPE_CODES, Event, EventType
from state.window import Window, WindowPolicy, fold
from stream_app import encoder_child, updates
from stream_app.encoder_process import EncoderFailed, EncoderProcess
from stream_app.encoding import WindowEncoder
from stream_app.status import Counts
from stream_app.updates import UpdateEncoder
from tests.conformance.models import tiny_bert
from tests.conformance.trained import Silent
from tests.harness.clusters import clustered

TEXTS = {"a": "the quick fox", "b": "lazy dog story", "c": "winter boots"}

ALONE = WindowBatch(
    rows=np.zeros(1, np.int32),
    offsets=np.array([0, 1], np.int64),
    times_ms=np.zeros(1, np.int64),
    types=np.array([TYPE_CODES[EventType.VIEW]], np.uint8),
    dwell_ms=np.full(1, -1, np.int32),
)
"""One user, whose one event is of row 0, as ``window`` makes it."""


class Catalogue:
    """Item texts without a topic."""

    def texts(self, item_ids: Sequence[str]) -> list[str | None]:
        return [TEXTS.get(item_id) for item_id in item_ids]

    def media(self, item_ids: Sequence[str]) -> list[Float32 | None]:
        return [None for _ in item_ids]


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    """A model trained for a moment to have three vectors per user beside the one."""
    folder = tmp_path_factory.mktemp("models")
    text_model = str(tiny_bert(folder / "bert"))
    plain = EncoderConfig(text_model=text_model, device="cpu", slab_rows=64)
    settings = TrainingSettings(
        dimensions=16, layers=1, tower_hidden=16, epochs=1, batch_windows=16, interests=3
    )
    data = TrainingData(clustered(users=12))
    train(data, settings, plain, folder / "trained", Silent(), text_encoder=TextEncoder(plain))
    return replace(plain, interest_model=str(folder / "trained"))


def window(*item_ids: str) -> Window:
    found: Window | None = None
    for at, item_id in enumerate(item_ids):
        event = Event(f"e{at}", "u", EventType.VIEW, item_id, None, at * 60_000)
        found, _ = fold(found, event, at, WindowPolicy())
    assert found is not None
    return found


def of_windows(process: EncoderProcess, *, with_several: bool) -> WindowEncoder:
    return WindowEncoder(
        process, Catalogue(), Counts(), rows=64, with_granularities=True,
        with_several=with_several, bury=lambda letter: None,
    )  # fmt: skip


async def test_the_process_gives_them_where_they_are_asked_for(config: EncoderConfig) -> None:
    process = EncoderProcess(config, start_timeout_s=120, request_timeout_s=60)
    info = await process.start()
    try:
        assert (info.interests, info.dimensions) == (3, 16)
        windows = [window("a", "b"), window("nobody knows it"), window("b")]
        asked = await of_windows(process, with_several=True).encode(windows)
        plain = await of_windows(process, with_several=False).encode(windows)
    finally:
        await process.stop()
    here = encoders.build(config)
    here.put_texts([(0, TEXTS["b"])])
    wanted = here.encode(ALONE).several
    here.close()
    assert asked.several is not None
    assert wanted is not None
    assert asked.several.shape == (3, 3, 16)
    assert np.allclose(asked.several[2], wanted[0], atol=1e-6)
    assert not np.allclose(asked.several[2, 0], asked.several[2, 1], atol=1e-2)
    assert not asked.several[1].any(), "of whom no text is known"
    assert plain.several is None
    assert np.array_equal(plain.vectors, asked.vectors)
    _assert_published(asked.several[2], asked.vectors[2], info.model_id)


def _assert_published(several: Float32, vector: Float32, model_id: str) -> None:
    for update_format in ("json", "avro"):
        made = UpdateEncoder(update_format, model_id, "events", [], [])  # type: ignore[arg-type]
        update = updates.decode(made.encode("u", vector, None, 7, 2, 9, 1, several))
        assert [list(interest) for interest in update.interests] == several.tolist()
        assert list(update.vector) == vector.tolist()


class Failing:
    """In place of a process: it fails over every request that holds the poison."""

    epoch = 1

    def __init__(self, info: encoders.EncoderInfo) -> None:
        self.info = info

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        if function is encoder_child.request_texts:
            return encoders.TextReport()
        batch = arguments[0]
        lengths = np.diff(batch.offsets)
        if 2 in lengths:
            raise EncoderFailed("poison")
        users = len(lengths)
        shape = (users, 2, 4)
        return Interests(np.ones((users, 4), np.float32), np.ones(shape, np.float32),
                         np.full(shape, 2, np.float32))  # fmt: skip


@pytest.mark.parametrize("poisoned", [0, 2, 4])
async def test_a_user_who_fails_costs_the_others_nothing(poisoned: int) -> None:
    info = encoders.build(EncoderConfig(kind="stub", stub_dimensions=4)).info
    process: Any = Failing(info)
    windows = [window("a", "b") if at == poisoned else window("a") for at in range(5)]
    found = await of_windows(process, with_several=True).encode(windows)
    assert list(found.failures) == [poisoned]
    for at, result in enumerate(found.rows()):
        if at == poisoned:
            assert result.vector is None
            assert result.failure == "poison"
            continue
        assert result.granularities is not None
        assert result.several is not None
        assert (result.granularities == 1).all()
        assert (result.several == 2).all()
