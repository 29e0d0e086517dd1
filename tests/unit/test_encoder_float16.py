"""Vectors kept as float16: half the memory, sums in float32, the same from disk as fresh."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

import encoders
from encoders import EncoderConfig, EncoderConfigInvalid, text_store
from encoders.text_encoder import TextEncoder
from encoders.text_store import TextStore
from tests.conformance.models import tiny_bert
from tests.conformance.windows import chosen_users, some_texts, some_windows

TEXTS = list(enumerate(some_texts(40)))


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> EncoderConfig:
    folder = tiny_bert(tmp_path_factory.mktemp("bert"))
    return EncoderConfig(text_model=str(folder), device="cpu", slab_rows=64, vectors="float16")


def test_the_slab_is_half_as_large_and_holds_rounded_vectors(config: EncoderConfig) -> None:
    text = TextEncoder(config)
    half, full = TextStore(config, text), TextStore(replace(config, vectors="float32"), text)
    half.put(TEXTS)
    full.put(TEXTS)
    assert half.vectors.nbytes * 2 == full.vectors.nbytes
    assert torch.equal(half.vectors, full.vectors.half())
    assert torch.any(half.vectors.float() != full.vectors), "or nothing would be rounded"


@pytest.mark.parametrize("at_once", [1, 7, 10_000])
def test_sums_are_those_of_float32(
    config: EncoderConfig, at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text_store, "_WIDENED_ROWS", at_once)
    text = TextEncoder(config)
    half, full = TextStore(config, text), TextStore(replace(config, vectors="float32"), text)
    half.put(TEXTS)
    full.vectors[:] = half.vectors.float()
    generator = np.random.default_rng(0)
    rows = generator.integers(0, 40, 100)
    starts = np.array([0, 0, 3, 50, 50, 99, 100])  # empty bags first, amid and last
    weights = generator.random(100, dtype=np.float32)
    for level in range(3):
        ours = half.pool(level, rows, starts, weights)
        assert torch.equal(ours, full.pool(level, rows, starts, weights))
    assert half.pool(0, rows[:0], starts[:0], weights[:0]).shape == (0, 32)


def test_vectors_are_float32_nearly_the_same_and_of_another_model(config: EncoderConfig) -> None:
    half, full = encoders.build(config), encoders.build(replace(config, vectors="float32"))
    for encoder in (half, full):
        encoder.put_texts(TEXTS)
    batch = some_windows(20, rows=40)
    ours, theirs = half.encode(batch).vectors, full.encode(batch).vectors
    assert ours.dtype == np.float32
    np.testing.assert_allclose(ours, theirs, atol=2e-3)
    assert not np.array_equal(ours, theirs)
    assert (half.info.vectors, full.info.vectors) == ("float16", "float32")
    assert half.info.model_id != full.info.model_id
    alone = half.encode(chosen_users(batch, [7])).vectors[0]
    assert np.array_equal(alone, ours[7]), "whoever else is in the batch"


def test_what_comes_from_disk_is_what_was_computed(config: EncoderConfig, tmp_path: Path) -> None:
    cached = replace(config, cache_dir=str(tmp_path))
    batch = some_windows(20, rows=40)
    first = encoders.build(cached)
    assert first.put_texts(TEXTS).encoded == 40
    fresh = first.encode(batch).vectors
    first.close()
    again = encoders.build(cached)
    assert again.put_texts(TEXTS).hits_disk == 40
    assert np.array_equal(again.encode(batch).vectors, fresh)
    again.close()
    other = encoders.build(replace(cached, vectors="float32"))
    assert other.put_texts(TEXTS).hits_disk == 0, "float32 does not take up what was rounded"
    other.close()
    third = encoders.build(cached)
    assert third.put_texts(TEXTS).hits_disk == 40, "nor does it take them for damaged"
    third.close()


def test_the_stub_publishes_float16_too_and_other_formats_are_refused() -> None:
    info = encoders.build(EncoderConfig(kind="stub", vectors="float16")).info
    plain = encoders.build(EncoderConfig(kind="stub")).info
    assert info.vectors == "float16"
    assert info.model_id != plain.model_id
    with pytest.raises(EncoderConfigInvalid, match="float32 or float16, is 'float8'"):
        EncoderConfig(vectors="float8")  # type: ignore[arg-type]
