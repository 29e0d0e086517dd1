"""Faust's form of how Kafka is reached."""

from __future__ import annotations

import faust
from faust.types.auth import CredentialsT

from stream_app.kafka_access import KafkaAccess


def faust_credentials(kafka: KafkaAccess) -> CredentialsT | None:
    """Return what Faust hands to its consumer and producer; None for a bare connection.

    Raises:
        FixSettings: a file is missing or holds something else.
    """
    context = kafka.ssl_context()
    if kafka.with_sasl:
        return faust.SASLCredentials(
            username=kafka.sasl_username,
            password=kafka.password(),
            ssl_context=context,
            mechanism=kafka.sasl_mechanism,
        )
    return None if context is None else faust.SSLCredentials(context)
