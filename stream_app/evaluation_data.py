"""The data of an evaluation: MovieLens-1M from its package, or files of events and items."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from encoders.evaluation.interactions import Interactions, from_events
from encoders.interface import Float32
from state.event import Event, EventType
from stream_app import movielens, past_events, record_files
from stream_app.errors import FixData
from stream_app.item_record import Item
from stream_app.settings import Settings


def movielens_interactions() -> Interactions:
    """Return all of MovieLens-1M, in time order and within a second in the order of the file.

    Raises:
        FixSettings: the package is not installed.
    """
    catalogue = {item["item_id"]: item["text"] for item in movielens.items()}
    events = [_event(rating) for rating in movielens.ratings(movielens.RATINGS)]
    genres = {item["item_id"]: _split(item["genres"]) for item in movielens.items()}
    return from_events(events, catalogue, movielens.users(), genres)


def file_interactions(
    events: Path, items: Path, settings: Settings, groups: Path | None = None
) -> Interactions:
    """Return what two JSON Lines files hold, as a worker with these settings would take it from
    the topics, and a training does: masked, under pseudonyms, no doubles, and nothing that users
    did before a ``forget``. An item may have ``genres``: a list, or names with commas between.
    ``groups`` is a file for :func:`record_files.groups`, of user ids as they are in ``events``.

    Raises:
        FixData: a line is no event, no item or no user, an event has no time, or there are none;
            the message names file and line.
        FixSettings: the key of the pseudonyms cannot be read.
    """
    lines = list(record_files.items(items))
    if not lines:
        raise FixData(f"{items} holds no items")
    found = [event for event, _ in past_events.read(events, settings.event_limits()).pairs()]
    if not found:
        raise FixData(f"{events} holds no events")
    genres = {item.item_id: _genres(line) for item, line in lines}
    return file_or_topic_interactions(
        found,
        {item.item_id: item for item, _ in lines}.values(),
        str(items),
        genres if any(genres.values()) else None,
        None if groups is None else _of_pseudonyms(record_files.groups(groups), settings),
    )


def _of_pseudonyms(
    groups: Mapping[str, Mapping[str, str]], settings: Settings
) -> Mapping[str, Mapping[str, str]]:
    """The groups by the user ids that events have once they are taken up."""
    pseudonyms = settings.pseudonyms()
    if pseudonyms is None:
        return groups
    return {
        name: {pseudonyms.of(user_id): value for user_id, value in of_user.items()}
        for name, of_user in groups.items()
    }


def file_catalogue(items: Path) -> Interactions:
    """Return the items of a JSON Lines file, without an event.

    Raises:
        FixData: a line is no item; the message names file and line.
    """
    held = {item.item_id: item for item, _ in record_files.items(items)}
    return file_or_topic_interactions([], held.values(), str(items))


def file_or_topic_interactions(
    events: Sequence[Event],
    items: Iterable[Item],
    where: str,
    genres: Mapping[str, tuple[str, ...]] | None = None,
    groups: Mapping[str, Mapping[str, str]] | None = None,
) -> Interactions:
    """Return the columns of past events over items; ``where`` they come from is for the message.

    Raises:
        FixData: the items bring media vectors of different lengths.
    """
    texts: dict[str, str] = {}
    media: dict[str, Float32] = {}
    for item in items:
        texts[item.item_id] = item.text
        vector = item.media()
        if vector is not None:
            media[item.item_id] = vector
    try:
        data = from_events(events, texts, groups, genres, media)
    except ValueError as error:
        raise FixData(f"{where}: {error}") from None
    return replace(data, ties=past_events.tie_keys(events))


class _Genres(msgspec.Struct):
    genres: str | list[str] = ""


def _genres(line: bytes) -> tuple[str, ...]:
    """The genres of an item's line: a list, or names with commas between; none if anything else."""
    try:
        told = msgspec.json.decode(line, type=_Genres).genres
    except msgspec.ValidationError:
        return ()
    return _split(told) if isinstance(told, str) else tuple(told)


def _split(names: str) -> tuple[str, ...]:
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _event(rating: movielens.Rating) -> Event:
    record = movielens.event(rating)
    return msgspec.structs.replace(
        Event(record["event_id"], record["user_id"], EventType(record["type"])),
        item_id=record["item_id"],
        time_ms=record["time_ms"],
    )
