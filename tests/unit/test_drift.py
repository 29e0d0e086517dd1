"""What the drift measures say of spaces whose relation is known."""

from __future__ import annotations

import numpy as np
import pytest

from encoders.evaluation.drift import drift, linear_cka
from encoders.interface import Float32


def vectors(count: int = 300, dimensions: int = 12, seed: int = 1) -> Float32:
    rows = np.random.default_rng(seed).normal(size=(count, dimensions))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32)


def rotation(dimensions: int, seed: int = 5) -> Float32:
    square = np.random.default_rng(seed).normal(size=(dimensions, dimensions))
    return np.asarray(np.linalg.qr(square)[0], np.float32)


def test_a_rotation_keeps_everything_but_the_plain_cosine() -> None:
    one = vectors()
    found = drift(one, one @ rotation(12), same_space=True)
    assert found is not None
    assert found.kept.mean() == found.jaccard.mean() == 1.0
    assert found.rank_correlation == pytest.approx(1.0, abs=1e-6)
    assert found.cka == pytest.approx(1.0, abs=1e-6)
    assert found.aligned.min() > 0.9999
    assert found.cosine is not None
    assert abs(found.cosine.mean()) < 0.5


def test_spaces_that_have_nothing_in_common_are_at_chance() -> None:
    one, other = vectors(1_000, 12, 1), vectors(1_000, 30, 2)
    found = drift(one, other, same_space=False)
    assert found is not None
    assert found.cosine is None
    assert found.kept_by_chance == pytest.approx(10 / 999)
    assert found.kept.mean() == pytest.approx(found.kept_by_chance, abs=0.01)
    assert abs(found.rank_correlation) < 0.05
    # Judged on those it was fitted on, the rotation would find a cosine of .2 here.
    assert abs(found.aligned.mean()) < 0.05


def test_drift_grows_with_what_is_added() -> None:
    one, noise = vectors(), vectors(seed=2)
    little, much = (drift(one, one + amount * noise, same_space=True) for amount in (0.1, 1.0))
    assert little is not None
    assert much is not None
    for name in ("kept", "aligned", "jaccard"):
        assert getattr(little, name).mean() > getattr(much, name).mean()
    assert little.rank_correlation > much.rank_correlation
    assert little.cka > much.cka


def test_zero_vectors_are_counted_and_left_out() -> None:
    one, other = vectors(50), vectors(50)
    one[:3] = 0
    other[2:7] = 0
    found = drift(one, other, same_space=True)
    assert found is not None
    assert (found.zero, found.compared) == ((3, 5), 43)
    assert found.norms[0].low == 0.0
    assert drift(one[:9], other[:9], same_space=True) is None, "two are left"


def test_cka_is_the_papers() -> None:
    """Kornblith et al. 2019, equation 3, with the Gram matrices written out."""
    one, other = vectors(40, 6, 3).astype(np.float64), vectors(40, 9, 4).astype(np.float64)
    centre = np.eye(40) - 1 / 40
    gram, other_gram = (centre @ rows @ rows.T @ centre for rows in (one, other))
    wanted = (gram * other_gram).sum() / np.linalg.norm(gram) / np.linalg.norm(other_gram)
    assert linear_cka(one, other) == pytest.approx(wanted)


def test_neighbours_are_counted_by_hand() -> None:
    angles = np.arange(24) / 24 * 2 * np.pi
    circle = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    moved = circle.copy()
    moved[0], moved[12] = circle[12], circle[0]  # two change places
    found = drift(circle, moved, same_space=True)
    assert found is not None
    # 0 was between 19 ... 5, and is now between 7 ... 17: none of its ten is left.
    assert found.kept[0] == 0.0
    # 1 had 0 among its ten, and has 12 no nearer than before: nine are left.
    assert found.kept[1] == pytest.approx(0.9)
