"""A process of a replay, as an operator has it; and what came out of all of them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from stream_app.replaying.names import shadow_settings
from tests.harness import checks
from tests.harness.client import Record
from tests.harness.deadline import LONG_PATIENCE_S, eventually
from tests.harness.reference import Reference, replay
from tests.harness.stream import Stream
from tests.harness.worker import Worker


class Replay(Worker):
    """``interest-stream replay --name NAME …``, on a datadir of its own."""

    def __init__(self, stream: Stream, name: str, *arguments: str, process: int = 0) -> None:
        datadir = stream.folder / f"replay-{name}-{process}"
        super().__init__(f"replay {name} {process}", datadir, stream.raw_settings)
        self.replay_name = name
        self.shadow = shadow_settings(stream.settings, name)
        self._stream = stream
        options = ["--name", name, "--datadir", str(datadir), "--json", *arguments]
        self.arguments = ["replay", *options]
        stream.workers.append(self)

    def finished(self) -> dict[str, Any]:
        """Wait for its end, which must be a good one; return its summary."""
        code = self.wait()
        self.ended_by_test = True
        assert code == 0, f"{self.name} ended with {code}\n{self.log_tail()}"
        summary: dict[str, Any] = json.loads(self.log.read_text().splitlines()[-1])
        assert summary["complete"]
        return summary

    def refused(self) -> str:
        """Wait for its end, which must say that something is to be mended; return what it said."""
        code = self.wait()
        self.ended_by_test = True
        assert code == 2, f"{self.name} ended with {code}\n{self.log_tail()}"
        return self.log.read_text().splitlines()[-1]

    def committed(self) -> dict[int, int]:
        """Return how far the replay's group is."""
        return self._stream.client.committed(self.shadow.app_id, self.shadow.events_topic)

    def wait_begun(self, offsets: int = 1) -> None:
        """Wait until so many offsets are committed by the group."""
        eventually(
            lambda: sum(self.committed().values()) >= offsets,
            within_s=LONG_PATIENCE_S,
            what=lambda: f"{offsets} offsets committed: {self.committed()}\n{self.log_tail()}",
        )

    def updates(self) -> list[Record]:
        """Return the shadow updates topic."""
        return self._stream.client.read(self.shadow.updates_topic)

    def verify(
        self, wanted: Callable[[Record], bool], published: Callable[[Record], bool]
    ) -> Reference:
        """Check windows and last updates against a plain loop over the ``wanted`` events.

        Updates are there for the users of those events that are ``published``, and no others.
        """
        stream = self._stream
        events = [record for record in stream.events() if wanted(record)]
        reference = replay(
            events, max_events=stream.settings.window_max_events, poison=stream.poison
        )
        changelog = stream.client.read(self.shadow.changelog_topic)
        checks.assert_same_windows(reference, checks.windows_in(changelog), "shadow changelog")
        users = {(record.key or b"").decode() for record in events if published(record)}
        for name in [name for name in reference.users if name not in users]:
            del reference.users[name]
        stream.verify_updates(reference, self.updates())
        return reference
