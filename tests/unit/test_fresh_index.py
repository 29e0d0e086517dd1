"""The index of examples/nearest.py against brute force: vectors come, change and go."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.harness.scripts import load_script

nearest = load_script("nearest")

Vectors = dict[str, np.ndarray[Any, np.dtype[np.float32]]]


def clustered(count: int, dimensions: int, seed: int, first: int = 0) -> Vectors:
    """Return unit vectors around 40 directions, as interests are: some near, most far."""
    rng = np.random.default_rng(seed)
    centres = np.random.default_rng(0).normal(size=(40, dimensions))
    numbers = centres[rng.integers(0, 40, count)] + rng.normal(size=(count, dimensions)) * 0.8
    numbers /= np.linalg.norm(numbers, axis=1, keepdims=True)
    return {f"u{first + n}": row for n, row in enumerate(numbers.astype(np.float32))}


def by_brute_force(held: Vectors, vector: Any, count: int) -> list[str]:
    names = list(held)
    order = np.argsort(-(np.array([held[name] for name in names]) @ vector), kind="stable")
    return [names[at] for at in order[:count]]


def recall(index: Any, held: Vectors, queries: Vectors) -> float:
    shares = []
    for vector in queries.values():
        found = {name for name, _ in index.nearest(vector, 10)}
        shares.append(len(found & set(by_brute_force(held, vector, 10))) / 10)
    return float(np.mean(shares))


def test_recall_against_brute_force_while_vectors_come_change_and_go() -> None:
    index, held = nearest.FreshIndex(), {}
    rng = np.random.default_rng(1)
    for step in range(6):
        new = clustered(700, 24, seed=step, first=400 * step)  # 300 of them are held already
        index.put(new)
        held |= new
        gone = [str(name) for name in rng.choice(list(held), 100, replace=False)]
        index.remove(gone)
        held = {name: vector for name, vector in held.items() if name not in gone}
        assert len(index) == len(held)
        queries = dict(list(held.items())[::37])
        assert recall(index, held, queries) >= 0.95
        for name, vector in queries.items():
            ((best, score),) = index.nearest(vector, 1)
            assert (best, score) == (name, pytest.approx(1, abs=1e-5)), "the newest vector is held"
    assert index._index.nlist > 10, "it was learned anew as it grew, and is no plain scan"


def test_a_small_index_is_exact() -> None:
    held = clustered(60, 8, seed=3)
    index = nearest.FreshIndex()
    index.put(held)
    for vector in held.values():
        assert [name for name, _ in index.nearest(vector, 10)] == by_brute_force(held, vector, 10)


def test_an_empty_index_finds_nobody_and_zeros_are_nobody() -> None:
    index = nearest.FreshIndex()
    assert index.nearest([1.0, 0.0], 3) == []
    index.put({"a": [0.0, 0.0]})
    assert index.nearest([1.0, 0.0], 3) == []
    index.put({"a": [1.0, 0.0], "b": [0.0, 1.0]})
    assert [name for name, _ in index.nearest([1.0, 0.0], 3)] == ["a", "b"]
    index.put({"a": ()})
    index.remove(["b", "nobody"])
    assert index.nearest([1.0, 0.0], 3) == []
    assert len(index) == 0
