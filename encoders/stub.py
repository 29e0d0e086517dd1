"""An encoder without weights: a text's vector is a hash of it. For tests that need no meaning."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence

import numpy as np

from encoders import model_files
from encoders.config import EncoderConfig, InterestConfig
from encoders.errors import EncoderConfigInvalid
from encoders.event_weights import EventWeigher
from encoders.interface import (
    GRANULARITIES,
    EncoderInfo,
    Float32,
    Int32,
    Int64,
    Interests,
    TextReport,
    WindowBatch,
)
from encoders.text_rows import TextRows, content_key

_NAMESPACE = b"stub-1"


class StubEncoder:
    """Same protocol as the real thing, numpy only, deterministic on every machine.

    Word, sentence and text vectors are one here, so the granularities differ by session only.
    """

    def __init__(self, config: EncoderConfig, interest: InterestConfig | None = None) -> None:
        if config.interest_model:
            raise EncoderConfigInvalid("the stub encoder takes no interest_model: leave it empty")
        interest = interest or InterestConfig()
        self._shares = np.array(interest.shares(), dtype=np.float32)
        self._weigher = EventWeigher(interest)
        self._rows = TextRows(config.slab_rows)
        self._vectors: Float32 = np.zeros(
            (config.slab_rows, config.stub_dimensions), dtype=np.float32
        )
        identity = f"stub-1 {config.stub_dimensions}"
        self.info = EncoderInfo(
            model_id=model_files.model_id(identity, repr(interest), config.vectors),
            dimensions=config.stub_dimensions,
            granularities=GRANULARITIES,
            weights=interest.shares(),
            device="cpu",
            backend="stub-numpy",
            vectors=config.vectors,
        )

    def put_texts(
        self, texts: Sequence[tuple[int, str]], media: Mapping[int, Float32] | None = None
    ) -> TextReport:
        """See ``InterestEncoder.put_texts``; a word counts as one token."""
        self._rows.check(texts)
        hits = encoded = tokens = 0
        for row, text in texts:
            key = content_key(_NAMESPACE, text)
            if self._rows.key_at(row) == key:
                hits += 1
                continue
            known = bool(text.strip())
            if known:
                self._vectors[row] = _hashed(text, self._vectors.shape[1])
            self._rows.put(row, key, known=known)
            encoded += 1
            tokens += len(text.split())
        return TextReport(hits_memory=hits, encoded=encoded, tokens=tokens)

    def drop_texts(self, texts: Sequence[tuple[int, str]]) -> None:
        """See ``InterestEncoder.drop_texts``."""
        for row, _ in texts:
            if row >= 0:
                self._rows.clear(row)
                self._vectors[row] = 0.0

    def encode(self, batch: WindowBatch, *, with_granularities: bool = False) -> Interests:
        """See ``InterestEncoder.encode``."""
        with_session = with_granularities or bool(self._shares[2])
        events = self._weigher.weigh(batch, self._rows.known, with_session=with_session)
        document = self._pool(events.rows, events.window, events.offsets)
        paragraph = document
        if events.session is not None:
            paragraph = self._pool(events.rows, events.session, events.offsets)
        by_paragraph = self._shares[2]
        vectors = _unit(document * (1 - by_paragraph) + paragraph * by_paragraph)
        if not with_granularities:
            return Interests(vectors)
        document, paragraph = _unit(document), _unit(paragraph)
        return Interests(vectors, np.stack([document, document, paragraph, document], axis=1))

    def item_vectors(self, rows: Int32) -> Float32:
        """See ``InterestEncoder.item_vectors``."""
        known = self._rows.are_known(rows)
        vectors: Float32 = np.where(known[:, None], self._vectors[rows], np.float32(0))
        return vectors

    def close(self) -> None:
        """See ``InterestEncoder.close``."""
        self._vectors = np.zeros((0, self.info.dimensions), dtype=np.float32)

    def _pool(self, rows: Int64, weights: Float32, offsets: Int64) -> Float32:
        # One event place at a time for all users: elementwise, so no user depends on another.
        pooled = np.zeros((len(offsets) - 1, self._vectors.shape[1]), dtype=np.float32)
        counts = np.diff(offsets)
        for place in range(int(counts.max(initial=0))):
            users = np.flatnonzero(counts > place)
            events = offsets[users] + place
            pooled[users] += self._vectors[rows[events]] * weights[events, None]
        return pooled


def _hashed(text: str, dimensions: int) -> Float32:
    data = hashlib.shake_128(text.encode("utf-8", "surrogatepass")).digest(2 * dimensions)
    # The last bit is set, so that no text at all hashes to the zero vector.
    values = (np.frombuffer(data, dtype="<i2") | 1).astype(np.float32)
    unit: Float32 = _unit(values[None])[0]
    return unit


def _unit(vectors: Float32) -> Float32:
    # Squares are added by rows of one fixed length: the same order in any batch.
    norms = np.sqrt(np.add.reduce(np.square(vectors, dtype=np.float64), axis=1, keepdims=True))
    norms[norms == 0.0] = 1.0
    scaled: Float32 = (vectors / norms).astype(np.float32)
    return scaled
