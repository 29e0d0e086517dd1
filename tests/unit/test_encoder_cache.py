"""The text-vector cache on disk: capped, and no reason to stop when it breaks."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from encoders.text_cache import TextCache

DIMENSIONS = 64


def vectors(first: int, count: int) -> dict[bytes, np.ndarray]:
    generator = np.random.default_rng(first)
    return {
        number.to_bytes(16, "big"): generator.standard_normal((3, DIMENSIONS), dtype=np.float32)
        for number in range(first, first + count)
    }


def size_bytes(folder: Path) -> int:
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def test_what_was_put_comes_back_after_a_restart(tmp_path: Path) -> None:
    kept = vectors(0, 20)
    cache = TextCache(tmp_path, 1 << 20, DIMENSIONS)
    cache.put(kept)
    cache.close()
    again = TextCache(tmp_path, 1 << 20, DIMENSIONS)
    found = again.get([*kept, b"never put"])
    assert list(found) == list(kept)
    assert all(np.array_equal(found[key], kept[key]) for key in kept)
    again.close()


def test_a_cap_that_was_lowered_holds_for_what_is_there(tmp_path: Path) -> None:
    cache = TextCache(tmp_path, 16 << 20, DIMENSIONS)
    for first in range(0, 8_000, 100):  # 6 MB in all
        cache.put(vectors(first, 100))
    cache.close()
    assert size_bytes(tmp_path) > 4 << 20
    smaller = TextCache(tmp_path, 1 << 20, DIMENSIONS)
    for first in range(8_000, 10_000, 100):
        smaller.put(vectors(first, 100))
    smaller.close()
    assert size_bytes(tmp_path) < 2 << 20


def test_the_cap_holds_and_the_newest_stay(tmp_path: Path) -> None:
    cap_bytes = 1 << 20
    cache = TextCache(tmp_path, cap_bytes, DIMENSIONS)
    for first in range(0, 8_000, 100):  # 6 MB in all
        cache.put(vectors(first, 100))
    newest, oldest = vectors(7_900, 100), vectors(0, 100)
    assert len(cache.get(list(newest))) == 100
    assert cache.get(list(oldest)) == {}
    cache.close()
    slack_bytes = 200 << 10  # RocksDB's own log, options and manifest
    assert size_bytes(tmp_path) < cap_bytes + slack_bytes


def everywhere(content: bytes) -> bytes:
    return bytes(byte ^ 0x5A for byte in content)


def here_and_there(content: bytes) -> bytes:
    changed = bytearray(content)
    changed[1_000:-3_000:500] = everywhere(changed[1_000:-3_000:500])
    return bytes(changed)


@pytest.mark.parametrize(
    ("damaged", "how"),
    [("CURRENT", everywhere), ("*.sst", everywhere), ("*.sst", here_and_there)],
)
def test_a_damaged_cache_is_dropped_and_rebuilt(
    tmp_path: Path,
    damaged: str,
    how: Callable[[bytes], bytes],
    caplog: pytest.LogCaptureFixture,
) -> None:
    kept = vectors(0, 500)
    cache = TextCache(tmp_path, 1 << 20, DIMENSIONS)
    cache.put(kept)
    cache.close()
    files = list((tmp_path / "text-vectors").glob(damaged))
    assert files
    for path in files:
        path.write_bytes(how(path.read_bytes()))
    with caplog.at_level(logging.WARNING):
        again = TextCache(tmp_path, 1 << 20, DIMENSIONS)
        assert len(again.get(list(kept))) < len(kept)
    assert "is dropped and rebuilt" in caplog.text
    again.put(kept)
    assert len(again.get(list(kept))) == len(kept)
    again.close()


def test_a_cache_that_another_process_holds_is_left_alone(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    kept = vectors(0, 3)
    holder = TextCache(tmp_path, 1 << 20, DIMENSIONS)
    holder.put(kept)
    second = TextCache(tmp_path, 1 << 20, DIMENSIONS)
    second.put(vectors(10, 3))
    assert second.get(list(kept)) == {}
    second.close()
    assert "is held by another process" in caplog.text
    assert len(holder.get(list(kept))) == 3
    holder.close()
