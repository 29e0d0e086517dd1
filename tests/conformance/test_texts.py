"""Texts to vectors: every encoder gives the same bits for a text, whatever comes with it."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from encoders import InterestEncoder
from tests.conformance.conftest import SLAB_ROWS, TEXTS, Kind
from tests.conformance.windows import one_window, some_texts

ODD_TEXTS = [
    "\ud800 half a surrogate pair",
    "a\x00null",
    "👩‍👩‍👧‍👦" * 5,
    "\ufdfa \ufdfd \u202ebackwards\u202c",
    "e\u0301" * 40,
    "映画。とても良い！",
    "a",
    "\t\n tabs \r\n and lines\n\n",
]


def level_vectors(encoder: InterestEncoder, rows: list[int]) -> np.ndarray:
    """[N, G + 1, D]: each row's item vector and its granularities, seen as one-event windows."""
    items = encoder.item_vectors(np.array(rows, dtype=np.int32))
    parts = [
        encoder.encode(one_window([row]), with_granularities=True).granularities for row in rows
    ]
    assert all(part is not None for part in parts)
    return np.concatenate([items[:, None], np.concatenate(parts)], axis=1)


@pytest.fixture(scope="module")
def reference(filled: InterestEncoder) -> np.ndarray:
    return level_vectors(filled, list(range(TEXTS)))


def test_item_vectors_have_unit_length_and_differ(filled: InterestEncoder) -> None:
    vectors = filled.item_vectors(np.arange(TEXTS, dtype=np.int32))
    assert vectors.shape == (TEXTS, filled.info.dimensions)
    assert vectors.dtype == np.float32
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert len(np.unique(vectors, axis=0)) == TEXTS


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_any_order_and_any_batches_give_the_same_bits(
    kind: Kind, reference: np.ndarray, seed: int
) -> None:
    encoder = kind.build(token_budget=0 if seed == 1 else 64 * seed)
    texts = list(enumerate(some_texts(TEXTS)))
    shuffled = random.Random(seed)
    shuffled.shuffle(texts)
    while texts:
        size = shuffled.randint(1, 20)
        encoder.put_texts(texts[:size])
        texts = texts[size:]
    assert np.array_equal(level_vectors(encoder, list(range(TEXTS))), reference)
    encoder.close()


def test_alone_or_beside_a_long_text_the_same_bits(kind: Kind, reference: np.ndarray) -> None:
    texts = some_texts(TEXTS)
    encoder = kind.build()
    for row in range(0, TEXTS, 7):
        encoder.put_texts([(row, texts[row])])
        encoder.put_texts([(100 + row, texts[row] + " "), (200, "long " * 60 + str(row))])
    rows = list(range(0, TEXTS, 7))
    assert np.array_equal(level_vectors(encoder, rows), reference[rows])
    encoder.close()


def test_empty_texts_are_known_and_say_nothing(filled: InterestEncoder) -> None:
    report = filled.put_texts([(100, ""), (101, " \n\t ")])
    assert report.failed == []
    assert not filled.item_vectors(np.array([100, 101], dtype=np.int32)).any()
    with_silence = filled.encode(one_window([3, 100, 101])).vectors
    assert np.array_equal(with_silence, filled.encode(one_window([3])).vectors)


def test_row_minus_one_is_no_row(kind: Kind) -> None:
    encoder = kind.build(slab_rows=2)
    encoder.put_texts([(0, "first"), (1, "last")])
    vectors = encoder.item_vectors(np.array([-1, 1], dtype=np.int32))
    assert not vectors[0].any()
    assert vectors[1].any()
    encoder.close()


def test_no_texts_at_all(filled: InterestEncoder) -> None:
    report = filled.put_texts([])
    assert (report.hits_memory, report.hits_disk, report.encoded, report.tokens) == (0, 0, 0, 0)
    assert report.failed == []
    assert filled.item_vectors(np.zeros(0, np.int32)).shape == (0, filled.info.dimensions)


def test_odd_texts_have_vectors(filled: InterestEncoder) -> None:
    rows = range(110, 110 + len(ODD_TEXTS))
    assert filled.put_texts(list(zip(rows, ODD_TEXTS, strict=True))).failed == []
    vectors = filled.item_vectors(np.array(rows, dtype=np.int32))
    assert np.isfinite(vectors).all()
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)


def test_a_very_long_text_is_cut(filled: InterestEncoder) -> None:
    report = filled.put_texts([(120, "quick brown fox. " * 20_000)])
    assert report.failed == []
    assert np.isfinite(filled.item_vectors(np.array([120], dtype=np.int32))).all()


def test_a_row_takes_another_text(filled: InterestEncoder, reference: np.ndarray) -> None:
    texts = some_texts(TEXTS)
    filled.put_texts([(130, texts[5])])
    filled.put_texts([(130, texts[6]), (131, texts[5])])
    assert np.array_equal(level_vectors(filled, [130, 131]), reference[[6, 5]])
    filled.put_texts([(131, texts[6]), (130, texts[5])])
    assert np.array_equal(level_vectors(filled, [130, 131]), reference[[5, 6]])


def test_a_held_text_is_a_hit(filled: InterestEncoder) -> None:
    report = filled.put_texts([(row, text) for row, text in enumerate(some_texts(5))])
    assert (report.hits_memory, report.encoded, report.tokens) == (5, 0, 0)


@pytest.mark.parametrize("row", [-1, SLAB_ROWS])
def test_a_row_outside_the_slab_is_refused(filled: InterestEncoder, row: int) -> None:
    with pytest.raises(ValueError, match=f"row {row} is outside the slab of {SLAB_ROWS} rows"):
        filled.put_texts([(0, "kept"), (row, "text")])


def test_what_comes_from_disk_is_bit_for_bit_fresh(
    kind: Kind, reference: np.ndarray, tmp_path: Path
) -> None:
    if not kind.has_text_model:
        pytest.skip("the stub computes nothing worth keeping on disk")
    texts = list(enumerate(some_texts(TEXTS)))
    first = kind.build(cache_dir=str(tmp_path))
    assert first.put_texts(texts[:40]).encoded == 40
    first.close()
    second = kind.build(cache_dir=str(tmp_path))
    report = second.put_texts(texts)
    assert (report.hits_memory, report.hits_disk, report.encoded) == (0, 40, TEXTS - 40)
    assert np.array_equal(level_vectors(second, list(range(TEXTS))), reference)
    second.close()


def test_a_dropped_text_is_in_no_row_and_not_on_disk(kind: Kind, tmp_path: Path) -> None:
    encoder = kind.build(cache_dir=str(tmp_path))
    kept, dropped, elsewhere = some_texts(3)
    encoder.put_texts([(0, kept), (1, dropped), (2, elsewhere)])
    encoder.drop_texts([(1, dropped), (-1, elsewhere)])
    vectors = encoder.item_vectors(np.array([0, 1], dtype=np.int32))
    assert vectors[0].any()
    assert not vectors[1].any()
    report = encoder.put_texts([(3, dropped)])
    assert (report.hits_memory, report.hits_disk, report.encoded) == (0, 0, 1)
    encoder.close()
    if kind.has_text_model:
        again = kind.build(cache_dir=str(tmp_path))
        assert again.put_texts([(0, kept), (2, elsewhere)]).hits_disk == 1
        again.close()
