"""What goes on while a test does something else: events keep coming, commits are watched."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from dataclasses import dataclass

from aiokafka.errors import KafkaError

from tests.harness.client import KafkaClient, Message
from tests.harness.deadline import PATIENCE_S, eventually

_BROKER_RETRY_S = 0.5


class Feeder:
    """Produces messages in the background, spread over about ``over_s`` seconds."""

    def __init__(
        self, bootstrap: str, topic: str, messages: Sequence[Message], over_s: float
    ) -> None:
        self._bootstrap = bootstrap
        self._topic = topic
        self._messages = messages
        self._chunk = max(1, len(messages) // 40)
        self._pause_s = over_s / 40
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._feed, name="feeder", daemon=True)
        self._error: BaseException | None = None
        self.produced = 0
        self._thread.start()

    def wait_for(self, share: float) -> None:
        """Wait until this share of all messages is acknowledged by the broker."""
        wanted = int(share * len(self._messages))
        eventually(
            lambda: self.produced >= wanted or self._error is not None,
            within_s=PATIENCE_S + 40 * self._pause_s,
            what=lambda: f"{wanted} messages produced, {self.produced} are",
        )
        if self._error is not None:
            raise AssertionError("producing failed") from self._error

    def finish(self) -> None:
        """Wait for the last message."""
        self.wait_for(1.0)
        self._thread.join()

    def finished(self) -> bool:
        """Tell whether nothing more will come."""
        return not self._thread.is_alive()

    def stop(self) -> None:
        """Give up on what is left; for the end of a failed test."""
        self._stopped.set()
        self._thread.join()

    def _feed(self) -> None:
        client = KafkaClient(self._bootstrap)
        try:
            for start in range(0, len(self._messages), self._chunk):
                chunk = self._messages[start : start + self._chunk]
                self._produce(client, chunk)
                self.produced += len(chunk)
                if self._stopped.wait(self._pause_s):
                    return
        except Exception as error:  # noqa: BLE001 - told to the test's own thread by wait_for
            self._error = error
        finally:
            client.close()

    def _produce(self, client: KafkaClient, chunk: Sequence[Message]) -> None:
        """Produce, again and again while the broker is away; what came through comes twice then."""
        while not self._stopped.is_set():
            try:
                return client.produce(self._topic, chunk)
            except KafkaError:
                self._stopped.wait(_BROKER_RETRY_S)


@dataclass(frozen=True)
class CommitSample:
    """Committed offsets, and how far the effects had come a moment later."""

    committed: dict[int, int]
    changelog_ends: dict[int, int]
    updates_ends: dict[int, int]


class CommitWatch:
    """Samples, for as long as the test runs, what is committed and then what is written.

    In this order: whatever is committed must already have its effects, so an end read later can
    only forgive nothing that matters.
    """

    def __init__(self, bootstrap: str, group: str, events: str, changelog: str, updates: str):
        self._bootstrap = bootstrap
        self._group = group
        self._topics = (events, changelog, updates)
        self.samples: list[CommitSample] = []
        self._stopped = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._watch, name="commit-watch", daemon=True)
        self._thread.start()

    def stop(self) -> list[CommitSample]:
        """Return the samples, those without change left out."""
        self._stopped.set()
        self._thread.join()
        if self._error is not None:
            raise AssertionError("watching commits failed") from self._error
        return self.samples

    def _watch(self) -> None:
        client = KafkaClient(self._bootstrap)
        events, changelog, updates = self._topics
        last: dict[int, int] = {}
        try:
            while not self._stopped.wait(0.1):
                try:
                    committed = client.committed(self._group, events)
                    if committed != last:
                        ends = client.ends(changelog), client.ends(updates)
                        self.samples.append(CommitSample(committed, *ends))
                        last = committed
                except KafkaError:  # the broker is away
                    self._stopped.wait(_BROKER_RETRY_S)
        except Exception as error:  # noqa: BLE001 - told to the test's own thread by stop
            self._error = error
        finally:
            client.close()
