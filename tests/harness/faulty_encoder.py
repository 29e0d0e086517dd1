"""A worker whose encoder can be harmed: ``python -m tests.harness.faulty_encoder worker``.

The encoder process is spawned and imports this module anew, so that :func:`harmed` takes the place
of ``encoders.build`` there; production code knows nothing of it. What is to go wrong lies in files
beside the worker's text cache, see :class:`Harm`, or in the texts themselves, see ``POISON``.
"""

from __future__ import annotations

import resource
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import psutil

import encoders
from encoders import EncoderConfig, InterestEncoder, Interests, TextReport, WindowBatch
from encoders.interface import Float32, Int32

RAISES, HANGS, NAN, MEMORY = "raises", "hangs", "nan", "memory"
POISON = "poisonous"
"""A text with this word and RAISES makes every call fail that puts it; with NAN, every vector that
it is part of comes out as NaN."""
_FOLDER = "harm"
_SPARE_BYTES = 256 << 20
_BYTES_PER_USER = 64 << 20
"""Of a batch, while memory is short: a batch of five users is one too large."""

_build = encoders.build


class Harm:
    """What a test wants to go wrong in a worker's encoder, and what went wrong already.

    ``raises``, ``hangs`` and ``nan`` happen to one request, the next; ``memory`` stays short until
    it is taken back.
    """

    def __init__(self, datadir: Path) -> None:
        self._folder = datadir / _FOLDER

    def do(self, kind: str) -> None:
        """Let it happen from now on."""
        self._folder.mkdir(exist_ok=True)
        (self._folder / kind).touch()

    def take_back(self, kind: str) -> None:
        """Let it happen no more."""
        (self._folder / kind).unlink(missing_ok=True)

    def wanted(self, kind: str) -> bool:
        """Tell whether it is to happen, and has not yet."""
        return (self._folder / kind).exists()

    def happened(self, kind: str) -> int:
        """Return how many requests it happened to."""
        try:
            return (self._folder / "happened").read_text().split().count(kind)
        except FileNotFoundError:
            return 0

    def note(self, kind: str) -> None:
        """Write down that it happened."""
        with (self._folder / "happened").open("a") as happened:
            happened.write(f"{kind}\n")


class FaultyEncoder:
    """An encoder to which harm is done."""

    def __init__(self, encoder: InterestEncoder, datadir: Path) -> None:
        self._encoder = encoder
        self._harm = Harm(datadir)
        self._nan_rows: set[int] = set()
        self.info = encoder.info
        self._all_there_is: tuple[int, int] = resource.getrlimit(resource.RLIMIT_AS)

    def put_texts(
        self, texts: Sequence[tuple[int, str]], media: Mapping[int, Float32] | None = None
    ) -> TextReport:
        """See ``InterestEncoder.put_texts``."""
        self._happen()
        if any(POISON in text and RAISES in text for _, text in texts):
            raise RuntimeError("a text that no model survives")
        report = self._encoder.put_texts(texts, media)
        for row, text in texts:
            (self._nan_rows.add if POISON in text else self._nan_rows.discard)(row)
        return report

    def drop_texts(self, texts: Sequence[tuple[int, str]]) -> None:
        """See ``InterestEncoder.drop_texts``."""
        self._encoder.drop_texts(texts)

    def encode(self, batch: WindowBatch, *, with_granularities: bool = False) -> Interests:
        """See ``InterestEncoder.encode``."""
        self._happen()
        if self._harm.wanted(MEMORY):
            self._take_memory(len(batch.offsets) - 1)
        interests = self._encoder.encode(batch, with_granularities=with_granularities)
        bad = np.isin(batch.rows, list(self._nan_rows))
        users = np.repeat(np.arange(len(batch.offsets) - 1), np.diff(batch.offsets))[bad]
        interests.vectors[users] = np.nan
        if self._taken(NAN):
            interests.vectors[0] = np.nan
        return interests

    def item_vectors(self, rows: Int32) -> Float32:
        """See ``InterestEncoder.item_vectors``."""
        vectors = self._encoder.item_vectors(rows)
        vectors[np.isin(rows, list(self._nan_rows))] = np.nan
        return vectors

    def close(self) -> None:
        """See ``InterestEncoder.close``."""
        self._encoder.close()

    def _happen(self) -> None:
        if self._taken(RAISES):
            raise RuntimeError("the test wants it so")
        if self._taken(HANGS):
            time.sleep(3600)

    def _taken(self, kind: str) -> bool:
        """Tell whether it is to happen now: once, also if this process does not survive it."""
        if not self._harm.wanted(kind):
            return False
        self._harm.take_back(kind)
        self._harm.note(kind)
        return True

    def _take_memory(self, users: int) -> None:
        """Ask the system for memory by the user, with little left to be had."""
        limit = psutil.Process().memory_info().vms + _SPARE_BYTES
        resource.setrlimit(resource.RLIMIT_AS, (limit, self._all_there_is[1]))
        try:
            np.empty(users * _BYTES_PER_USER, np.uint8)
        except MemoryError:
            self._harm.note(MEMORY)
            raise
        finally:
            resource.setrlimit(resource.RLIMIT_AS, self._all_there_is)


def harmed(config: EncoderConfig) -> Any:
    """Return what ``encoders.build`` does, open to harm."""
    return FaultyEncoder(_build(config), Path(config.cache_dir).parent)


encoders.build = harmed


if __name__ == "__main__":
    from stream_app.cli import main

    main()
