"""The broker of the test session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from stream_app.kafka_server import open_kafka

SESSION_TIMEOUT_S = 6
"""Kafka's own minimum (group.min.session.timeout.ms), so that any broker will do: each killed
worker costs a test this long."""


@contextmanager
def session_broker(directory: Path) -> Iterator[str]:
    """Yield the bootstrap servers: those of ``KAFKA_BOOTSTRAP``, or of an embedded Kafka."""
    with open_kafka(directory) as bootstrap:
        yield bootstrap
