"""A consumer group from the outside: who is in it, and its offsets while nobody is."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping

from aiokafka import AIOKafkaConsumer
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import GroupIdNotFound, KafkaError, for_code
from aiokafka.protocol.admin import DeleteGroupsRequest
from aiokafka.structs import TopicPartition

from stream_app.errors import FixSettings, InterestStreamError, WaitForBroker
from stream_app.kafka_access import Brokers, client_options
from stream_app.kafka_refusals import unanswered
from stream_app.topics import open_admin

_LOOK_EVERY_S = 0.5


class GroupHasMembers(InterestStreamError):
    """Somebody is in the group, so its offsets are not ours to set."""

    exit_code = FixSettings.exit_code


async def members(bootstrap_servers: Brokers, group: str) -> list[str]:
    """Return the hosts of the group's members, none where there is no such group.

    Raises:
        WaitForBroker: no broker answers.
    """
    async with open_admin(bootstrap_servers) as admin:
        (response,) = await admin.describe_consumer_groups([group])
    (described,) = response.groups
    if (error := for_code(described[0])) is GroupIdNotFound:
        return []
    if described[0]:
        raise WaitForBroker(f"group {group} cannot be described: {error.__name__}")
    return [host.lstrip("/") for _, _, host, *_ in described[5]]


async def must_be_empty(
    bootstrap_servers: Brokers, group: str, wanted: str, *, patience_s: float = 0.0
) -> None:
    """Refuse where the group has members.

    ``patience_s``: for one that has ended without a word, whom Kafka counts until its session
    times out.

    Raises:
        GroupHasMembers: one line that says how many there are, where, and what to do.
        WaitForBroker: no broker answers.
    """
    deadline = time.monotonic() + patience_s
    while True:
        found = await members(bootstrap_servers, group)
        if not found:
            return
        if time.monotonic() < deadline:
            await asyncio.sleep(_LOOK_EVERY_S)
            continue
        raise GroupHasMembers(
            f"group {group} has {len(found)} members (on {', '.join(sorted(set(found)))}): "
            f"stop them, then {wanted}. Kafka counts one that was killed until its session times "
            "out"
        )


async def set_offsets(
    bootstrap_servers: Brokers, group: str, topic: str, offsets: Mapping[int, int]
) -> None:
    """Commit offsets for a group that has no members.

    Raises:
        GroupHasMembers: it has some, so the broker refused.
        WaitForBroker: no broker answers.
    """
    consumer = AIOKafkaConsumer(
        **client_options(bootstrap_servers), group_id=group, enable_auto_commit=False
    )
    wanted = {TopicPartition(topic, number): offset for number, offset in offsets.items()}
    try:
        await consumer.start()
        consumer.assign(list(wanted))
        await consumer.commit(wanted)
    except KafkaError as error:
        # The broker knows no member without a generation once others have joined.
        if await members(bootstrap_servers, group):
            raise GroupHasMembers(f"group {group} got members meanwhile: stop them") from error
        raise await unanswered(error, bootstrap_servers) from error
    finally:
        await consumer.stop()


async def delete(bootstrap_servers: Brokers, group: str) -> None:
    """Delete a group and its offsets; one that does not exist is deleted already.

    Raises:
        GroupHasMembers: it has members.
        WaitForBroker: no broker answers.
    """
    async with open_admin(bootstrap_servers) as admin:
        response = await _to_coordinator(admin, group)
    for _, code in response.results:
        error = for_code(code)
        if code and error is not GroupIdNotFound:
            raise GroupHasMembers(f"group {group} cannot be deleted: {error.__name__}")


async def _to_coordinator(admin: AIOKafkaAdminClient, group: str) -> DeleteGroupsRequest:
    node = await admin.find_coordinator(group)
    return await admin._send_request(DeleteGroupsRequest([group]), node)
