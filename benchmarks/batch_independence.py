"""``python -m benchmarks.batch_independence [--quick]``: one vector in any batch, at what cost?

As served, products have one fixed size, filled up with zeros. Against that, in the same run: the
same model with products as large as the batch. Prints JSON: of so many users, how many have other
bits in batches of another size or order; and the time of a batch as served over the other's.
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch

from benchmarks.interest_model import EVENTS, encoders_of_random_weights, windows
from encoders import transformer
from encoders.interface import Float32, WindowBatch
from encoders.transformer import TransformerEncoder

_USERS = {True: 200, False: 1_000}
_SIZES = (1, 7, 64, 256)


def run(quick: bool, threads: int) -> dict[str, object]:
    """Return what is measured, by model."""
    found: dict[str, object] = {}
    users = _USERS[quick]
    for name, encoder in encoders_of_random_weights(threads):
        served = _others(encoder, users)
        with _as_large_as_the_batch():
            whole = _others(encoder, users)
        ratios = {size: _ratio(encoder, size, 3 if quick else 15) for size in (1, 16, 64, 256)}
        found[name] = {
            "users": users,
            "other_bits_as_served": served,
            "other_bits_with_products_of_the_batch": whole,
            "time_as_served_over_products_of_the_batch": ratios,
        }
        encoder.close()
        if quick:
            break
    return {"benchmark": "batch_independence", "threads": threads, "models": found}


def _others(encoder: TransformerEncoder, users: int) -> dict[str, int]:
    """Return how many users' bits differ from those of one batch of all, by batch."""
    everybody = windows(users)
    wanted = encoder.encode(everybody).vectors
    found = {}
    for size in _SIZES:
        parts = [
            encoder.encode(_chosen(everybody, np.arange(start, min(start + size, users)))).vectors
            for start in range(0, users, size)
        ]
        found[f"batches of {size}"] = _differing(np.concatenate(parts), wanted)
    order = np.random.default_rng(0).permutation(users)
    shuffled = encoder.encode(_chosen(everybody, order)).vectors
    found["shuffled"] = _differing(shuffled, wanted[order])
    return found


def _differing(one: Float32, other: Float32) -> int:
    return int((one != other).any(axis=1).sum())


def _chosen(batch: WindowBatch, users: np.ndarray) -> WindowBatch:
    at = (users[:, None] * EVENTS + np.arange(EVENTS)).ravel()
    return WindowBatch(
        batch.rows[at],
        np.arange(len(users) + 1) * EVENTS,
        batch.times_ms[at],
        batch.types[at],
        batch.dwell_ms[at],
    )


@contextmanager
def _as_large_as_the_batch() -> Iterator[None]:
    def whole(
        module: Callable[..., torch.Tensor], *inputs: torch.Tensor, size: int = 0
    ) -> torch.Tensor:
        return module(*inputs)

    with mock.patch.object(transformer, "in_blocks", whole):
        yield


def _ratio(encoder: TransformerEncoder, users: int, rounds: int) -> float:
    """Return the median of the times of turns: served, then whole, and so on."""
    batch = windows(users)
    ratios = []
    for _ in range(rounds + 1):
        served_s = _timed(lambda: encoder.encode(batch))
        with _as_large_as_the_batch():
            whole_s = _timed(lambda: encoder.encode(batch))
        ratios.append(served_s / whole_s)
    return round(statistics.median(ratios[1:]), 2)


def _timed(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.batch_independence")
    parser.add_argument("--quick", action="store_true", help="one model, fewer users and rounds")
    parser.add_argument("--threads", type=int, default=1, help="of torch")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.quick, arguments.threads), indent=2))


if __name__ == "__main__":
    main()
