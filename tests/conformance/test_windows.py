"""Windows to interests: every encoder keeps users apart and says zero where it knows nothing."""

from __future__ import annotations

import random

import numpy as np
import pytest

from encoders import GRANULARITIES, InterestConfig, InterestEncoder, WindowBatch
from tests.conformance.conftest import TEXTS, Kind
from tests.conformance.windows import chosen_users, one_window, some_texts, some_windows

USERS = 150
FUSIONS = ["add", "weighted_mean", "attention", "concat"]
EVEN = dict.fromkeys(GRANULARITIES, 1.0)


def known_users(batch: WindowBatch) -> np.ndarray:
    """[B] whether a user has an event with a text."""
    spans = zip(batch.offsets[:-1], batch.offsets[1:], strict=True)
    return np.array([bool((batch.rows[start:end] >= 0).any()) for start, end in spans])


def test_info_says_what_comes_out(filled: InterestEncoder) -> None:
    info = filled.info
    assert info.granularities == GRANULARITIES
    assert sum(info.weights) == pytest.approx(1.0)
    assert info.device == "cpu"
    assert len(info.model_id) == 16
    int(info.model_id, 16)


def test_shape_length_and_zeros(filled: InterestEncoder) -> None:
    batch = some_windows(USERS, TEXTS)
    interests = filled.encode(batch, with_granularities=True)
    dimensions = filled.info.dimensions
    assert interests.vectors.shape == (USERS, dimensions)
    assert interests.vectors.dtype == np.float32
    assert interests.granularities is not None
    assert interests.granularities.shape == (USERS, len(GRANULARITIES), dimensions)
    known = known_users(batch)
    assert not known.all()
    norms = np.linalg.norm(interests.vectors, axis=1)
    assert np.allclose(norms, known, atol=1e-5)
    assert np.allclose(np.linalg.norm(interests.granularities, axis=2), known[:, None], atol=1e-5)


@pytest.mark.parametrize("size", [1, 7, 64, USERS])
def test_a_user_has_the_same_bits_in_any_batch(filled: InterestEncoder, size: int) -> None:
    batch = some_windows(USERS, TEXTS)
    whole = filled.encode(batch, with_granularities=True)
    users = list(range(USERS))
    random.Random(size).shuffle(users)
    for start in range(0, USERS, size):
        chosen = users[start : start + size]
        part = filled.encode(chosen_users(batch, chosen), with_granularities=True)
        assert np.array_equal(part.vectors, whole.vectors[chosen])
        assert np.array_equal(part.granularities, whole.granularities[chosen])


def test_granularities_do_not_change_the_vector(filled: InterestEncoder) -> None:
    batch = some_windows(USERS, TEXTS, seed=4)
    with_them = filled.encode(batch, with_granularities=True).vectors
    without = filled.encode(batch)
    assert without.granularities is None
    assert np.array_equal(with_them, without.vectors)


def test_no_users(filled: InterestEncoder) -> None:
    interests = filled.encode(chosen_users(some_windows(3, TEXTS), []), with_granularities=True)
    assert interests.vectors.shape == (0, filled.info.dimensions)
    assert interests.granularities is not None
    assert interests.granularities.shape == (0, 4, filled.info.dimensions)


def test_users_without_events_or_text_are_zero(filled: InterestEncoder) -> None:
    empty = np.zeros(0, dtype=np.int64)
    nobody = WindowBatch(
        empty.astype(np.int32),
        np.zeros(3, dtype=np.int64),
        empty,
        empty.astype(np.uint8),
        empty.astype(np.int32),
    )
    assert not filled.encode(nobody).vectors.any()
    never_filled = 250
    assert not filled.encode(one_window([-1, never_filled, -1])).vectors.any()


def test_unknown_rows_count_as_if_they_were_not_there(filled: InterestEncoder) -> None:
    batch = one_window([-1, 4, 250, 9])
    known = [1, 3]
    without = WindowBatch(
        rows=batch.rows[known],
        offsets=np.array([0, 2], dtype=np.int64),
        times_ms=batch.times_ms[known],
        types=batch.types[known],
        dwell_ms=batch.dwell_ms[known],
    )
    assert np.array_equal(filled.encode(batch).vectors, filled.encode(without).vectors)


