"""What every encoder promises. Pure numpy, so that callers need no torch.

Legend: B users, L events of all users in the batch, N texts, D dimensions, G granularities.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal, Protocol

import numpy as np
import numpy.typing as npt

GRANULARITIES = ("word", "sentence", "paragraph", "document")
"""Of text; a model may have been trained with ``MEDIA`` beside them."""
MEDIA = "media"
"""What items bring beside their text: an image's or a sound's vector."""

Float32 = npt.NDArray[np.float32]
Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]
UInt8 = npt.NDArray[np.uint8]
UInt64 = npt.NDArray[np.uint64]


@dataclass(frozen=True)
class WindowBatch:
    """The windows of a micro-batch of users, as flat columns."""

    rows: Int32
    """[L] row number of each event's text; -1 where no text is known (the event is ignored)."""
    offsets: Int64
    """[B + 1] the events of user b are ``offsets[b]:offsets[b + 1]``, oldest first."""
    times_ms: Int64
    """[L] milliseconds since the epoch, UTC."""
    types: UInt8
    """[L] codes of ``state.event.TYPE_CODES``."""
    dwell_ms: Int32
    """[L] milliseconds, -1 where absent."""
    counts: Int64 | None = None
    """[B, types] all events of the user there ever were, by type code; None: those held here."""


@dataclass(frozen=True)
class Interests:
    """One vector per user, in the order of the batch."""

    vectors: Float32
    """[B, D] unit length; all zero where no text of the user is known."""
    granularities: Float32 | None = None
    """[B, G, D] when asked for, in the order of ``EncoderInfo.granularities``; unit length or
    zero. One that a trained model was trained without is zero."""
    several: Float32 | None = None
    """[B, K, D] one vector per interest of a user, where the model was trained to have them; unit
    length, or zero where ``vectors`` is."""


@dataclass(frozen=True)
class EncoderInfo:
    """What an encoder is. ``model_id`` covers everything that changes a vector's meaning."""

    model_id: str
    """Content hash, 16 hex digits."""
    dimensions: int
    granularities: tuple[str, ...]
    weights: tuple[float, ...]
    """Share of each granularity in the vector, in the order of ``granularities``."""
    device: str
    backend: str
    """How the text model is computed, for example ``packed-onednn-fp32``. Backends differ in the
    last bits of a vector, so it is no part of ``model_id``."""
    vectors: Literal["float32", "float16"] = "float32"
    """How vectors are kept, and to be published; those that come out of here are float32."""
    media_dimensions: int = 0
    """Numbers of an item's media vector, M; 0: the model takes none."""
    interests: int = 0
    """Vectors of a user beside the one, K (``Interests.several``); 0: the model has none."""
    window_max_events: int = 0
    """Of the windows that the model was trained on, as ``window_max_age_ms``; 0: any will do."""
    window_max_age_ms: int = 0


@dataclass(frozen=True)
class TextReport:
    """What became of the texts of one ``put_texts`` call."""

    hits_memory: int = 0
    """Texts whose vectors a row in memory already held."""
    hits_disk: int = 0
    encoded: int = 0
    tokens: int = 0
    """Tokens that went through the text model."""
    failed: list[tuple[int, str]] = field(default_factory=list)
    """(row, reason) of texts without a vector; their rows count as unknown."""
    media_refused: list[tuple[int, str]] = field(default_factory=list)
    """(row, reason) of media vectors that were left out; their rows go by text alone."""


class InterestEncoder(Protocol):
    """Texts and windows to vectors. Not thread-safe: one caller at a time."""

    @property
    def info(self) -> EncoderInfo:
        """What this encoder is; does not change over its life."""

    def put_texts(
        self, texts: Sequence[tuple[int, str]], media: Mapping[int, Float32] | None = None
    ) -> TextReport:
        """Embed texts and keep their vectors under the row numbers of the caller.

        ``media`` are vectors [M] that some of the rows bring beside their text; a model that was
        trained without pays no heed to them.

        A row may be given again with another text, which replaces the first. One bad text never
        harms the others; a text of white space only is known and says nothing.

        Raises:
            ValueError: a row number lies outside ``0 <= row < slab_rows``.
        """

    def drop_texts(self, texts: Sequence[tuple[int, str]]) -> None:
        """Forget texts, in memory and on disk. A row of -1: the caller has none for this text."""

    def encode(self, batch: WindowBatch, *, with_granularities: bool = False) -> Interests:
        """Return one interest vector per user.

        The result for a user is the same, bit for bit, whoever else is in the batch.
        """

    def item_vectors(self, rows: Int32) -> Float32:
        """Return [N, D] vectors of single texts in the space of the users' vectors.

        Unit length; all zero where the row is -1 or holds no text.
        """

    def close(self) -> None:
        """Give back memory and files. Calling it twice does no harm."""
