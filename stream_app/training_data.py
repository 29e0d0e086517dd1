"""The data of a training: MovieLens-1M from its package, two files, or the topics."""

from __future__ import annotations

import asyncio
from collections.abc import Container, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from encoders.evaluation.interactions import in_time_order, time_order
from encoders.interface import Float32
from state.event import Event, InvalidEvent, decode
from stream_app import movielens, past_events, record_files, topic_scan
from stream_app.errors import FixData
from stream_app.evaluation_data import file_or_topic_interactions, movielens_interactions
from stream_app.item_record import Item
from stream_app.past_events import PastEvents, number_in
from stream_app.settings import Settings

if TYPE_CHECKING:
    from encoders.training.run import TrainingData

_MOST_NAMED = 3
"""Unknown items that a message names."""


@dataclass(frozen=True)
class Wanted:
    """What is to be taken of the events."""

    value_field: str = ""
    """Name of a number beside the events' own fields, to be learned; empty: none."""
    skip_unknown_items: bool = False
    """Leave out events of items that are not in the catalogue, rather than refuse them."""
    split_seed: int = 0
    """Orders events of the same time."""


def movielens_data(wanted: Wanted) -> TrainingData:
    """Return all of MovieLens-1M; its numbers are the stars.

    Raises:
        FixSettings: the package is not installed.
    """
    data = movielens_interactions()
    stars = [rating.stars for rating in movielens.ratings(movielens.RATINGS)]
    return _ordered(data, np.array(stars, dtype=np.float32), wanted)


def file_data(events: Path, items: Path, settings: Settings, wanted: Wanted) -> TrainingData:
    """Return what two JSON Lines files hold.

    Raises:
        FixData: a line is no event or no item, an event has no time, an item is not in the
            catalogue, or there are none; the message names file and line.
    """
    catalogue = {item.item_id: item for item, _ in record_files.items(items)}
    if not catalogue:
        raise FixData(f"{items} holds no items")
    found = past_events.read(events, settings.event_limits(), wanted.value_field)
    return _data(found.pairs(), catalogue, str(events), wanted)


def topic_data(settings: Settings, wanted: Wanted) -> TrainingData:
    """Return what the events and items topics hold now, from their beginnings.

    Records that are no events are left out, as the worker leaves them out.

    Raises:
        WaitForBroker, FixSettings: the broker does not answer, a topic does not exist.
        FixData: there are no events, or no items.
    """
    catalogue, found = asyncio.run(_from_topics(settings, wanted))
    if not catalogue:
        raise FixData(f"topic {settings.items_topic} holds no items")
    # By id: the order in which partitions are read is chance, and the data must have one order.
    pairs = found.pairs(by_id=True)
    return _data(pairs, dict(sorted(catalogue.items())), f"topic {settings.events_topic}", wanted)


async def _from_topics(settings: Settings, wanted: Wanted) -> tuple[dict[str, Item], PastEvents]:
    catalogue: dict[str, Item] = {}
    decode_item = msgspec.json.Decoder(Item).decode
    servers = settings.kafka
    async with topic_scan.open_consumer(servers, settings.items_topic) as consumer:
        async for record in topic_scan.to_the_end(consumer):
            if record.value is None:
                catalogue.pop((record.key or b"").decode("utf-8", "replace"), None)
                continue
            try:
                item = decode_item(record.value)
                item.media()
            except (msgspec.MsgspecError, UnicodeDecodeError, ValueError):
                continue
            catalogue[item.item_id] = item
    found, limits = PastEvents(), settings.event_limits()
    async with topic_scan.open_consumer(servers, settings.events_topic) as consumer:
        async for record in topic_scan.to_the_end(consumer):
            try:
                event = decode(record.key, record.value, record.timestamp, limits)
            except InvalidEvent:
                continue
            found.add(event, number_in(record.value, wanted.value_field))
    return catalogue, found


def _data(
    pairs: list[tuple[Event, float]], catalogue: dict[str, Item], where: str, wanted: Wanted
) -> TrainingData:
    unknown = list(_unknown_items((event for event, _ in pairs), catalogue.keys()))
    if unknown and not wanted.skip_unknown_items:
        named = ", ".join(map(repr, list(dict.fromkeys(unknown))[:_MOST_NAMED]))
        raise FixData(
            f"{where}: {len(unknown)} events name an item that is not in the catalogue "
            f"({named}): add the items, or leave the events out with --skip-unknown-items"
        )
    pairs = [(e, v) for e, v in pairs if e.item_id is None or e.item_id in catalogue or e.text]
    if not pairs:
        raise FixData(f"{where} holds no events")
    values = np.array([value for _, value in pairs], dtype=np.float32)
    data = file_or_topic_interactions([event for event, _ in pairs], catalogue.values(), where)
    return _ordered(data, values if wanted.value_field else None, wanted)


def _unknown_items(events: Iterable[Event], catalogue: Container[str]) -> Iterator[str]:
    for event in events:
        if event.item_id is not None and event.item_id not in catalogue and not event.text:
            yield event.item_id


def _ordered(data: Any, values: Float32 | None, wanted: Wanted) -> TrainingData:
    from encoders.training.run import TrainingData

    seed = wanted.split_seed
    places = time_order(data, seed=seed)
    return TrainingData(in_time_order(data, seed=seed), None if values is None else values[places])
