"""Which worker holds which partition, as the group's last assignment says."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from stream_app.serving.address import leads_somewhere

Distribution = Mapping[str, Mapping[str, list[int]]]
"""Address -> topic -> partitions."""


class Place(NamedTuple):
    """A member of the group and the partitions given to it."""

    url: str
    partitions: tuple[int, ...]

    @property
    def serves_api(self) -> bool:
        """Whether it can be asked."""
        return leads_somewhere(self.url)


class Places:
    """The members of the group. Each tells its address when it joins; all hear the assignment."""

    def __init__(self, own: str, topic: str, distribution: Callable[[], Distribution]) -> None:
        """``topic``: the changelog; who writes to its partition holds the windows."""
        self.own = own
        self._topic = topic
        self._distribution = distribution

    def everybody(self) -> list[Place]:
        """Return all members, by address."""
        shares = self._distribution()
        return [
            Place(url, tuple(sorted(topics.get(self._topic, ()))))
            for url, topics in sorted(shares.items())
        ]

    def holder(self, partition: int) -> Place | None:
        """Return who holds a partition; nobody in the middle of a first rebalance."""
        for place in self.everybody():
            if partition in place.partitions:
                return place
        return None
