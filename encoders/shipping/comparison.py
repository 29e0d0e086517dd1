"""Bundles side by side: size, speed and quality against the first of them, in one run.

Legend: N items of the catalogue, Q items whose neighbours are looked at, T dimensions of the text
model, D of the vectors.
"""

from __future__ import annotations

import platform
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Literal

import msgspec
import numpy as np

from encoders import model_bundle
from encoders.config import EncoderConfig
from encoders.errors import EncoderConfigInvalid
from encoders.evaluation.interactions import Interactions, from_events, in_time_order
from encoders.evaluation.interest import InterestScorer, put_texts
from encoders.evaluation.ranking import Result, ask
from encoders.evaluation.splits import leave_last_out
from encoders.interface import Float32, WindowBatch
from encoders.model_bundle import Manifest
from encoders.shipping.export import Bar, no_bar
from encoders.text_encoder import TextEncoder
from encoders.transformer import TransformerEncoder
from state.window import WindowPolicy

NEIGHBOURS = 10
_LEAST_TEXTS = 2 * NEIGHBOURS
_MOST_QUERIES = 2_000
"""Texts whose neighbours are compared: of 2,000, a share is known to about a hundredth."""
_BLOCK = 256
_TIMED_TEXTS = 96
_TIMED_USERS = 256
_TIMED_EVENTS = 50
"""Micro-batches as the worker's own benchmarks have them."""


class Speed(msgspec.Struct, frozen=True):
    """How often a bundle does in a time what the first one does once."""

    ratio: float
    """Median over the rounds of the run."""
    low: float
    """Quartiles of the rounds."""
    high: float


class Line(msgspec.Struct, frozen=True):
    """One bundle."""

    name: str
    manifest: Manifest
    text_model_bytes: int
    """Of the text model's folder."""
    text_vectors_bytes: int
    """Of the three vectors of one text, in memory and on disk."""
    text_speed: Speed
    """Texts through the text model."""
    user_speed: Speed
    """Vectors of users whose texts are known, 256 windows of 50 events at a time."""
    cosine: float
    """Mean cosine of texts' vectors (word, sentence, text) to those of the first bundle."""
    cosine_low: float
    """Its first percentile: one text in a hundred is worse."""
    neighbours: float
    """Share of the ten nearest items, by vectors as published, that are the first bundle's, too."""
    metrics: dict[str, float] = {}
    """Leave-last-out over all users, where there are events."""
    users_asked: int = 0


@dataclass(frozen=True)
class Request:
    """What to compare on."""

    data: Interactions
    """A catalogue, and events over it; without events: no ranking metrics."""
    policy: WindowPolicy = field(default_factory=WindowPolicy)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    threads: int = 1
    rounds: int = 15
    seed: int = 0
    """Of which texts are looked at and timed."""
    split_seed: int = 0
    """Of the order of events of the same time."""


class _Loaded:
    """One bundle in memory."""

    def __init__(self, folder: Path, request: Request, rows: int) -> None:
        self.folder = folder
        self.manifest = model_bundle.check(folder)
        config = EncoderConfig(
            model=str(folder), device=request.device, threads=request.threads, slab_rows=rows
        )
        config = model_bundle.opened(config)
        self.text = TextEncoder(config)
        self.encoder = TransformerEncoder(config, text_encoder=self.text)


def compare(bundles: Mapping[str, Path], request: Request, bar: Bar = no_bar) -> list[Line]:
    """Return a line per bundle by name, each measured against the first.

    All are in memory at once, and what is timed is timed in turns, so that other load on the
    machine meets all of them alike: speeds are ratios of one run and say nothing of another.

    Raises:
        EncoderConfigInvalid: there are too few different texts to have neighbours.
        EncoderError: a bundle cannot be served.
    """
    shown = _different_items(request.data)
    texts = shown.texts
    if len(texts) < _LEAST_TEXTS:
        raise EncoderConfigInvalid(
            f"a comparison needs at least {_LEAST_TEXTS} different texts, there are {len(texts)}"
        )
    rows = len(request.data.texts)
    loaded = {name: _Loaded(folder, request, rows) for name, folder in bundles.items()}
    text_vectors: dict[str, Float32] = {}
    items: dict[str, Float32] = {}
    with bar("embedding") as show:
        for done, (name, one) in enumerate(loaded.items()):
            text_vectors[name], items[name] = _vectors(one, shown)
            show(done + 1, len(loaded))
    text_speeds, user_speeds = _speeds(loaded, texts, request, bar)
    ranked = {name: _ranked(one, request, bar, name) for name, one in loaded.items()}
    first = next(iter(loaded))
    nearest = _nearest(items[first], request.seed)
    lines = []
    for name, one in loaded.items():
        cosines = (text_vectors[first] * text_vectors[name]).sum(axis=2)
        lines.append(
            Line(
                name=name,
                manifest=one.manifest,
                text_model_bytes=_size(one.folder / model_bundle.TEXT_FOLDER),
                text_vectors_bytes=3
                * one.text.dimensions
                * np.dtype(one.manifest.vectors).itemsize,
                text_speed=text_speeds[name],
                user_speed=user_speeds[name],
                cosine=float(cosines.mean()),
                cosine_low=float(np.percentile(cosines.mean(axis=1), 1)),
                neighbours=_shared(nearest, _nearest(items[name], request.seed)),
                metrics=_means(ranked[name]),
                users_asked=0 if (result := ranked[name]) is None else len(result.users),
            )
        )
    return lines


