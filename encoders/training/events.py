"""Events ready to be trained on: each user's in time order, cut into stretches of one window.

Legend: E events, U users, S stretches. In a causal pass every event of a stretch asks for the event
after it, so one pass over a stretch of 50 trains windows of 1 to 50 events at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from encoders.errors import TrainingDataInvalid
from encoders.evaluation.interactions import NO_ITEM, Interactions, first_times
from encoders.interface import Float32, Int64, UInt8
from encoders.training.settings import TrainingSettings
from state.event import TYPE_CODES, WINDOW_TYPES, EventType

Bools = npt.NDArray[np.bool_]

_LENGTH_JITTER = 8
"""Stretches are batched by length, give or take so many events: little filling, and still another
company in every epoch."""


@dataclass(frozen=True)
class Stretches:
    """Which events go into one batch: inputs ``starts[s]`` to ``stops[s]``, outside."""

    starts: Int64
    """[S]"""
    stops: Int64
    """[S]"""


@dataclass(frozen=True)
class TrainingEvents:
    """The events by column, sorted by user, then time."""

    users: Int64
    """[E]"""
    rows: Int64
    """[E] of the event's text; always known."""
    items: Int64
    """[E] ``NO_ITEM`` where the event has none."""
    times_ms: Int64
    types: UInt8
    dwell_ms: Int64
    is_target: Bools
    """[E] whether the event before it may ask for it."""
    labels: Float32
    """[E] what the loss compares with, 0 where it compares with nothing."""
    counts: Int64
    """[E, types] all events of the user so far, this one among them, by type."""

    def __len__(self) -> int:
        return len(self.users)

    def shuffled(self, generator: np.random.Generator) -> TrainingEvents:
        """Return the same with events of the same time in another order, which nobody knows."""
        places = np.lexsort((generator.random(len(self)), self.times_ms, self.users))
        columns = ("rows", "items", "types", "dwell_ms", "is_target", "labels")
        moved = {name: getattr(self, name)[places] for name in columns}
        return replace(self, **moved, counts=_counts(self.users, moved["types"]))

    def batches(
        self,
        settings: TrainingSettings,
        generator: np.random.Generator,
        *,
        unasked: bool = False,
    ) -> list[Stretches]:
        """Return every stretch once, in batches of about the same length, in random order.

        ``unasked``: whole windows, whether or not anything is asked for in them.

        Where a user's first stretch ends is drawn anew every time, so that no event always stands
        at the start of a window.
        """
        starts, stops = self._cut(settings, generator, unasked=unasked)
        order = np.argsort((stops - starts) + generator.random(len(starts)) * _LENGTH_JITTER)
        size = settings.batch_windows
        groups = [order[at : at + size] for at in range(0, len(order), size)]
        return [
            Stretches(starts[groups[at]], stops[groups[at]])
            for at in generator.permutation(len(groups))
        ]

    def _cut(
        self, settings: TrainingSettings, generator: np.random.Generator, *, unasked: bool
    ) -> tuple[Int64, Int64]:
        first = np.flatnonzero(np.diff(self.users, prepend=-1))
        place = np.arange(len(self)) - np.repeat(first, np.diff([*first, len(self)]))
        phase = generator.integers(0, settings.window_events, int(self.users.max()) + 1)
        begins = (place + phase[self.users]) % settings.window_events == 0
        begins |= place == 0
        # Behind a gap as long as a window reaches, nothing from before it is in the window.
        begins |= np.diff(self.times_ms, prepend=self.times_ms[:1]) > settings.window_age_ms
        asks = np.append(self.users[1:] == self.users[:-1], False)
        starts = np.flatnonzero(begins)
        stops = np.append(starts[1:], len(self))
        if unasked:
            return starts, stops
        stops -= ~asks[stops - 1]  # a user's last event asks for nothing
        targets = np.concatenate(([0], np.cumsum(np.append(self.is_target[1:], False) & asks)))
        useful = targets[stops] > targets[starts]
        return starts[useful], stops[useful]

    def popularity(self, item_count: int) -> Int64:
        """Return [N] how often each item is asked for."""
        return np.bincount(self.items[self.is_target], minlength=item_count)


