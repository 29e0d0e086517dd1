"""Where a replay's plan is kept: a topic of one partition that every process of the group reads.

The order of its records decides. The first record is the plan; a later one counts if it is the
next revision. So of two processes that begin, or extend, at the same moment one is first, and both
see which.
"""

from __future__ import annotations

import msgspec
from aiokafka import AIOKafkaProducer
from aiokafka.admin import NewTopic
from aiokafka.errors import KafkaError, TopicAlreadyExistsError, for_code

from stream_app.errors import FixData, FixSettings
from stream_app.kafka_access import client_options
from stream_app.kafka_refusals import unanswered
from stream_app.replaying.names import plan_topic
from stream_app.replaying.plan import Plan
from stream_app.settings import Settings
from stream_app.topic_scan import open_consumer, to_the_end
from stream_app.topics import open_admin

_MAX_BYTES = 900_000
"""Under Kafka's default message.max.bytes."""
_KEPT_FOR_EVER = {"cleanup.policy": "delete", "retention.ms": "-1"}


class PlanLog:
    """The plan of one replay on the broker."""

    def __init__(self, settings: Settings, name: str) -> None:
        """``settings``: of the live worker."""
        self._settings = settings
        self._name = name
        self._topic = plan_topic(settings, name)

    async def read(self) -> Plan | None:
        """Return the plan as it stands, ``None`` if there is none.

        Raises:
            FixData: the topic holds something else.
            WaitForBroker: no broker answers.
        """
        bootstrap = self._settings.kafka
        async with open_admin(bootstrap) as admin:
            if self._topic not in await admin.list_topics():
                return None
        plan: Plan | None = None
        async with open_consumer(bootstrap, self._topic) as consumer:
            async for record in to_the_end(consumer):
                try:
                    found = msgspec.json.decode(record.value or b"", type=Plan)
                except msgspec.MsgspecError as error:
                    raise FixData(f"{self._topic} holds no plan of a replay: {error}") from None
                if found.revision == (1 if plan is None else plan.revision + 1):
                    plan = found
        return plan

    async def existing(self) -> Plan:
        """Return the plan.

        Raises:
            FixSettings: there is no such replay.
        """
        plan = await self.read()
        if plan is None:
            raise FixSettings(
                f"there is no replay {self._name}; `interest-stream replay list` says which there "
                "are"
            )
        return plan

    async def propose(self, plan: Plan) -> Plan:
        """Write a new revision of the plan, and return the plan as it then stands.

        Another process may have been first; then it is that one's.

        Raises:
            FixSettings: the plan is too large: it names too many users.
            WaitForBroker: no broker answers.
        """
        value = msgspec.json.encode(plan)
        if len(value) > _MAX_BYTES:
            raise FixSettings(
                f"the plan has {len(value)} bytes, at most {_MAX_BYTES} are possible: name fewer "
                "users"
            )
        bootstrap = self._settings.kafka
        await self._create_topic()
        producer = AIOKafkaProducer(**client_options(bootstrap), acks="all")
        try:
            await producer.start()
            await producer.send_and_wait(self._topic, value)
        except KafkaError as error:
            raise await unanswered(error, bootstrap) from error
        finally:
            await producer.stop()
        return await self.existing()

    async def _create_topic(self) -> None:
        settings = self._settings
        topic = NewTopic(self._topic, 1, settings.replication_factor, topic_configs=_KEPT_FOR_EVER)
        async with open_admin(settings.kafka) as admin:
            response = await admin.create_topics([topic])
        for name, code, *message in response.topic_errors:
            if code and for_code(code) is not TopicAlreadyExistsError:
                raise FixSettings(f"topic {name} cannot be created: {for_code(code)} {message}")
