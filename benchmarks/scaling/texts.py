"""What one CPU thread embeds: tokens per second of the worker's own text encoder."""

from __future__ import annotations

import time

from benchmarks.workload import Workload
from encoders.config import EncoderConfig
from encoders.text_encoder import TextEncoder

_TEXTS = 600
_WARM_UP_TEXTS = 100
_ROUNDS = 3


def measure() -> dict[str, float | str]:
    """Return tokens/s, the best of three rounds: others' load only ever takes away."""
    encoder = TextEncoder(EncoderConfig(device="cpu", threads=1))
    texts = list(Workload(0, 1, _TEXTS).item_texts().values())
    tokens = sum(len(encoder.token_ids(text)) for text in texts)
    encoder.encode(texts[:_WARM_UP_TEXTS])
    seconds = min(_seconds(encoder, texts) for _ in range(_ROUNDS))
    return {
        "backend": encoder.backend,
        "mean_tokens": tokens / len(texts),
        "tokens_per_s": tokens / seconds,
    }


def _seconds(encoder: TextEncoder, texts: list[str]) -> float:
    began_s = time.perf_counter()
    encoder.encode(texts)
    return time.perf_counter() - began_s
