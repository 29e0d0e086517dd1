"""What users did, as flat columns: the data every protocol of the evaluation reads.

Legend: E events, U users, N items of the catalogue, R texts (the items' first, then events' own).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from encoders.interface import Float32, Int32, Int64, UInt8, UInt64
from state.event import TYPE_CODES, Event, EventType

NO_ITEM = -1

Order = Literal["random", "file"]


@dataclass(frozen=True)
class Interactions:
    """Events by column. :func:`from_events` makes one, :func:`in_time_order` sorts it."""

    users: Int64
    """[E] index of the user."""
    items: Int64
    """[E] index of the item, ``NO_ITEM`` for a search or a review of nothing in the catalogue."""
    rows: Int32
    """[E] index of the event's text: its own, else its item's; -1 where there is none."""
    times_ms: Int64
    """[E] milliseconds since the epoch, UTC."""
    types: UInt8
    """[E] codes of ``state.event.TYPE_CODES``."""
    dwell_ms: Int32
    """[E] milliseconds, -1 where absent."""
    user_ids: tuple[str, ...]
    """[U]"""
    item_ids: tuple[str, ...]
    """[N]"""
    texts: tuple[str, ...]
    """[R]"""
    groups: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """[U] per attribute (gender, age, ...) the value of each user, where the data has it."""
    genres: tuple[tuple[str, ...], ...] = ()
    """[N] the genres of each item, where the catalogue has them."""
    media: Float32 | None = None
    """[N, M] what each item brings beside its text, zero where it brings nothing."""
    ties: UInt64 | None = None
    """[E] random, and one event's own wherever it comes from: the order of events of the same time
    that a training and an evaluation share, whatever else they were given. None, or once in order:
    their places decide."""

    def media_of(self, rows: range) -> dict[int, Float32]:
        """Return the media vectors of those of the texts that are items and bring one."""
        if self.media is None:
            return {}
        among = range(rows.start, min(rows.stop, len(self.media)))
        return {row: self.media[row] for row in among if self.media[row].any()}

    def __len__(self) -> int:
        return len(self.users)


def from_events(
    events: Sequence[Event],
    catalogue: Mapping[str, str],
    attributes: Mapping[str, Mapping[str, str]] | None = None,
    genres: Mapping[str, tuple[str, ...]] | None = None,
    media: Mapping[str, Float32] | None = None,
) -> Interactions:
    """Return the columns of ``events``, kept in their order, over a catalogue of texts by item id.

    Items that no catalogue line names have no text and cannot be asked for: their events keep
    their own text only. ``forget`` leaves nothing, here as in a window. ``attributes`` are values
    by user id, by name of the attribute; a user without one counts as ``unknown``. ``genres`` are
    by item id, and ``media`` are vectors by item id.

    Raises:
        ValueError: media vectors of different lengths.
    """
    item_of = {item_id: place for place, item_id in enumerate(catalogue)}
    kept = [event for event in events if event.type is not EventType.FORGET]
    user_of: dict[str, int] = {}
    row_of: dict[str, int] = {}  # of events' own texts
    users, items, rows = [], [], []
    for event in kept:
        users.append(user_of.setdefault(event.user_id, len(user_of)))
        items.append(item_of.get(event.item_id or "", NO_ITEM))
        if event.text is None:
            rows.append(items[-1])
        else:
            rows.append(row_of.setdefault(event.text, len(catalogue) + len(row_of)))
    return Interactions(
        users=np.array(users, dtype=np.int64),
        items=np.array(items, dtype=np.int64),
        rows=np.array(rows, dtype=np.int32),
        times_ms=np.array([event.time_ms for event in kept], dtype=np.int64),
        types=np.array([TYPE_CODES[event.type] for event in kept], dtype=np.uint8),
        dwell_ms=np.array(
            [-1 if event.dwell_ms is None else event.dwell_ms for event in kept], dtype=np.int32
        ),
        user_ids=tuple(user_of),
        item_ids=tuple(catalogue),
        texts=(*catalogue.values(), *row_of),
        groups={
            name: tuple(values.get(user_id, "unknown") for user_id in user_of)
            for name, values in (attributes or {}).items()
        },
        genres=tuple(genres.get(item_id, ()) for item_id in catalogue) if genres else (),
        media=_media(catalogue, media or {}),
    )


def _media(catalogue: Mapping[str, str], media: Mapping[str, Float32]) -> Float32 | None:
    """[N, M] by the catalogue's order; None where no item brings any."""
    held = {item_id: vector for item_id, vector in media.items() if item_id in catalogue}
    if not held:
        return None
    lengths = sorted({len(vector) for vector in held.values()})
    if len(lengths) > 1:
        raise ValueError(
            f"items bring media vectors of {lengths[0]} and of {lengths[1]} numbers: "
            "they must be of one model"
        )
    nothing = np.zeros(lengths[0], dtype=np.float32)
    return np.array([held.get(item_id, nothing) for item_id in catalogue], dtype=np.float32)


def time_order(data: Interactions, *, order: Order = "random", seed: int = 0) -> Int64:
    """Return the places of events, oldest first; see :func:`in_time_order`."""
    rng = np.random.default_rng(seed)
    ties: Int64 | UInt64
    if order == "file":
        ties = np.arange(len(data))
    elif data.ties is None:
        ties = rng.permutation(len(data))
    else:  # another order for each seed: multiplicative hashing, modulo 2**64
        ties = data.ties * (2 * rng.integers(2**63, dtype=np.uint64) + np.uint64(1))
    return np.lexsort((ties, data.times_ms))


def in_time_order(data: Interactions, *, order: Order = "random", seed: int = 0) -> Interactions:
    """Return the same events, oldest first.

    Within one millisecond nothing is known of the order: ``random`` draws one by the seed,
    ``file`` keeps that of the input. The latter can leak: a file sorted by anything that goes
    with the future, popularity say, tells which event is the last.
    """
    places = time_order(data, order=order, seed=seed)
    columns = ("users", "items", "rows", "times_ms", "types", "dwell_ms")
    return replace(data, **{name: getattr(data, name)[places] for name in columns}, ties=None)


def first_times(data: Interactions) -> Int64:
    """Return the ascending positions at which a user meets an item for the first time."""
    with_item = np.flatnonzero(data.items != NO_ITEM)
    pairs = data.users[with_item] * len(data.item_ids) + data.items[with_item]
    _, first = np.unique(pairs, return_index=True)
    positions: Int64 = np.sort(with_item[first])
    return positions
