"""Send events from a service of your own, with plain aiokafka: the key is the user id."""

import asyncio
import json
import os
import time
import uuid

from aiokafka import AIOKafkaProducer

ACTS = [
    {"type": "search", "text": "quiet place to read"},
    {"type": "view", "item_id": "novel", "dwell_ms": 12_000},
    {"type": "purchase", "item_id": "novel"},
]


async def main() -> None:
    broker = os.environ["KAFKA_BOOTSTRAP"]
    async with AIOKafkaProducer(bootstrap_servers=broker, acks="all") as producer:
        for act in ACTS:
            event = {"event_id": str(uuid.uuid4()), "user_id": "dave", **act}
            event["time_ms"] = int(time.time() * 1000)
            place = await producer.send_and_wait(
                "interest.events", json.dumps(event).encode(), key=event["user_id"].encode()
            )
            print(event["type"], "at offset", place.offset, "of partition", place.partition)


asyncio.run(main())
