"""What a worker's Kafka user has to be allowed, and nothing beyond it; who creates topics, more."""

from __future__ import annotations

from typing import Literal, NamedTuple

from stream_app.settings import Settings
from stream_app.topics import topic_specs


class Acl(NamedTuple):
    """One permission. Kafka takes Read and Write to include Describe."""

    resource: Literal["topic", "group"]
    name: str
    operation: Literal["Read", "Write", "Create"]

    def arguments(self, principal: str) -> list[str]:
        """Return the arguments of ``kafka-acls.sh`` that give it to a user."""
        return [
            "--add", "--allow-principal", principal,
            "--operation", self.operation, f"--{self.resource}", self.name,
        ]  # fmt: skip


def worker_acls(settings: Settings) -> list[Acl]:
    """Return the ACLs that ``interest-stream worker`` needs, of topics that exist.

    The changelog and the updates are read, too: at a start to restore, and to see what a former
    owner of a partition wrote of late. The API reads item vectors, for it answers with the nearest
    items. No idempotent producer and no transactions are used, so
    nothing of the cluster itself is needed.
    """
    topics = (
        (settings.events_topic, ("Read",)),
        (settings.items_topic, ("Read",)),
        (settings.changelog_topic, ("Read", "Write")),
        (settings.updates_topic, ("Read", "Write")),
        (settings.item_vectors_topic, ("Read", "Write") if settings.serves_api else ("Write",)),
        (settings.dead_letters_topic, ("Write",)),
    )
    found = [Acl("topic", name, operation) for name, allowed in topics for operation in allowed]  # type: ignore[arg-type]
    return [*found, Acl("group", settings.app_id, "Read")]


def creation_acls(settings: Settings) -> list[Acl]:
    """Return what ``interest-stream topics create`` needs besides, where topics are missing.

    Of each topic by its name; Create on the cluster would allow any topic.
    """
    return [Acl("topic", spec.name, "Create") for spec in topic_specs(settings)]
