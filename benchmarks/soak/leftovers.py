"""Who is left when a soak has ended: by the stopped worker's windows, and by the updates topic."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

import rocksdict

from state import codec
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end


class Windows(NamedTuple):
    """Whose windows lie in RocksDB."""

    counting: set[bytes]
    expired: set[bytes]
    """An update is deleted before its window, so these may or may not have one."""

    def users(self) -> set[bytes]:
        """Return all of them."""
        return self.counting | self.expired

    def strays(self, with_update: set[bytes]) -> list[str]:
        """Return who has an update but no window, or a window that counts but no update."""
        strays = (with_update - self.users()) | (self.counting - with_update)
        return sorted(user.decode() for user in strays)


def windows(datadir: Path, sweep_ms: int) -> Windows:
    """Return what a worker that has stopped has stored."""
    found = Windows(set(), set())
    for path in datadir.glob("faust/**/windows-*.rocksdb"):
        newest_ms = _newest_ms(path)
        expired_ms = max(newest_ms.values(), default=0) - sweep_ms
        for user, at_ms in newest_ms.items():
            (found.expired if at_ms < expired_ms else found.counting).add(user)
    return found


async def with_update(settings: Settings) -> set[bytes]:
    """Return the users whose last record in the updates topic is an update."""
    found: set[bytes] = set()
    async with open_consumer(settings.bootstrap_servers, settings.updates_topic) as consumer:
        async for record in to_the_end(consumer):
            if record.value is None:
                found.discard(record.key)
            else:
                found.add(record.key)
    return found


def _newest_ms(path: Path) -> dict[bytes, int]:
    database = rocksdict.Rdict(
        str(path),
        options=rocksdict.Options(raw_mode=True),
        access_type=rocksdict.AccessType.read_only(),
    )
    try:
        return {
            user: codec.last_seen(stored).newest_ms
            for user, stored in database.items()
            if not user.startswith(b"\x00")
        }
    finally:
        database.close()
