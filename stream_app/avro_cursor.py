"""Avro's binary encoding, read from front to back: the few types that an update is made of.

fastavro makes a Python float of every number of a vector, which is nine tenths of its time on an
update of 384 dimensions. Here a vector stays the bytes it came as.
https://avro.apache.org/docs/1.12.0/specification/#binary-encoding
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from typing import TypeVar

T = TypeVar("T")

_MAX_VARINT_SHIFT = 63
"""A long has 64 bits: at most ten bytes of seven."""


class AvroCursor:
    """A place in some bytes. Every method reads one value and moves behind it.

    Raises:
        ValueError: the bytes end before the value does, or are none of its type.
    """

    def __init__(self, data: bytes, at: int = 0) -> None:
        self._data = data
        self._at = at

    def end(self) -> None:
        """Insist that nothing is left."""
        if self._at != len(self._data):
            raise ValueError(f"{len(self._data) - self._at} bytes are left over at its end")

    def long(self) -> int:
        """Return an int or long: zig-zag, seven bits a byte, low ones first."""
        raw = shift = 0
        try:
            while True:
                byte = self._data[self._at]
                self._at += 1
                raw |= (byte & 0x7F) << shift
                if byte < 0x80:
                    return (raw >> 1) ^ -(raw & 1)
                shift += 7
                if shift > _MAX_VARINT_SHIFT:
                    raise ValueError(f"a number of more than 64 bits before byte {self._at}")
        except IndexError:
            raise ValueError("it is cut off within a number") from None

    def take(self, count: int) -> bytes:
        """Return the next ``count`` bytes."""
        start, end = self._at, self._at + count
        if count < 0 or end > len(self._data):
            raise ValueError(f"{count} bytes wanted at byte {start} of {len(self._data)}")
        self._at = end
        return self._data[start:end]

    def byte_string(self) -> bytes:
        """Return a value of type bytes."""
        return self.take(self.long())

    def string(self) -> str:
        """Return a string."""
        return self.take(self.long()).decode()

    def float32(self) -> float:
        """Return a float32."""
        found: float = struct.unpack("<f", self.take(4))[0]
        return found

    def float32_array(self) -> bytes:
        """Return an array of float as its float32s' bytes, little-endian."""
        return b"".join([self.take(4 * count) for count in self._blocks()])

    def array_of(self, value: Callable[[], T]) -> list[T]:
        """Return an array; ``value`` reads one of its values."""
        return [value() for count in self._blocks() for _ in range(count)]

    def map_of(self, value: Callable[[], T]) -> dict[str, T]:
        """Return a map; ``value`` reads one of its values."""
        return {self.string(): value() for count in self._blocks() for _ in range(count)}

    def _blocks(self) -> Iterator[int]:
        """Yield the count of each block of an array or map; 0 ends it."""
        while count := self.long():
            if count < 0:  # a writer may say how many bytes a block has, so that it can be skipped
                self.long()
            yield abs(count)
