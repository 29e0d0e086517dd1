"""The replays there are, and getting rid of one: shadows must not pile up."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import NamedTuple

from aiokafka.errors import KafkaError, UnknownTopicOrPartitionError, for_code

from stream_app import topics
from stream_app.datadir import Datadir
from stream_app.errors import WaitForBroker
from stream_app.replaying import group
from stream_app.replaying.names import plan_topic, shadow_settings
from stream_app.replaying.plan import Plan
from stream_app.replaying.plan_log import PlanLog
from stream_app.settings import Settings


class Shadow(NamedTuple):
    """A replay as it stands on the broker."""

    plan: Plan
    done: int
    """Offsets read and stored."""
    members: int
    """Processes at it."""


async def found(settings: Settings) -> list[Shadow]:
    """Return the replays of the live worker with these settings, by name.

    Raises:
        FixData, WaitForBroker: a plan cannot be read.
    """
    async with topics.open_admin(settings.kafka) as admin:
        present = await admin.list_topics()
    pattern = re.compile(re.escape(plan_topic(settings, "\0")).replace(re.escape("\0"), "(.+)"))
    names = [match[1] for topic in sorted(present) if (match := pattern.fullmatch(topic))]
    shadows = []
    for name in names:
        plan = await PlanLog(settings, name).read()
        if plan is None:  # killed before it wrote its plan
            continue
        shadow = shadow_settings(settings, name)
        committed = await topics.committed(shadow)
        members = await group.members(settings.kafka, shadow.app_id)
        shadows.append(Shadow(plan, plan.done(committed), len(members)))
    return shadows


async def delete(settings: Settings, name: str, datadir: Path | None = None) -> list[str]:
    """Delete a replay's topics, group and datadir; return what is deleted.

    Can be repeated where it was cut off. Datadirs on other machines, or named by ``--datadir``,
    are their owners' to delete; ``datadir`` is such a one.

    Raises:
        GroupHasMembers: it still runs.
        FixSettings: the name is none, or the datadir is in use.
    """
    shadow = shadow_settings(settings, name, datadir=datadir)
    await group.must_be_empty(
        settings.kafka,
        shadow.app_id,
        f"delete {name}",
        patience_s=settings.session_timeout_s,
    )
    deleted = _delete_folder(shadow.datadir)
    await group.delete(settings.kafka, shadow.app_id)
    own = {
        shadow.updates_topic,
        shadow.item_vectors_topic,
        shadow.dead_letters_topic,
        shadow.changelog_topic,
    }
    # The plan last: as long as it is there, the replay is listed and can be deleted.
    for names in (sorted(own), [plan_topic(settings, name)]):
        deleted += await _delete_topics(settings, names)
    return deleted


def _delete_folder(path: Path) -> list[str]:
    if not path.exists():
        return []
    hold = Datadir(path)
    hold.hold()  # refuses one in use
    try:
        shutil.rmtree(path)
    finally:
        hold.release()
    return [str(path)]


async def _delete_topics(settings: Settings, names: list[str]) -> list[str]:
    async with topics.open_admin(settings.kafka) as admin:
        present = set(await admin.list_topics())
        names = [name for name in names if name in present]
        if not names:
            return []
        response = await admin.delete_topics(names)
    for name, code, *_ in response.topic_error_codes:
        error: type[KafkaError] = for_code(code)
        if code and error is not UnknownTopicOrPartitionError:
            raise WaitForBroker(f"topic {name} cannot be deleted: {error.__name__}")
    return names
