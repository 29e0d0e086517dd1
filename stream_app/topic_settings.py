"""Whether the topics keep what the worker relies on, as the broker has them set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import TopicAuthorizationFailedError, for_code

from stream_app.errors import FixSettings
from stream_app.kafka_refusals import not_shown
from stream_app.settings import Settings
from stream_app.topics import TopicSpec, open_admin, topic_specs

_POLICY = "cleanup.policy"
_AT_LEAST = ("min.compaction.lag.ms", "delete.retention.ms")


async def check_settings(settings: Settings) -> str:
    """Look at the settings of topics that exist; return why that was not possible, or nothing.

    It takes the operation DescribeConfigs on the topics, which no worker needs.

    Raises:
        FixSettings: a topic loses what has to stay; one line with each, and how to mend it.
        WaitForBroker: no broker answers.
    """
    specs = [spec for spec in topic_specs(settings) if spec.configs[_POLICY] == "compact"]
    asked = [ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in specs]
    async with open_admin(settings.kafka) as admin:
        responses = await admin.describe_configs(asked)
    found: dict[str, dict[str, str]] = {}
    for response in responses:
        for code, message, _, name, entries, *_ in response.resources:
            if for_code(code) is TopicAuthorizationFailedError:
                return not_shown(name, settings.kafka)
            if code:
                raise FixSettings(f"the settings of topic {name} cannot be read: {message}")
            found[name] = {entry[0]: entry[1] for entry in entries}
    wrong = differing(specs, found)
    if wrong:
        raise FixSettings(
            f"topics lose what has to stay: {'; '.join(wrong)}; mend it with `kafka-configs.sh "
            "--alter --entity-type topics --entity-name TOPIC --add-config NAME=VALUE`"
        )
    return ""


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
        if there[_POLICY] != spec.configs[_POLICY]:
            wrong.append(
                f"{spec.name} has {_POLICY}={there[_POLICY]}, expected {spec.configs[_POLICY]}"
            )
        wrong += [
            f"{spec.name} has {name}={there[name]}, expected {spec.configs[name]} or more"
            for name in _AT_LEAST
            if name in spec.configs and int(there[name]) < int(spec.configs[name])
        ]
    return wrong
