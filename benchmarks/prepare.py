"""Before any clock runs: the catalogue's vectors, for the peers as an array, for us on disk.

``python -m benchmarks.prepare ITEMS OUT`` in a process of its own, so that torch and the model are
in none of the measuring ones.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import encoders
from benchmarks.workload import Workload


@dataclass(frozen=True)
class Prepared:
    """Where the vectors lie and what made them."""

    vectors: Path
    text_cache: Path
    model_id: str
    weights: tuple[float, ...]
    dimensions: int
    backend: str

    @classmethod
    def load(cls, directory: Path) -> Prepared:
        """Return what :func:`main` wrote into ``directory``."""
        facts = json.loads((directory / "model.json").read_text())
        return cls(
            directory / "vectors.npy",
            directory / "text-cache",
            facts["model_id"],
            tuple(facts["weights"]),
            facts["dimensions"],
            facts["backend"],
        )


def main() -> None:
    items, directory = int(sys.argv[1]), Path(sys.argv[2])
    texts = list(Workload(0, 1, items).item_texts().values())
    encoder = encoders.build(
        encoders.EncoderConfig(cache_dir=str(directory / "text-cache"), slab_rows=max(items, 64))
    )
    for start in range(0, items, 256):
        chunk = texts[start : start + 256]
        encoder.put_texts(list(enumerate(chunk, start)))
    np.save(directory / "vectors.npy", encoder.item_vectors(np.arange(items, dtype=np.int32)))
    facts = {
        "model_id": encoder.info.model_id,
        "weights": encoder.info.weights,
        "dimensions": encoder.info.dimensions,
        "backend": encoder.info.backend,
    }
    encoder.close()
    (directory / "model.json").write_text(json.dumps(facts))


if __name__ == "__main__":
    main()
