"""Read interest vectors with plain aiokafka: nothing of interest-stream is needed."""
import asyncio, json, os, sys  # noqa: E401
from aiokafka import AIOKafkaConsumer

async def main(most: int) -> None:
    broker = os.environ.get("KAFKA_BOOTSTRAP", "127.0.0.1:9092")
    consumer = AIOKafkaConsumer("interest.updates", bootstrap_servers=broker, auto_offset_reset="earliest")
    latest: dict[bytes, int] = {}
    async with consumer:
        async for record in consumer:
            offset = int(dict(record.headers)["applied_offset"])
            if offset >= latest.get(record.key, -1):  # an older one is a repetition
                latest[record.key] = offset
                vector = json.loads(record.value)["vector"] if record.value else None
                print(record.key.decode(), offset, vector and vector[:3])
            if len(latest) >= most: return  # noqa: E701

asyncio.run(main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000))
