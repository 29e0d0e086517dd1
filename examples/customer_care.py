"""What is this user into now? An answer in words, for somebody who has the user on the phone.

    python examples/customer_care.py alice --least-items 1

Three lists. *Words* of the catalogue's texts, nearest to the user: half of a word's vector is the
word alone, embedded as an item would be, half the mean of the items that use it. Words that stand
in very few or very many texts, or mean nothing alone, are left out. *Items* nearest to the user.
*Events*: by how far the vector turns when one of them had not been, which can be asked of any
model, trained or not (deletion, as in Samek et al. 2017, section III).

The window is read from the changelog, so this is of the worker's version; the settings must be
the worker's, too, for the words have to go through the model that made the vectors.
"""

from __future__ import annotations

import asyncio
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated, Any

import msgspec
import numpy as np
import numpy.typing as npt
import typer
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

import encoders
from encoders import InterestEncoder, WindowBatch
from state.event import TYPE_CODES, Event
from state.window import Window
from stream_app.compacted_topic import latest_records
from stream_app.errors import FixData, FixSettings, InterestStreamError
from stream_app.item_record import REFUSALS, Item
from stream_app.settings import Settings, load
from stream_app.user_view import ItemSpace, UserView, read_item_space, read_user

EXAMPLE = "Example: python examples/customer_care.py alice --least-items 1"

Float32 = npt.NDArray[np.float32]
_WORD = re.compile(r"[^\W\d_]{3,}(?:['’-][^\W\d_]+)*")
MOST_WORDS = 5_000
"""Embedded per question, the most used first: some seconds on a CPU."""


@dataclass(frozen=True)
class Topics:
    """What was read of one user."""

    view: UserView
    catalogue: Mapping[str, Mapping[str, Any]]
    space: ItemSpace


def customer_care(
    user: Annotated[str, typer.Argument(help="User id.")],
    count: Annotated[int, typer.Option(min=1, help="Lines per list.")] = 5,
    least_items: Annotated[
        int, typer.Option(min=1, help="A word must stand in the texts of so many items.")
    ] = 3,
    most_share: Annotated[
        float, typer.Option(min=0, max=1, help="And in no greater share of them.")
    ] = 0.5,
) -> None:
    """Say what a user is into now: words, items, and the events that say so.

    The settings must be the worker's, for only vectors of one model can be compared.
    """
    settings = load()
    topics = asyncio.run(read(settings, user))
    texts = {name: str(record.get("text", "")) for name, record in topics.catalogue.items()}
    words = salient_words(texts, least_items, most_share)
    encoder = encoders.build(replace(settings.encoder_config(), cache_dir=""))
    try:
        check_model(encoder, topics.view)
        vector, turns = event_turns(encoder, topics.view, topics.catalogue)
        nearest = nearest_words(encoder, words, topics.space, vector)[:count]
    finally:
        encoder.close()
    print(f"{user} is into")
    for score, word in nearest:
        print(f"  {score:+.3f}  {word}")
    print("items like that, not among the last events")
    assert topics.view.window is not None
    met = frozenset(name for name in topics.view.window.item_ids if name)
    for name, score in topics.space.nearest(vector, count, met):
        print(f"  {score:+.3f}  {name}")
    print("because of these events (how far the vector turns without it)")
    for turn, event in sorted(turns, key=lambda pair: -pair[0])[:count]:
        at = datetime.fromtimestamp(event.time_ms / 1000, UTC)
        print(f"  {turn:.3f}  {at:%Y-%m-%d %H:%M}  {event.type}  {event.text or event.item_id}")


def salient_words(
    texts: Mapping[str, str], least_items: int, most_share: float
) -> dict[str, list[str]]:
    """Return the words that can say something, with the items whose texts use them.

    A word in fewer than ``least_items`` texts is a name nobody knows, one in more than
    ``most_share`` of them says nothing about a user; nor does a stop word ("the", "with").
    """
    uses: dict[str, list[str]] = {}
    for item_id, text in texts.items():
        for word in sorted({found.casefold() for found in _WORD.findall(text)}):
            uses.setdefault(word, []).append(item_id)
    most = most_share * len(texts)
    salient = [
        word
        for word, items in uses.items()
        if least_items <= len(items) <= most and word not in ENGLISH_STOP_WORDS
    ]
    salient.sort(key=lambda word: -len(uses[word]))
    return {word: uses[word] for word in salient[:MOST_WORDS]}


