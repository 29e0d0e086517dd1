"""Whether the topics keep what the worker relies on, as the broker has them set."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError, for_code

from stream_app.errors import FixSettings
from stream_app.kafka_refusals import not_shown
from stream_app.settings import Settings
from stream_app.topics import TopicSpec, open_admin, topic_specs

POLICY = "cleanup.policy"
_AT_LEAST = ("min.compaction.lag.ms", "delete.retention.ms")


async def visible(settings: Settings, topics: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return the settings by name of each topic, without topics whose settings we may not see.

    It takes the operation DescribeConfigs on a topic, which no worker needs.

    Raises:
        FixSettings: there is no such topic.
        WaitForBroker: no broker answers.
    """
    asked = [ConfigResource(ConfigResourceType.TOPIC, topic) for topic in topics]
    async with open_admin(settings.kafka) as admin:
        responses = await admin.describe_configs(asked)
    found: dict[str, dict[str, str]] = {}
    for code, message, _, topic, entries, *_ in (r for each in responses for r in each.resources):
        if code == 0:
            found[topic] = {entry[0]: entry[1] for entry in entries}
        elif for_code(code) is not TopicAuthorizationFailedError:
            raise FixSettings(f"the settings of topic {topic} cannot be read: {message}")
    return found


async def check_settings(settings: Settings) -> str:
    """Look at the settings of topics that exist; return why that was not possible, or nothing.

    Raises:
        FixSettings: a topic loses what has to stay; one line with each, and how to mend it.
        WaitForBroker: no broker answers.
    """
    compacted = [spec for spec in topic_specs(settings) if spec.configs[POLICY] == "compact"]
    found = await visible(settings, [spec.name for spec in compacted])
    wrong = differing([spec for spec in compacted if spec.name in found], found)
    if wrong:
        raise FixSettings(
            f"topics lose what has to stay: {'; '.join(wrong)}; mend it with `kafka-configs.sh "
            "--alter --entity-type topics --entity-name TOPIC --add-config NAME=VALUE`"
        )
    hidden = [spec.name for spec in compacted if spec.name not in found]
    return not_shown(hidden, settings.kafka) if hidden else ""


def differing(specs: Sequence[TopicSpec], found: Mapping[str, Mapping[str, str]]) -> list[str]:
    """Return what is set so that records go too early. Pure.

    ``found``: of each topic, its settings by name.

    >>> spec = TopicSpec("windows", 8, 1, True, {"cleanup.policy": "compact"})
    >>> differing([spec], {"windows": {"cleanup.policy": "delete"}})
    ['windows has cleanup.policy=delete, expected compact']
    """
    wrong = []
    for spec in specs:
        there = found[spec.name]
        if there[POLICY] != spec.configs[POLICY]:
            wrong.append(
                f"{spec.name} has {POLICY}={there[POLICY]}, expected {spec.configs[POLICY]}"
            )
        wrong += [
            f"{spec.name} has {name}={there[name]}, expected {spec.configs[name]} or more"
            for name in _AT_LEAST
            if name in spec.configs and int(there[name]) < int(spec.configs[name])
        ]
    return wrong