def training_events(
    data: Interactions,
    use: Bools,
    known: Bools,
    settings: TrainingSettings,
    values: Float32 | None = None,
) -> TrainingEvents:
    """Return the events of ``data`` (in time order) that are to be learned from.

    ``use`` [E] says which may be looked at, ``known`` [R] which texts have a vector; ``values``
    [E] is the number of ``target: value``, NaN where an event has none.

    Raises:
        TrainingDataInvalid: too few users, no next item, nothing bought, no number to learn.
    """
    kept = np.flatnonzero(use & (data.rows >= 0) & known[data.rows])
    if len(np.unique(data.users[kept])) < 2:
        raise TrainingDataInvalid(
            f"the events to train on are of {len(np.unique(data.users[kept]))} users, at least 2 "
            "are needed: what one user does next cannot be told from what everybody does"
        )
    kept = kept[np.argsort(data.users[kept], kind="stable")]
    is_target = data.items[kept] != NO_ITEM
    if settings.loss == "cross_entropy" and not settings.repeats:
        is_new = np.zeros(len(data), dtype=np.bool_)
        is_new[first_times(data)] = True
        is_target &= is_new[kept]
    labels = _labels(data, settings, values)[kept]
    is_target &= np.isfinite(labels)
    events = TrainingEvents(
        users=data.users[kept],
        rows=data.rows[kept].astype(np.int64),
        items=data.items[kept],
        times_ms=data.times_ms[kept],
        types=data.types[kept],
        dwell_ms=data.dwell_ms[kept].astype(np.int64),
        is_target=is_target,
        labels=np.nan_to_num(labels),
        counts=_counts(data.users[kept], data.types[kept]),
    )
    _check(events, settings)
    return events


def _labels(data: Interactions, settings: TrainingSettings, values: Float32 | None) -> Float32:
    """[E] what the loss compares with, NaN where there is nothing."""
    if settings.loss == "cross_entropy":
        return np.ones(len(data), dtype=np.float32)
    if settings.loss == "binary":
        bought: Float32 = (data.types == TYPE_CODES[EventType.PURCHASE]).astype(np.float32)
        return bought
    if settings.target == "dwell":
        dwell_s = np.maximum(data.dwell_ms, 0) / 1_000
        logarithms: Float32 = np.log1p(dwell_s).astype(np.float32)
        logarithms[data.dwell_ms < 0] = np.nan
        return logarithms
    if values is None:
        raise TrainingDataInvalid("the target is a value, and the events come with none")
    return values


def _check(events: TrainingEvents, settings: TrainingSettings) -> None:
    asked = events.is_target & (np.diff(events.users, prepend=-1) == 0)
    labels = events.labels[asked]
    if not asked.any():
        what = {"cross_entropy": "a new item", "binary": "an item"}.get(
            settings.loss, f"an item with a {settings.target}"
        )
        raise TrainingDataInvalid(
            f"no user meets {what} after another event, so there is nothing to learn "
            f"({len(events)} events looked at)"
        )
    if settings.loss == "binary" and (not labels.any() or labels.all()):
        found = "no purchase" if not labels.any() else "nothing but purchases"
        raise TrainingDataInvalid(
            f"the next items hold {found} among {len(labels)}: binary needs both; use "
            "cross_entropy for data of one kind"
        )


def _counts(users: Int64, types: UInt8) -> Int64:
    """[E, types] running counts, per user."""
    each = (types[:, None] == np.arange(len(WINDOW_TYPES))).cumsum(axis=0)
    first = np.flatnonzero(np.diff(users, prepend=-1))
    before = np.zeros((len(first), len(WINDOW_TYPES)), dtype=np.int64)
    before[1:] = each[first[1:] - 1]
    running: Int64 = each - np.repeat(before, np.diff([*first, len(users)]), axis=0)
    return running


def grouped(batches: list[Stretches], accumulation: int) -> Iterator[list[Stretches]]:
    """Yield the batches of one step each."""
    for at in range(0, len(batches), accumulation):
        yield batches[at : at + accumulation]
