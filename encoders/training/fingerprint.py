"""What a model was trained on, as a hash: the same events and texts give the same one."""

from __future__ import annotations

import hashlib

import msgspec
import numpy as np

from encoders.evaluation.interactions import Interactions
from encoders.interface import Float32
from encoders.training.settings import TrainingSettings


def data_fingerprint(data: Interactions, values: Float32 | None) -> str:
    """Return 64 hex digits over all columns, ids and texts, in their order."""
    digest = hashlib.sha256()
    for name in ("users", "items", "rows", "times_ms", "types", "dwell_ms"):
        digest.update(np.ascontiguousarray(getattr(data, name)).tobytes())
    for strings in (data.user_ids, data.item_ids, data.texts):
        digest.update(msgspec.msgpack.encode([s.encode("utf-8", "surrogatepass") for s in strings]))
    if data.media is not None:
        digest.update(data.media.tobytes())
    if values is not None:
        digest.update(values.tobytes())
    return digest.hexdigest()


def run_fingerprint(settings: TrainingSettings, data: str, text_id: str) -> str:
    """Return 64 hex digits over everything that decides a run's numbers.

    ``data`` is :func:`data_fingerprint`, ``text_id`` the text model's content hash.
    """
    said = msgspec.json.encode(settings, order="deterministic")
    # The context's scales are made anew at each start. In an earlier version they were of some
    # windows: weights trained under those must not go on under these.
    scaled = b"by all windows" if settings.context else b""
    return hashlib.sha256(said + data.encode() + text_id.encode() + scaled).hexdigest()
