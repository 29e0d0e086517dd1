"""Models that follow a stream of events, for the prequential protocol.

Legend: Q questions, N items, R texts, T dimensions of a text vector.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

import numpy as np

from encoders.evaluation.baselines import MeanVector, decay, similarities
from encoders.evaluation.interactions import NO_ITEM, Interactions
from encoders.evaluation.metrics import Scores
from encoders.evaluation.ranking import cosine_scores
from encoders.interface import Float32, Int64, InterestEncoder, WindowBatch
from state.event import WINDOW_TYPES, Event
from state.window import EMPTY, Window, WindowPolicy, fold


class InterestStream:
    """The worker's own way: its fold, its window policy, its encoder.

    A snapshot is the window the published vector is of. Windows are never changed, only replaced,
    so encoding one later gives the vector that was published then (G8). Windows of users who are
    not among ``users`` are not kept, for nobody asks for them.
    """

    def __init__(
        self,
        encoder: InterestEncoder,
        data: Interactions,
        policy: WindowPolicy,
        users: frozenset[int] | None = None,
    ) -> None:
        self._users = users
        self._encoder = encoder
        self._data = data
        self._policy = policy
        self._windows: dict[int, Window] = {}
        self._items = encoder.item_vectors(np.arange(len(data.item_ids), dtype=np.int32))

    def published(self, user: int) -> Window:
        """See ``Stream``."""
        return self._windows.get(user, EMPTY)

    def apply(self, position: int) -> None:
        """See ``Stream``. The text's row travels as item id: it names the text, as a key would."""
        data = self._data
        user = int(data.users[position])
        if self._users is not None and user not in self._users:
            return
        dwell_ms = int(data.dwell_ms[position])
        event = Event(
            event_id=f"{position:012d}",  # ties in time keep the order of the data
            user_id=data.user_ids[user],
            type=WINDOW_TYPES[data.types[position]],
            item_id=str(data.rows[position]),
            time_ms=int(data.times_ms[position]),
            dwell_ms=None if dwell_ms < 0 else dwell_ms,
        )
        window, _ = fold(self._windows.get(user), event, position, self._policy)
        if window is not None:
            self._windows[user] = window

    def vectors(self, snapshots: Sequence[Window]) -> Float32:
        """Return [Q, D] the vectors that were published of these windows."""
        return self._encoder.encode(_batch(snapshots)).vectors

    def scores(self, snapshots: Sequence[Window]) -> Scores:
        """See ``Stream``."""
        return cosine_scores(self.vectors(snapshots), self._items)


class RandomStream:
    """Random scores, by the seed and the count of questions so far."""

    def __init__(self, data: Interactions, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._count = len(data.item_ids)

    def published(self, user: int) -> None:
        """See ``Stream``: nothing is known of anybody."""

    def apply(self, position: int) -> None:
        """See ``Stream``: nothing is learned."""

    def scores(self, snapshots: Sequence[None]) -> Scores:
        """See ``Stream``."""
        return self._rng.random((len(snapshots), self._count))


class PopularityStream:
    """How often anybody has met an item so far, or in the last ``span_ms``."""

    def __init__(self, data: Interactions, span_ms: int | None = None) -> None:
        self._data = data
        self._counts = np.zeros(len(data.item_ids), dtype=np.int32)
        self._span_ms = span_ms
        self._held: deque[int] = deque()

    def published(self, user: int) -> Int64:
        """See ``Stream``; for everybody the same."""
        return self._counts.astype(np.int64)

    def apply(self, position: int) -> None:
        """See ``Stream``."""
        item = self._data.items[position]
        if item == NO_ITEM:
            return
        self._counts[item] += 1
        if self._span_ms is None:
            return
        self._held.append(position)
        oldest_ms = self._data.times_ms[position] - self._span_ms
        while self._data.times_ms[self._held[0]] < oldest_ms:
            self._counts[self._data.items[self._held.popleft()]] -= 1

    def scores(self, snapshots: Sequence[Int64]) -> Scores:
        """See ``Stream``."""
        return np.stack(snapshots).astype(np.float64)


class KnnStream:
    """Item-kNN with similarities as they stood at the start of the test period."""

    def __init__(
        self, data: Interactions, start: int, recent: int = 50, half_life: float = 0.0
    ) -> None:
        self._data = data
        self._half_life = half_life
        self._recent = recent
        self._similar = similarities(data, np.arange(start))
        self._met: dict[int, tuple[int, ...]] = {}

    def published(self, user: int) -> tuple[int, ...]:
        """See ``Stream``: the user's last items."""
        return self._met.get(user, ())

    def apply(self, position: int) -> None:
        """See ``Stream``."""
        item = int(self._data.items[position])
        if item != NO_ITEM:
            user = int(self._data.users[position])
            self._met[user] = (*self._met.get(user, ()), item)[-self._recent :]

    def scores(self, snapshots: Sequence[tuple[int, ...]]) -> Scores:
        """See ``Stream``."""
        profile = np.zeros((len(snapshots), len(self._similar)), dtype=np.float32)
        for line, items in enumerate(snapshots):
            np.maximum.at(profile[line], list(items), decay(len(items), self._half_life))
        return profile @ self._similar


class MeanStream:
    """A ``MeanVector`` of what the user has met so far."""

    def __init__(self, data: Interactions, model: MeanVector, window_events: int = 50) -> None:
        self._data = data
        self._model = model
        self._window = window_events
        self._rows: dict[int, tuple[int, ...]] = {}

    def published(self, user: int) -> tuple[int, ...]:
        """See ``Stream``: rows of the last texts, oldest first."""
        return self._rows.get(user, ())

    def apply(self, position: int) -> None:
        """See ``Stream``."""
        user = int(self._data.users[position])
        row = int(self._data.rows[position])
        self._rows[user] = (*self._rows.get(user, ()), row)[-self._window :]

    def scores(self, snapshots: Sequence[tuple[int, ...]]) -> Scores:
        """See ``Stream``."""
        return self._model.of_rows([np.array(rows, dtype=np.int64) for rows in snapshots])


def _batch(windows: Sequence[Window]) -> WindowBatch:
    offsets = np.zeros(len(windows) + 1, dtype=np.int64)
    np.cumsum([len(window) for window in windows], out=offsets[1:])
    dwell = [
        -1 if value is None else value
        for window in windows
        for value in (window.dwell_ms or (None,) * len(window))
    ]
    return WindowBatch(
        rows=np.array([int(r or -1) for w in windows for r in w.item_ids], dtype=np.int32),
        offsets=offsets,
        times_ms=np.array([t for w in windows for t in w.times_ms], dtype=np.int64),
        types=np.frombuffer(b"".join(window.types for window in windows), dtype=np.uint8),
        dwell_ms=np.array(dwell, dtype=np.int32),
        counts=np.array([window.counts for window in windows], dtype=np.int64),
    )
