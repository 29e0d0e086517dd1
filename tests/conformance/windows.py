"""Texts and windows for the conformance suite: made by a seed, of many lengths."""

from __future__ import annotations

import numpy as np

from encoders import WindowBatch

WORDS = [
    *("heat", "toy", "story", "the", "comedy", "of", "winter", "shoes", "running", "lazy"),
    *("fox", "dog", "quick", "angeles", "heist", "1995", "children", "boots", "drama"),
    *("again", "cheap", "unbelievably", "🎬", "naïve", "映画", "it's"),
]


def some_texts(count: int, seed: int = 0) -> list[str]:
    """Return texts of 1 to 50 words in sentences, all different."""
    generator = np.random.default_rng(seed)
    texts = []
    for number in range(count):
        words = generator.choice(WORDS, generator.integers(1, 50))
        ends = generator.choice(["", ".", "!", ","], len(words), p=[0.8, 0.1, 0.05, 0.05])
        told = " ".join(word + end for word, end in zip(words, ends, strict=True))
        texts.append(f"{number} {told}")
    return texts


def some_windows(users: int, rows: int, seed: int = 0, longest: int = 30) -> WindowBatch:
    """Return windows of 0 to ``longest`` events; one event in ten has no text."""
    generator = np.random.default_rng(seed)
    counts = generator.integers(0, longest + 1, users)
    events = int(counts.sum())
    offsets = np.concatenate(([0], np.cumsum(counts))).astype(np.int64)
    gaps_ms = generator.choice([1_000, 60_000, 3_600_000, 86_400_000], events)
    row = generator.integers(0, rows, events)
    row[generator.random(events) < 0.1] = -1
    return WindowBatch(
        rows=row.astype(np.int32),
        offsets=offsets,
        times_ms=1_700_000_000_000 + np.cumsum(gaps_ms),
        types=generator.integers(0, 5, events).astype(np.uint8),
        dwell_ms=generator.choice([-1, 500, 90_000], events).astype(np.int32),
    )


def chosen_users(batch: WindowBatch, users: list[int]) -> WindowBatch:
    """Return the batch of these users only, in this order."""
    spans = [np.arange(batch.offsets[user], batch.offsets[user + 1]) for user in users]
    events = np.concatenate([*spans, np.zeros(0, dtype=np.int64)]).astype(np.int64)
    counts = [len(span) for span in spans]
    return WindowBatch(
        rows=batch.rows[events],
        offsets=np.concatenate(([0], np.cumsum(counts))).astype(np.int64),
        times_ms=batch.times_ms[events],
        types=batch.types[events],
        dwell_ms=batch.dwell_ms[events],
    )


def one_window(rows: list[int], gap_ms: int = 1_000) -> WindowBatch:
    """Return one user's window of these rows, evenly spaced, of type click."""
    events = len(rows)
    return WindowBatch(
        rows=np.array(rows, dtype=np.int32),
        offsets=np.array([0, events], dtype=np.int64),
        times_ms=1_700_000_000_000 + np.arange(events, dtype=np.int64) * gap_ms,
        types=np.full(events, 1, dtype=np.uint8),
        dwell_ms=np.full(events, -1, dtype=np.int32),
    )
