"""Our text encoder against sentence-transformers: the same texts, one process, rounds in turn.

``python -m benchmarks.text_encoder [--quick]`` prints JSON. Both have the same weights, float32,
the same number of torch threads, and their default batch sizes; ours gives word and sentence
vectors besides the text's.
"""

from __future__ import annotations

import argparse
import json
import platform
import random
import statistics
import time
from collections.abc import Callable, Sequence
from importlib.metadata import version

import numpy as np
import torch

from encoders.config import EncoderConfig
from encoders.model_files import packaged_minilm
from encoders.text_encoder import TextEncoder
from encoders.tokens import TEXT
from stream_app import movielens

_LONG_TOKENS = 90
_FULL = {"short": 2_000, "long": 400, "rounds": 7}
_QUICK = {"short": 600, "long": 120, "rounds": 3}
_ODD_BATCHES = (1, 3, 17, 64)


def run(quick: bool, threads: int | None = None) -> dict[str, object]:
    """Return texts/s of both by length of text, and the ratio: the lower of the two."""
    from sentence_transformers import SentenceTransformer

    size = _QUICK if quick else _FULL
    theirs = SentenceTransformer(str(packaged_minilm()), device="cpu")
    threads = threads or torch.get_num_threads()
    ours = TextEncoder(EncoderConfig(device="cpu", threads=threads))
    catalogue = [item["text"] for item in movielens.items()]
    random.Random(0).shuffle(catalogue)
    sets = {
        "short": catalogue[: size["short"]],
        "long": _long_texts(catalogue, size["long"], ours),
    }
    measured = {name: _compare(texts, ours, theirs, size["rounds"]) for name, texts in sets.items()}
    return {
        "ratio": min(result["ratio"] for result in measured.values()),
        "ratio_short": measured["short"]["ratio"],
        "ratio_long": measured["long"]["ratio"],
        "bit_identical": all(_is_bit_identical(ours, texts) for texts in sets.values()),
        "backend": ours.backend,
        "threads": threads,
        "texts": measured,
        "versions": {
            "python": platform.python_version(),
            **{name: version(name) for name in ("torch", "transformers", "sentence-transformers")},
        },
    }


def _long_texts(catalogue: Sequence[str], count: int, encoder: TextEncoder) -> list[str]:
    """Texts of about 90 tokens: catalogue entries one after the other, all different."""
    texts = []
    generator = random.Random(1)
    while len(texts) < count:
        text = ""
        while len(encoder.token_ids(text)) < _LONG_TOKENS:
            text = f"{text} {generator.choice(catalogue)}.".strip()
        texts.append(text)
    return texts


def _compare(texts: list[str], ours: TextEncoder, theirs: object, rounds: int) -> dict[str, float]:
    def encode_theirs() -> np.ndarray:
        vectors: np.ndarray = theirs.encode(  # type: ignore[attr-defined]
            texts, normalize_embeddings=True, show_progress_bar=False
        )
        return vectors

    def encode_ours() -> np.ndarray:
        return ours.encode(texts).vectors[:, TEXT]

    difference = float(np.abs(encode_ours() - encode_theirs()).max())  # and both are warm now
    pairs = [(_seconds(encode_ours), _seconds(encode_theirs)) for _ in range(rounds)]
    # The ratio is taken within a round, so that a busy machine meets both alike.
    return {
        "texts": len(texts),
        "mean_tokens": round(statistics.mean(len(ours.token_ids(text)) for text in texts), 1),
        "ours_per_s": round(len(texts) / statistics.median(our for our, _ in pairs), 1),
        "theirs_per_s": round(len(texts) / statistics.median(their for _, their in pairs), 1),
        "ratio": round(statistics.median(their / our for our, their in pairs), 2),
        "largest_difference": difference,
    }


def _is_bit_identical(encoder: TextEncoder, texts: Sequence[str]) -> bool:
    """Whether all three vectors of every text are the same bits in other orders and batches."""
    expected = encoder.encode(texts).vectors
    generator = random.Random(2)
    for batch in _ODD_BATCHES:
        places = list(range(len(texts)))
        generator.shuffle(places)
        places = places[: 50 * batch]
        for start in range(0, len(places), batch):
            chosen = places[start : start + batch]
            vectors = encoder.encode([texts[place] for place in chosen]).vectors
            if not np.array_equal(vectors, expected[chosen]):
                return False
    return True


def _seconds(encode: Callable[[], np.ndarray]) -> float:
    started = time.perf_counter()
    encode()
    return time.perf_counter() - started


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.text_encoder", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer texts and rounds")
    parser.add_argument("--threads", type=int, help="of torch; default: as many as it takes")
    arguments = parser.parse_args()
    print(json.dumps(run(arguments.quick, arguments.threads), indent=2))


if __name__ == "__main__":
    main()
