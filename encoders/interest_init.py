"""An untrained interest model from a catalogue: what is usual in it, and which words say much.

Legend: N texts, T dimensions of the text model, V words of its vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import msgspec
import numpy as np
import torch

from encoders import interest_folder
from encoders.config import EncoderConfig, InterestConfig
from encoders.errors import InterestModelInvalid
from encoders.interface import Float32
from encoders.text_encoder import TextEncoder
from encoders.tokens import LEVELS

_CHUNK_TEXTS = 256

Progress = Callable[[int, int], None]
"""Called with texts done and texts in all."""


class _Item(msgspec.Struct):
    item_id: str
    text: str


def init_interest_model(
    items_jsonl: Iterable[bytes | str],
    config: EncoderConfig,
    out_dir: Path,
    progress: Progress | None = None,
    interest: InterestConfig | None = None,
) -> InterestConfig:
    """Write an untrained interest model for a catalogue of one JSON item per line.

    Each line is an object with ``item_id`` and ``text``; other fields are ignored, the last line
    of an item counts.

    Raises:
        InterestModelInvalid: a line is no such object, or no item has text.
        EncoderError: the text model cannot be loaded.
    """
    texts: dict[str, str] = {}
    for number, line in enumerate(items_jsonl, 1):
        if not line.strip():
            continue
        try:
            item = msgspec.json.decode(line, type=_Item)
        except msgspec.MsgspecError as error:
            raise InterestModelInvalid(f"items line {number}: {error}") from None
        texts[item.item_id] = item.text
    return init(list(texts.values()), TextEncoder(config), out_dir, progress, interest)


def init(
    texts: Sequence[str],
    text_encoder: TextEncoder,
    out_dir: Path,
    progress: Progress | None = None,
    interest: InterestConfig | None = None,
) -> InterestConfig:
    """Write the folder of an untrained interest model and return its configuration.

    The centre is the mean text of the catalogue at each level, the salience of a token its
    smoothed inverse document frequency, 1 + ln((1 + N) / (1 + texts with it)). The order of
    ``texts`` does not matter: the same catalogue gives the same bytes.
    """
    told = sorted(text for text in texts if text.strip())
    if not told:
        raise InterestModelInvalid("the catalogue has no item with text")
    salience = catalogue_salience(told, text_encoder)
    text_encoder.use_salience(salience)
    centre = catalogue_centre(told, text_encoder, progress or (lambda done, total: None))
    config = msgspec.structs.replace(
        interest or InterestConfig(),
        dimensions=text_encoder.dimensions,
        text_model_id=text_encoder.content_id,
    )
    tensors = {"centre": torch.from_numpy(centre), "salience": torch.from_numpy(salience)}
    interest_folder.save(out_dir, config, tensors)
    return config


def catalogue_salience(texts: Sequence[str], text_encoder: TextEncoder) -> Float32:
    """Return [V] each token's smoothed inverse document frequency, 1 + ln((1 + N) / (1 + n))."""
    texts_with = np.zeros(text_encoder.vocabulary, dtype=np.int64)
    for text in texts:
        texts_with[list(set(text_encoder.token_ids(text)))] += 1
    by_count = {
        int(count): 1.0 + math.log((1 + len(texts)) / (1 + int(count)))
        for count in np.unique(texts_with)
    }
    return np.array([by_count[int(count)] for count in texts_with], dtype=np.float32)


def catalogue_centre(
    texts: Sequence[str], text_encoder: TextEncoder, progress: Progress
) -> Float32:
    """Return [3, T] the mean text at each level; texts that fail or say nothing do not count."""
    total = np.zeros((LEVELS, text_encoder.dimensions))
    used = 0
    for start in range(0, len(texts), _CHUNK_TEXTS):
        encoded = text_encoder.encode(texts[start : start + _CHUNK_TEXTS])
        total += encoded.vectors.sum(axis=0, dtype=np.float64)  # failed texts are zero
        used += len(encoded.vectors) - len(encoded.failed) - len(encoded.empty)
        progress(min(start + _CHUNK_TEXTS, len(texts)), len(texts))
    if not used:
        raise InterestModelInvalid("no text of the catalogue could be encoded")
    return (total / used).astype(np.float32)
