"""A record of the items topic, which is also a line of an items file."""

from __future__ import annotations

import msgspec
import numpy as np

from encoders.interface import Float32

MAX_MEDIA_NUMBERS = 4_096
"""More than any image or audio model of today gives."""


class Item(msgspec.Struct, frozen=True):
    """Other fields are the owner's affair."""

    item_id: str
    text: str
    media_vector: list[float] | None = None

    def media(self) -> Float32 | None:
        """Return [M] what the item brings beside its text, None where it brings nothing.

        Raises:
            ValueError: no numbers or too many of them, one that is not finite in float32, or all
                zero.
        """
        if self.media_vector is None:
            return None
        if not 0 < len(self.media_vector) <= MAX_MEDIA_NUMBERS:
            raise ValueError(
                f"media_vector has {len(self.media_vector)} numbers, "
                f"1 to {MAX_MEDIA_NUMBERS} are allowed"
            )
        with np.errstate(over="ignore"):
            vector = np.array(self.media_vector, dtype=np.float32)
        length = np.linalg.norm(vector.astype(np.float64))
        if not np.isfinite(length) or not length:
            raise ValueError("media_vector must be of finite numbers that are not all zero")
        return vector


_decoder = msgspec.json.Decoder(Item)

REFUSALS = (msgspec.MsgspecError, ValueError)
"""What :func:`decode` and :meth:`Item.media` raise."""


def decode(key: bytes, value: bytes) -> Item:
    """Return the item of a record.

    Raises:
        msgspec.MsgspecError, ValueError: it is none, or the key is not its id.
    """
    item = _decoder.decode(value)
    if item.item_id.encode() != key:
        raise ValueError("the record key must be the item_id, in UTF-8")
    return item