def nearest_words(
    encoder: InterestEncoder, words: Mapping[str, Sequence[str]], space: ItemSpace, vector: Float32
) -> list[tuple[float, str]]:
    """Return the words by falling nearness to ``vector`` [D]: the mean of two cosines.

    A word alone is embedded poorly (a title reads otherwise) and its items say too much (all that
    else they are about); on MovieLens-1M the two together read best. Words alone are centred among
    themselves, as texts are in the catalogue: what all of them have in common says nothing.
    """
    if not words:
        return []
    rows = range(len(words))
    encoder.put_texts(list(zip(rows, words, strict=True)))
    alone = encoder.item_vectors(np.array(rows, dtype=np.int32))
    place = {item_id: at for at, item_id in enumerate(space.item_ids)}
    in_use = np.zeros_like(alone)
    for row, items in zip(rows, words.values(), strict=True):
        places = [place[item_id] for item_id in items if item_id in place]
        in_use[row] = space.vectors[places].sum(axis=0)
    if len(words) > 1:
        alone = alone - alone.mean(axis=0)
    scores = (unit(alone) @ vector + unit(in_use) @ vector) / 2.0
    best = np.argsort(-scores, kind="stable")
    names = list(words)
    return [(float(scores[at]), names[at]) for at in best]


def unit(vectors: Float32) -> Float32:
    """Return rows of length 1; a row of zeros stays."""
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    scaled: Float32 = vectors / np.maximum(lengths, 1e-9)
    return scaled


def event_turns(
    encoder: InterestEncoder, view: UserView, catalogue: Mapping[str, Mapping[str, Any]]
) -> tuple[Float32, list[tuple[float, Event]]]:
    """Return the vector [D] of the window, and per event with a text 1 - cosine(that, the vector
    of the window without the event): 0 if it changes nothing, 1 if nothing is left or the rest is
    about something else."""
    assert view.window is not None
    texts: dict[int, str] = {}
    events = list(view.window.events(view.user_id))
    for at, event in enumerate(events):
        text = event.text or catalogue.get(event.item_id or "", {}).get("text")
        if text:
            texts[at] = text
    of_items = {at: events[at].item_id for at in texts if not events[at].text}
    media = {at: media_of(catalogue.get(item or "", {})) for at, item in of_items.items()}
    encoder.put_texts(list(texts.items()), {at: m for at, m in media.items() if m is not None})
    rows = np.array([at if at in texts else -1 for at in range(len(events))], dtype=np.int32)
    everything = np.arange(len(events))
    windows = [everything, *(np.delete(everything, at) for at in texts)]
    vectors = encoder.encode(batch(view.window, events, rows, windows)).vectors
    turns = 1.0 - vectors[1:] @ vectors[0]
    return vectors[0], [(float(turn), events[at]) for turn, at in zip(turns, texts, strict=True)]


def media_of(record: Mapping[str, Any]) -> Float32 | None:
    """Return what an item brings beside its text, None where that is nothing the worker takes."""
    try:
        return msgspec.convert(record, Item).media()
    except REFUSALS:
        return None


def batch(
    window: Window, events: Sequence[Event], rows: npt.NDArray[np.int32],
    windows: Sequence[npt.NDArray[np.int64]],
) -> WindowBatch:  # fmt: skip
    """Return variants of one window, each given as the places of the events it keeps."""
    kept = np.concatenate(windows)
    types = np.array([TYPE_CODES[event.type] for event in events], dtype=np.uint8)
    dwell = [-1 if event.dwell_ms is None else event.dwell_ms for event in events]
    gone = [np.delete(types, places) for places in windows]
    counts = [
        np.array(window.counts) - np.bincount(codes, minlength=len(window.counts)) for codes in gone
    ]
    return WindowBatch(
        rows=rows[kept],
        offsets=np.cumsum([0, *map(len, windows)], dtype=np.int64),
        times_ms=np.array([event.time_ms for event in events], dtype=np.int64)[kept],
        types=types[kept],
        dwell_ms=np.array(dwell, dtype=np.int32)[kept],
        counts=np.array(counts, dtype=np.int64),
    )


def check_model(encoder: InterestEncoder, view: UserView) -> None:
    """Refuse a user of whom there is too little, or whose vector another model made.

    Raises:
        FixData: no update or no event.
        FixSettings: another model.
    """
    if view.update is None or view.window is None or not len(view.window):
        raise FixData(f"of user {view.user_id} there is no update, or no event in the window")
    if view.update.model_id != encoder.info.model_id:
        raise FixSettings(
            f"the update is of model {view.update.model_id}, these settings are of "
            f"{encoder.info.model_id}: use the worker's settings"
        )


async def read(settings: Settings, user: str) -> Topics:
    """Return what the topics hold of a user, and the catalogue."""
    view = await read_user(settings, user)
    catalogue = await latest_records(settings.kafka, settings.items_topic)
    model_id = view.update.model_id if view.update else ""
    return Topics(view, catalogue, await read_item_space(settings, model_id))


def main() -> None:
    """Run; what an operator can mend is one line."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)
    app.command(epilog=EXAMPLE)(customer_care)
    try:
        app()
    except (InterestStreamError, encoders.EncoderError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
