"""(d) The same job written by hand for speed: aiokafka, rocksdict, whole fetches, no changelog.

What is given up against ours: a lost disk is a lost state, a second worker may take over only
with that disk, and there are no dead letters, no text model, no caps. State is made safe at the
same interval: publish acknowledged, then RocksDB, then the offsets.
"""

from __future__ import annotations

import asyncio
import signal
import time
from pathlib import Path

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, ConsumerRecord, TopicPartition

from benchmarks.job import Job, Run
from state import codec
from state.table import PartitionTable
from state.window import Window

_FETCH_RECORDS = 4_000


class Worker:
    """One consumer, one producer, a table per partition and the windows in memory."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._job = Job(run)
        self._hot: list[dict[bytes, Window]] = [{} for _ in range(run.partitions)]
        self._dirty: list[set[bytes]] = [set() for _ in range(run.partitions)]
        self._tables = [
            PartitionTable(Path(run.directory) / str(number), 32 << 20)
            for number in range(run.partitions)
        ]
        self._sent: list[asyncio.Future[object]] = []
        self._stopping = False

    async def work(self) -> None:
        """Fetch, fold, publish; make safe once per interval; until SIGTERM."""
        run = self._run
        asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, self._stop)
        consumer = AIOKafkaConsumer(
            run.events_topic,
            bootstrap_servers=run.bootstrap,
            group_id=run.group,
            auto_offset_reset="earliest",
            enable_auto_commit=False,
            fetch_max_wait_ms=100,
            session_timeout_ms=10_000,
            heartbeat_interval_ms=1_000,
        )
        producer = AIOKafkaProducer(
            bootstrap_servers=run.bootstrap,
            acks="all",
            enable_idempotence=False,
            max_batch_size=900_000,
            max_request_size=8 << 20,
        )
        await producer.start()
        await producer.partitions_for(run.updates_topic)
        await consumer.start()
        due = time.monotonic() + run.commit_interval_s
        while not self._stopping:
            fetched = await consumer.getmany(timeout_ms=100, max_records=_FETCH_RECORDS)
            for at, records in fetched.items():
                await self._publish(producer, at.partition, self._fold(at, records))
            if time.monotonic() >= due:
                await self._make_safe(consumer)
                due = time.monotonic() + run.commit_interval_s
        await self._make_safe(consumer)
        await consumer.stop()
        await producer.stop()

    def _stop(self) -> None:
        self._stopping = True

    def _fold(self, at: TopicPartition, records: list[ConsumerRecord]) -> dict[bytes, Window]:
        """Return the touched users' windows."""
        job, hot = self._job, self._hot[at.partition]
        touched: dict[bytes, Window] = {}
        cold = list({record.key for record in records if record.key not in hot})
        for key, stored in zip(cold, self._tables[at.partition].get_many(cold), strict=True):
            if stored is not None:
                hot[key] = codec.decode(stored)
        for record in records:
            event = job.event(record.key, record.value, record.timestamp)
            window = job.fold(hot.get(record.key), event, record.offset)
            hot[record.key] = touched[record.key] = window
        self._dirty[at.partition].update(touched)
        return touched

    async def _publish(
        self, producer: AIOKafkaProducer, partition: int, touched: dict[bytes, Window]
    ) -> None:
        job = self._job
        vectors = job.vectors(list(touched.values()))
        batch = producer.create_batch()
        for (key, window), vector in zip(touched.items(), vectors, strict=True):
            value = job.update(key.decode(), vector, window, partition)
            if batch.append(key=key, value=value, timestamp=None) is None:
                await self._send(producer, batch, partition)
                batch = producer.create_batch()
                batch.append(key=key, value=value, timestamp=None)
        await self._send(producer, batch, partition)

    async def _send(self, producer: AIOKafkaProducer, batch: object, partition: int) -> None:
        batch.close()  # type: ignore[attr-defined]
        self._sent.append(
            await producer.send_batch(batch, self._run.updates_topic, partition=partition)
        )

    async def _make_safe(self, consumer: AIOKafkaConsumer) -> None:
        if not any(self._dirty):
            return
        await asyncio.gather(*self._sent)
        self._sent.clear()
        for hot, dirty, table in zip(self._hot, self._dirty, self._tables, strict=True):
            table.write(((key, codec.encode(hot[key])) for key in dirty), None)
            dirty.clear()
        await consumer.commit()


if __name__ == "__main__":
    asyncio.run(Worker(Run.from_argv()).work())