def _different_items(data: Interactions) -> Interactions:
    """The catalogue alone, without items that have no text, or all of another one's: in whichever
    order it came, it is the same."""
    brought = data.media
    different = {
        (text, b"" if brought is None else brought[row].tobytes()): row
        for row, text in enumerate(data.texts[: len(data.item_ids)])
        if text.strip()
    }
    rows = [row for _, row in sorted(different.items())]
    texts = {data.item_ids[row]: data.texts[row] for row in rows}
    media = {} if brought is None else {data.item_ids[row]: brought[row] for row in rows}
    return from_events([], texts, media=media)


def _vectors(one: _Loaded, shown: Interactions) -> tuple[Float32, Float32]:
    """[N, 3, T] as they are kept, [N, D] as they would be published."""
    put_texts(one.encoder, shown)
    rows = np.arange(len(shown.texts), dtype=np.int32)
    published = one.encoder.item_vectors(rows).astype(one.manifest.vectors)
    return one.encoder.text_vectors(rows), published.astype(np.float32)


def _nearest(items: Float32, seed: int) -> np.ndarray:
    """[Q, 10] the nearest other items of the same Q items for one seed."""
    count = min(_MOST_QUERIES, len(items))
    queries = np.sort(np.random.default_rng(seed).permutation(len(items))[:count])
    found = []
    for start in range(0, count, _BLOCK):
        block = queries[start : start + _BLOCK]
        scores = items[block] @ items.T
        scores[np.arange(len(block)), block] = -np.inf
        found.append(np.argsort(-scores, axis=1, kind="stable")[:, :NEIGHBOURS])
    return np.concatenate(found)


def _shared(one: np.ndarray, other: np.ndarray) -> float:
    """Share of each row's entries that are in the other's row, too."""
    return float((one[:, :, None] == other[:, None, :]).any(axis=2).mean())


def _speeds(
    loaded: Mapping[str, _Loaded], texts: Sequence[str], request: Request, bar: Bar
) -> tuple[dict[str, Speed], dict[str, Speed]]:
    random = np.random.default_rng(request.seed)
    sample = [texts[at] for at in random.permutation(len(texts))[:_TIMED_TEXTS]]
    windows = _windows(random, len(texts))
    # One thread's own time leaves other processes out; with more, or a GPU, it leaves out work.
    alone = request.threads == 1 and all(one.text.device.type == "cpu" for one in loaded.values())
    clock = time.thread_time if alone else time.perf_counter
    tasks: dict[str, Callable[[_Loaded], object]] = {
        "texts": lambda one: one.text.encode(sample),
        "users": lambda one: one.encoder.encode(windows),
    }
    took: dict[tuple[str, str], list[float]] = {(t, n): [] for t in tasks for n in loaded}
    names = list(loaded)
    with bar("timing") as show:
        for done in range(request.rounds + 1):
            turn = done % len(names)
            for name in names[turn:] + names[:turn]:
                for task, work in tasks.items():
                    started = clock()
                    work(loaded[name])
                    if done:  # the first round warms up
                        took[task, name].append(clock() - started)
            show(done, request.rounds)
    by_task = {
        task: {name: _ratios(took[task, names[0]], took[task, name]) for name in names}
        for task in tasks
    }
    return by_task["texts"], by_task["users"]


def _ratios(first_s: Sequence[float], own_s: Sequence[float]) -> Speed:
    ratios = [first / max(own, 1e-9) for first, own in zip(first_s, own_s, strict=True)]
    if len(ratios) < 2:
        return Speed(ratios[0], ratios[0], ratios[0])
    low, middle, high = statistics.quantiles(ratios, n=4)
    return Speed(middle, low, high)


def _windows(random: np.random.Generator, rows: int) -> WindowBatch:
    events = _TIMED_USERS * _TIMED_EVENTS
    return WindowBatch(
        rows=random.integers(0, rows, events).astype(np.int32),
        offsets=np.arange(0, events + 1, _TIMED_EVENTS, dtype=np.int64),
        times_ms=1_700_000_000_000 + np.arange(events, dtype=np.int64) * 60_000,
        types=np.zeros(events, dtype=np.uint8),
        dwell_ms=np.full(events, -1, dtype=np.int32),
    )


def _ranked(one: _Loaded, request: Request, bar: Bar, name: str) -> Result | None:
    """Each user's last new item among all that the user had not met."""
    if not len(request.data):
        return None
    data = in_time_order(request.data, seed=request.split_seed)
    put_texts(one.encoder, data)
    scorer = InterestScorer(one.encoder, data, request.policy)
    with bar(f"ranking, {name}") as show:
        return ask(scorer, leave_last_out(data), progress=show)


def _means(result: Result | None) -> dict[str, float]:
    if result is None:
        return {}
    return {name: float(result.values[name].mean()) for name in ("recall@10", "ndcg@10")}


def versions() -> dict[str, str]:
    """Return what the figures depend on."""
    names = ("interest-stream", "torch", "transformers", "numpy")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
