"""Read interest vectors with plain aiokafka, nothing of interest-stream: read_updates.py USERS."""

import asyncio
import json
import os
import sys

from aiokafka import AIOKafkaConsumer


async def main(users: int) -> None:
    options = {"bootstrap_servers": os.environ["KAFKA_BOOTSTRAP"], "auto_offset_reset": "earliest"}
    latest = {}
    async with AIOKafkaConsumer("interest.updates", **options) as consumer:
        while len(latest) < users:
            new = await consumer.getone()
            if (offset := int(dict(new.headers)["applied_offset"])) >= latest.get(new.key, -1):
                latest[new.key] = offset  # a lower one would be a repetition
                print(new.key.decode(), offset, new.value and json.loads(new.value)["vector"][:3])


asyncio.run(main(int(sys.argv[1])))
