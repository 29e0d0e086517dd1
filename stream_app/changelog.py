"""The changelog of windows: appending to it, and staying its last word."""

from __future__ import annotations

from collections.abc import Sequence

from aiokafka.structs import ConsumerRecord

from state import codec, era
from stream_app.delivery import APPLIED_OFFSET_HEADER
from stream_app.errors import RestartWorker
from stream_app.kafka_access import Brokers
from stream_app.owned_log import Others, OwnedLog, outdone
from stream_app.partition import Partition
from stream_app.producer import BatchProducer, OutRecord
from stream_app.status import Counts


class Changelog:
    """Appends windows to our changelog partitions and outdoes former owners' late records."""

    def __init__(
        self, topic: str, producer: BatchProducer, counts: Counts, bootstrap_servers: Brokers
    ) -> None:
        self._producer = producer
        self._log = OwnedLog(topic, bootstrap_servers, counts, _applied)

    async def append(self, partition: Partition, rows: Sequence[OutRecord]) -> int | None:
        """Append the rows and return the offset up to which the log needs no other look.

        That is the offset of the last row; ``None``, for as before, if there are no rows, and where
        others' records have to be outdone: until the next checkpoint has done that, whoever begins
        with our table must meet with them again.

        Raises:
            DeliveryFailed: not acknowledged in time.
        """
        if not rows:
            return None
        self._own(partition)
        last = await self._producer.send(self._log.topic, partition.number, rows)
        others = await self._log.others_before(partition, len(rows), last)
        return None if self._outdo(partition, others) else last

    async def look_after(self, partitions: Sequence[Partition]) -> None:
        """Look whether others wrote to idle partitions, which get no acknowledgements.

        Raises:
            DeliveryFailed: the broker did not answer.
        """
        for partition in partitions:
            self._own(partition)
        for partition, others in (await self._log.others_since(partitions)).items():
            self._outdo(partition, others)

    def release(self, partition: Partition) -> None:
        """Forget a partition that has left us."""
        self._log.release(partition)

    def _own(self, partition: Partition) -> None:
        """What the table does not include, recovery has not seen."""
        stored = partition.table.changelog_offset()
        self._log.own_from(partition, 0 if stored is None else stored + 1)

    def _outdo(self, partition: Partition, others: Others) -> bool:
        """Let the next checkpoint write what is newer than others' records; tell if anything is."""
        newer = outdone(partition, others) if others else {}
        for key, state in newer.items():
            partition.dirty.setdefault(key, state)
        return bool(newer)


def _applied(partition: Partition, record: ConsumerRecord) -> int:
    if era.is_mark(record.key):
        raise RestartWorker(
            f"partition {partition.number} was rewound while this worker had it: stop every worker "
            "and rewind again"
        )
    if era.of_headers(record.headers) < partition.table.era:
        return -1  # from before a rewind, however far it had come
    if record.value is not None:
        return codec.applied_offset(record.value)
    return int(dict(record.headers).get(APPLIED_OFFSET_HEADER, -1))
