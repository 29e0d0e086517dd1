"""How topics are made, so that compaction comes to what is compacted."""

from __future__ import annotations

from stream_app.delivery.window_table import DATABASE_MAX_AGE_MS
from stream_app.settings import Settings
from stream_app.topic_settings import differing
from stream_app.topics import topic_specs

SETTINGS = Settings(session_timeout_s=10)
SPECS = {spec.name: spec.configs for spec in topic_specs(SETTINGS)}
COMPACTED = {
    SETTINGS.items_topic,
    SETTINGS.changelog_topic,
    SETTINGS.updates_topic,
    SETTINGS.item_vectors_topic,
}


def test_what_is_keyed_by_user_or_item_is_compacted_and_events_are_not() -> None:
    compacted = {name for name, configs in SPECS.items() if configs["cleanup.policy"] == "compact"}
    assert compacted == COMPACTED


def test_segments_are_closed_before_kafkas_defaults_would_close_them() -> None:
    """Kafka compacts closed segments only; a gigabyte or a week is what it waits for by itself."""
    for name in COMPACTED:
        assert int(SPECS[name]["segment.bytes"]) <= 64 << 20
        assert int(SPECS[name]["segment.ms"]) <= 3_600_000
        assert int(SPECS[name]["max.compaction.lag.ms"]) <= 86_400_000


def test_the_changelog_keeps_what_repairs_a_frozen_workers_writes() -> None:
    changelog = SPECS[SETTINGS.changelog_topic]
    assert int(changelog["min.compaction.lag.ms"]) == 60_000
    assert int(changelog["min.compaction.lag.ms"]) < int(changelog["max.compaction.lag.ms"])
    assert int(changelog["delete.retention.ms"]) == 7 * 86_400_000


def test_the_items_topic_keeps_tombstones_for_workers_that_were_away() -> None:
    items = SPECS[SETTINGS.items_topic]
    assert int(items["delete.retention.ms"]) >= 2 * DATABASE_MAX_AGE_MS
    specs = [spec for spec in topic_specs(SETTINGS) if spec.name == SETTINGS.items_topic]
    of_kafka = items | {"delete.retention.ms": "86400000"}
    assert differing(specs, {SETTINGS.items_topic: of_kafka}) == [
        f"{SETTINGS.items_topic} has delete.retention.ms=86400000, expected 604800000 or more"
    ]


def test_longer_than_asked_is_fine_and_shorter_is_told_of() -> None:
    specs = [spec for spec in topic_specs(SETTINGS) if spec.name in COMPACTED]
    assert differing(specs, SPECS) == []
    changelog = SPECS[SETTINGS.changelog_topic]
    longer = changelog | {"min.compaction.lag.ms": "60001", "delete.retention.ms": "604800001"}
    assert differing(specs, SPECS | {SETTINGS.changelog_topic: longer}) == []
    shorter = changelog | {"delete.retention.ms": "604799999"}
    (said,) = differing(specs, SPECS | {SETTINGS.changelog_topic: shorter})
    assert "delete.retention.ms=604799999, expected 604800000 or more" in said
