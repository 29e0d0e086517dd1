"""aiokafka on uvloop: a request on a closed connection is one on a lost connection."""

from __future__ import annotations

from functools import wraps
from typing import Any, cast

from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError


def let_aiokafka_notice() -> None:
    """Make writing to a connection that was closed this instant an error aiokafka reconnects at.

    asyncio's own loop drops such a write and the reader ends soon after; uvloop raises
    RuntimeError, which ended aiokafka's refreshing of the metadata for good: after one of ten
    restarts of a killed broker the worker waited for its coordinator for ever, without a word.
    (aiokafka's issue 1038; needed until it catches more than OSError.)
    """
    for name in ("send", "_send_sasl_token"):
        original = getattr(AIOKafkaConnection, name)
        if not hasattr(original, "__wrapped__"):
            setattr(AIOKafkaConnection, name, _noticing(original))


def _noticing(send: Any) -> Any:
    @wraps(send)
    def noticing(self: AIOKafkaConnection, *arguments: Any, **options: Any) -> Any:
        connection = cast(Any, self)
        try:
            return send(self, *arguments, **options)
        except RuntimeError as error:
            where = f"{connection.host}:{connection.port}"
            connection.close(reason=CloseReason.CONNECTION_BROKEN)
            raise KafkaConnectionError(f"Connection at {where} closed: {error}") from error

    return noticing