def test_one_event_is_the_items_own_vector(kind: Kind, filled: InterestEncoder) -> None:
    if kind.is_trained:
        pytest.skip("trained, what comes after an item is no longer the item itself")
    item = filled.item_vectors(np.array([8], dtype=np.int32))
    assert np.allclose(filled.encode(one_window([8])).vectors, item, atol=1e-6)


def test_newer_events_count_more(kind: Kind, filled: InterestEncoder) -> None:
    if kind.is_trained:
        pytest.skip("trained, how much an event counts is learned")
    items = filled.item_vectors(np.array([1, 2], dtype=np.int32))
    older, newer = items @ filled.encode(one_window([1, 2])).vectors[0]
    assert newer > older


def test_two_encoders_agree(kind: Kind, filled: InterestEncoder) -> None:
    other = kind.build(slab_rows=100, threads=2)
    other.put_texts(list(enumerate(some_texts(TEXTS))))
    batch = some_windows(20, TEXTS)
    assert other.info.model_id == filled.info.model_id
    assert np.allclose(other.encode(batch).vectors, filled.encode(batch).vectors, atol=1e-5)
    other.close()


def test_closing_twice_does_no_harm_and_leaves_others_alone(
    kind: Kind, filled: InterestEncoder
) -> None:
    before = filled.encode(one_window([1])).vectors
    encoder = kind.build()
    encoder.close()
    encoder.close()
    assert np.array_equal(filled.encode(one_window([1])).vectors, before)


@pytest.mark.parametrize("context", [True, False])
@pytest.mark.parametrize("fusion", FUSIONS)
def test_untrained_fusions_all_point_the_same_way(kind: Kind, fusion: str, context: bool) -> None:
    _skip_trained(kind)
    interest = InterestConfig(fusion=fusion, weights=EVEN, context=context)
    plain = kind.with_interest(InterestConfig(weights=EVEN))
    fused = kind.with_interest(interest)
    batch = some_windows(20, 10)
    for encoder in (plain, fused):
        encoder.put_texts(list(enumerate(some_texts(10))))
    expected = plain.encode(batch).vectors
    assert expected.any()
    assert np.allclose(fused.encode(batch).vectors, expected, atol=1e-6)
    plain.close()
    fused.close()


def test_a_type_without_weight_leaves_no_trace(kind: Kind) -> None:
    _skip_trained(kind)
    encoder = kind.with_interest(InterestConfig(event_type_weights={"click": 0.0}))
    encoder.put_texts(list(enumerate(some_texts(10))))
    assert not encoder.encode(one_window([1, 2])).vectors.any()
    encoder.close()


def test_the_session_is_what_the_paragraph_reads(kind: Kind) -> None:
    _skip_trained(kind)
    only = InterestConfig(weights={"paragraph": 1.0})
    encoder = kind.with_interest(only)
    encoder.put_texts(list(enumerate(some_texts(10))))
    minute_ms = 60_000
    apart = encoder.encode(one_window([1, 2, 3], gap_ms=31 * minute_ms)).vectors
    assert np.array_equal(apart, encoder.encode(one_window([3])).vectors)
    together = encoder.encode(one_window([1, 2, 3], gap_ms=30 * minute_ms)).vectors
    assert not np.array_equal(together, apart)
    encoder.close()


def test_a_window_longer_than_the_model_looks_back_counts_its_newest(
    kind: Kind, filled: InterestEncoder
) -> None:
    rows = [number % TEXTS for number in range(70)]
    vectors = filled.encode(one_window(rows)).vectors
    assert np.isfinite(vectors).all()
    assert np.linalg.norm(vectors) == pytest.approx(1, abs=1e-5)


def test_several_vectors_have_unit_length_and_are_kept_apart_by_user(
    kind: Kind, filled: InterestEncoder
) -> None:
    batch = some_windows(40, TEXTS, seed=7)
    several = filled.encode(batch).several
    if not kind.is_trained:
        assert several is None
        return
    assert several is not None
    assert several.shape == (40, 3, filled.info.dimensions)
    known = known_users(batch)
    assert np.allclose(np.linalg.norm(several, axis=2), known[:, None], atol=1e-5)
    assert not np.allclose(several[:, 0], several[:, 1], atol=1e-2)
    for user in (3, 17):
        alone = filled.encode(chosen_users(batch, [user])).several
        assert np.array_equal(alone[0], several[user])


def _skip_trained(kind: Kind) -> None:
    if kind.is_trained:
        pytest.skip("a trained model has the configuration it was trained with")
