"""The Faust app of a worker: its settings from ours, whole fetches, and the table of windows."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any, cast

from stream_app.delivery import (
    BatchApp,
    PassThrough,
    WindowTable,
    faust_credentials,
    install_transport,
)
from stream_app.delivery.app import AppOwner
from stream_app.serving.address import advertised_url
from stream_app.settings import Settings

_BUFFERED_BATCHES = 16
"""Fetches of a partition waiting for the agent; Faust's default of 4,096 counts single events."""
_RESTORED_FETCHES = 2
"""Fetches of the changelog that are applied at once. (To Faust, 1 means a global table.)"""


def make_app(
    settings: Settings,
    owner: AppOwner,
    *,
    ends: Mapping[int, int],
    agent: Callable[[Any], Awaitable[None]],
    on_recovered: Callable[[], Awaitable[None]],
    on_revoked: Callable[..., Awaitable[None]],
) -> tuple[BatchApp, WindowTable]:
    """Return the app, not started, and the table of windows in it.

    ``ends``: partition -> offset at which reading the events topic ends.
    """
    app = BatchApp(
        settings.app_id,
        broker=[f"kafka://{broker}" for broker in settings.bootstrap_servers.split(",")],
        broker_credentials=faust_credentials(settings.kafka),
        datadir=settings.datadir / "faust",
        topic_partitions=settings.partitions,
        topic_replication_factor=settings.replication_factor,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        canonical_url=advertised_url(settings),
        stream_buffer_maxsize=_BUFFERED_BATCHES,
        stream_wait_empty=False,
        stream_recovery_delay=0.0,
        broker_max_poll_records=settings.fetch_max_records,
        broker_commit_interval=0.5,
        broker_session_timeout=settings.session_timeout_s,
        broker_heartbeat_interval=settings.heartbeat_interval_s,
        broker_request_timeout=max(90.0, settings.session_timeout_s),
        consumer_auto_offset_reset="earliest",
        table_standby_replicas=settings.standby_replicas,
    )
    app.owner = owner
    install_transport(
        app,
        settings.events_topic,
        settings.micro_batch_linger_ms,
        settings.isolation_level,
        ends,
    )
    table = WindowTable(
        app,
        name="windows",
        partitions=settings.partitions,
        schema=PassThrough(),
        recovery_buffer_size=_RESTORED_FETCHES,
        options={"block_cache_bytes": settings.rocksdb_block_cache_bytes},
        on_recover=on_recovered,
    )
    app.tables.add(table)
    source = app.topic(settings.events_topic, schema=PassThrough(), partitions=settings.partitions)
    app.agent(source, name="interest_stream.fold")(agent)
    app.on_partitions_revoked.connect(cast(Any, on_revoked))
    return app, table
