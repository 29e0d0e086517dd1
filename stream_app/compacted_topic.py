"""A compacted topic as a mapping: the last record of every key, tombstones left out."""

from __future__ import annotations

from typing import Any

import msgspec

from stream_app.errors import FixData
from stream_app.kafka_access import Brokers
from stream_app.topic_scan import open_consumer, to_the_end


async def latest_records(bootstrap_servers: Brokers, topic: str) -> dict[str, dict[str, Any]]:
    """Return key -> JSON object of a topic as it stands now, in the order of the keys' first
    records.

    Of the items topic that is the catalogue with all the fields its owner put there, of the item
    vectors what was published of each item.

    Raises:
        FixData: a value is no JSON object; the message names topic, partition and offset.
        FixSettings, WaitForBroker: the topic is missing, the broker does not answer.
    """
    decode = msgspec.json.Decoder(dict[str, Any]).decode
    found: dict[str, dict[str, Any]] = {}
    async with open_consumer(bootstrap_servers, topic) as consumer:
        async for record in to_the_end(consumer):
            key = (record.key or b"").decode(errors="replace")
            if record.value is None:
                found.pop(key, None)
                continue
            try:
                found[key] = decode(record.value)
            except (msgspec.MsgspecError, UnicodeDecodeError) as error:
                place = f"{record.topic}/{record.partition}/{record.offset}"
                raise FixData(f"{place} holds no JSON object: {error}") from None
    return found
