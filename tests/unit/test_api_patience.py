"""What requests to the API cost the stream: one slice of texts, however many and long they are."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from itertools import pairwise
from typing import Any, cast

import pytest

from state.window import Window
from stream_app import encoding
from stream_app.api import patience
from stream_app.api.patience import PatientEncoder
from stream_app.api.problems import ApiProblem
from stream_app.encoding import WindowEncoder
from stream_app.status import Counts
from tests.harness.served_api import InlineEncoder, ItemTexts

LARGEST = [f"{number:04} " * 200 for number in range(64)]
"""The largest body that the defaults allow: 64 texts of 1,000 characters."""
SLICES = 32
"""Two such texts have no more than _SLICE_BYTES."""


class SlowEncoder(InlineEncoder):
    """Answers in order, each request after a millisecond; keeps what it was asked."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[tuple[str, list[str]]] = []
        """Name of each request as it is sent, and the texts in it."""
        self.go_on = asyncio.Event()
        self.go_on.set()
        self._in_order = asyncio.Lock()

    async def call(self, function: Callable[..., Any], *arguments: Any) -> Any:
        name = function.__name__.removeprefix("request_")
        self.asked.append((name, [text for _, text in arguments[0]] if name == "texts" else []))
        async with self._in_order:
            await asyncio.sleep(0.001)
            await self.go_on.wait()
            return function(*arguments)

    def slices(self) -> list[list[str]]:
        return [texts for name, texts in self.asked if name == "texts"]

    async def until_asked(self, times: int) -> None:
        async with asyncio.timeout(10):
            while len(self.asked) < times:  # noqa: ASYNC110 - it happens in call, many times
                await asyncio.sleep(0.0005)


@pytest.fixture
def process() -> SlowEncoder:
    return SlowEncoder()


@pytest.fixture
def items() -> ItemTexts:
    return ItemTexts()


@pytest.fixture
def encoder(process: SlowEncoder, items: ItemTexts) -> WindowEncoder:
    return WindowEncoder(
        cast(Any, process), items, Counts(), rows=256, with_granularities=False, bury=print
    )


@pytest.fixture
def patient() -> PatientEncoder:
    return PatientEncoder(str)


def seen(*item_ids: str) -> Window:
    count = len(item_ids)
    event_ids = tuple(f"e-{item_id}" for item_id in item_ids)
    return Window(1, event_ids, bytes(count), tuple(range(count)), item_ids)


async def test_a_round_waits_for_one_slice_of_all_requests_together(
    patient: PatientEncoder, encoder: WindowEncoder, process: SlowEncoder, items: ItemTexts
) -> None:
    items |= {"shoes": "red shoes", "a": "a" * 1500, "b": "b" * 1500, "c": "c" * 1500}
    requests = [
        asyncio.create_task(patient.texts(encoder, [f"{number} {text}" for text in LARGEST]))
        for number in range(3)
    ]
    requests.append(asyncio.create_task(patient.by_key(encoder, ["a", "b"])))  # type: ignore[arg-type]
    requests.append(asyncio.create_task(patient.windows(encoder, [seen("a", "c")])))  # type: ignore[arg-type]
    for sent in (1, 5, 20):
        await process.until_asked(sent)
        before = len(process.asked)
        encoder.items_changed(["shoes"])
        encoded = await encoder.encode([seen("shoes")])
        assert not encoded.failures
        assert process.asked[before : before + 2] == [("texts", ["red shoes"]), ("interests", [])]
        assert not all(request.done() for request in requests)
    await asyncio.gather(*requests)


async def test_texts_are_sent_in_slices_and_all_have_their_vectors(
    patient: PatientEncoder, encoder: WindowEncoder, process: SlowEncoder
) -> None:
    texts = [*LARGEST, "x" * 4000, "short", "short too", "short"]
    vectors = await patient.texts(encoder, texts)
    slices = process.slices()
    assert len(slices) == SLICES + 2
    assert slices[-2:] == [["x" * 4000], ["short", "short too"]]
    assert all(sum(map(len, part)) <= encoding._SLICE_BYTES for part in slices[:-2])
    assert all(vector is not None and vector.any() for vector in vectors)
    assert process.asked[-1] == ("item_vectors", [])
    again = await patient.texts(encoder, texts[:1])
    assert again[0] is not None
    assert again[0].tolist() == cast(Any, vectors[0]).tolist()
    assert len(process.slices()) == len(slices), "what has a row is not sent again"


async def test_a_users_texts_are_sent_in_slices_too(
    patient: PatientEncoder, encoder: WindowEncoder, process: SlowEncoder, items: ItemTexts
) -> None:
    items |= {name: name * 1500 for name in "abc"}
    await patient.windows(encoder, [seen("a", "b"), seen("a", "b", "c")])
    assert process.slices() == [[items[name]] for name in "abc"]


async def test_after_a_restart_of_the_encoder_all_is_new_to_it(
    patient: PatientEncoder, encoder: WindowEncoder, process: SlowEncoder
) -> None:
    await patient.texts(encoder, LARGEST)
    process.epoch += 1
    await patient.texts(encoder, LARGEST)
    assert [len(part) for part in process.slices()] == [2] * SLICES * 2


async def test_what_is_too_late_is_not_sent_any_more(
    patient: PatientEncoder,
    encoder: WindowEncoder,
    process: SlowEncoder,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "_ANSWER_S", 0.05)
    process.go_on.clear()
    late = [patient.texts(encoder, [f"{number}", *LARGEST]) for number in range(3)]
    for answer in await asyncio.gather(*late, return_exceptions=True):
        assert isinstance(answer, ApiProblem)
        assert answer.message == "no answer within 0.05 s"
    process.go_on.set()
    monkeypatch.setattr(patience, "_ANSWER_S", 10)
    assert await patient.texts(encoder, ["in time"])
    assert [part[-1] for part in process.slices()] == [LARGEST[1], "in time"]
    (vector,) = await patient.texts(encoder, LARGEST[:1])
    assert vector is not None
    assert vector.any(), "the slice under way came to its end"


async def test_the_loop_goes_on_between_two_texts_that_are_masked(
    encoder: WindowEncoder,
) -> None:
    happened = []

    def as_stored(text: str) -> str:
        happened.append("masked")
        return text

    async def beat() -> None:
        while True:
            happened.append("beat")
            await asyncio.sleep(0)

    heart = asyncio.create_task(beat())
    patient = PatientEncoder(as_stored)
    await asyncio.gather(*(patient.texts(encoder, ["a", "b", "c"]) for _ in range(4)))
    heart.cancel()
    assert happened.count("masked") == 12
    assert all("beat" in pair for pair in pairwise(happened))
