"""The job, as every contestant but ours calls it: ours has its own pipeline for the same.

Whoever calls these functions gets our decoder, fold, codec and Avro encoder, all of them fast, so
that the contest is about moving and keeping records and not about JSON. Vectors are a weighted sum
of item vectors held in the contestant's own memory: no text model, no process boundary.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.workload import item_number
from encoders.config import InterestConfig
from encoders.interface import GRANULARITIES
from state.event import Event, EventLimits, decode
from state.window import Window, WindowPolicy, fold
from stream_app.updates import UpdateEncoder

Vectors = npt.NDArray[np.float32]

_WINDOW_EVENTS = 50


@dataclass(frozen=True)
class Run:
    """What one contestant's process is told, as a JSON file."""

    name: str
    bootstrap: str
    group: str
    events_topic: str
    updates_topic: str
    items_topic: str
    directory: str
    """For its state; empty at the start."""
    vectors: str
    """``.npy`` of the item vectors, float32 [items, D]."""
    model_id: str
    granularity_weights: tuple[float, ...]
    partitions: int
    text_cache: str = ""
    """Folder of warm text vectors (ours only)."""
    commit_interval_s: float = 1.0
    """The same for all: how much work a crash may repeat, and so how often state is made safe."""
    low_latency: bool = False
    """The latency contest: producers do not wait for company."""

    def save(self, path: Path) -> None:
        """Write the file that :func:`from_argv` reads."""
        path.write_text(json.dumps(asdict(self)))

    @classmethod
    def from_argv(cls) -> Run:
        """Return the run named on the command line, for a contestant's ``main``."""
        run = cls(**json.loads(Path(sys.argv[1]).read_text()))
        sys.argv[1:] = []
        torch.set_num_threads(1)
        return run


class Job:
    """Decode, fold, vector, update: pure functions of a record and a window."""

    def __init__(self, run: Run) -> None:
        self._limits = EventLimits()
        self._policy = WindowPolicy()
        self._items: Vectors = np.load(run.vectors)
        self._table = torch.from_numpy(self._items)
        self._weights = _decay(InterestConfig())
        self._updates = UpdateEncoder(
            "avro", run.model_id, run.events_topic, GRANULARITIES, run.granularity_weights
        )

    def event(self, key: bytes | None, value: bytes | None, timestamp_ms: int) -> Event:
        """Return the checked event of a record."""
        return decode(key, value, timestamp_ms, self._limits)

    def fold(self, window: Window | None, event: Event, offset: int) -> Window:
        """Return the user's window after the event; the workload forgets nobody."""
        after, _ = fold(window, event, offset, self._policy)
        if after is None:
            raise ValueError("the workload has no forget events")
        return after

    def vector(self, window: Window) -> Vectors:
        """Return the unit vector [D] of one window, newest event heaviest."""
        rows = [item_number(item) for item in window.item_ids if item is not None]
        pooled = self._weights[-len(rows) :] @ self._items[rows]
        return np.asarray(pooled / np.sqrt(pooled @ pooled), dtype=np.float32)

    def vectors(self, windows: list[Window]) -> Vectors:
        """Return the unit vectors [B, D] of many windows in one call."""
        rows: list[int] = []
        starts: list[int] = []
        for window in windows:
            starts.append(len(rows))
            rows += [item_number(item) for item in window.item_ids if item is not None]
        lengths = np.diff([*starts, len(rows)])
        weights = np.concatenate([self._weights[-length:] for length in lengths])
        with torch.inference_mode():
            pooled = torch.nn.functional.embedding_bag(
                torch.tensor(rows),
                self._table,
                torch.tensor(starts),
                mode="sum",
                per_sample_weights=torch.from_numpy(weights),
            )
            return np.asarray(torch.nn.functional.normalize(pooled).numpy())

    def update(self, user_id: str, vector: Vectors, window: Window, partition: int) -> bytes:
        """Return the Avro bytes that go on the updates topic."""
        return self._updates.encode(
            user_id,
            vector,
            None,
            window.times_ms[-1],
            partition,
            window.applied_offset,
            len(window),
        )


def _decay(config: InterestConfig) -> Vectors:
    """Return the weights of a full window, oldest first, as the untrained interest model has them.

    Read from the model's own defaults: a copy of the half-life here went stale once, and peers
    and reference then computed another vector than ours.

    Raises:
        ValueError: the defaults weigh by more than rank, which the peers do not know how to do.
    """
    plain = (
        config.time_half_life_ms == 0
        and config.rank_half_life_events > 0
        and set(config.event_type_weights.values()) == {1.0}
        and config.shares() == (0.0, 0.0, 0.0, 1.0)
    )
    if not plain:
        raise ValueError(f"the peers pool by rank alone; the default is now {config}")
    ranks = np.arange(_WINDOW_EVENTS)[::-1]
    return (0.5 ** (ranks / config.rank_half_life_events)).astype(np.float32)
