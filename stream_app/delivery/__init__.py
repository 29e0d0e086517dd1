"""All our use of Faust's private names: whole-fetch delivery, exact commits, our table, the lease.

Stock Faust moves one record at a time, which costs it nine tenths of aiokafka's speed. Here one
fetch of one partition travels as one message whose value is the list of records and whose offset
is the last record's. The Faust version is pinned (~=0.15.3); ``tests/unit/test_delivery.py`` says
which name is gone when a new one changes them.
"""

from stream_app.delivery.app import BatchApp, recovery_complete, recovery_remaining
from stream_app.delivery.consumer import (
    BatchConsumer,
    PassThrough,
    RecordBatch,
    install_transport,
)
from stream_app.delivery.credentials import faust_credentials
from stream_app.delivery.fetching import Commits
from stream_app.delivery.window_table import APPLIED_OFFSET_HEADER, WindowTable

__all__ = [
    "APPLIED_OFFSET_HEADER",
    "BatchApp",
    "BatchConsumer",
    "Commits",
    "PassThrough",
    "RecordBatch",
    "WindowTable",
    "faust_credentials",
    "install_transport",
    "recovery_complete",
    "recovery_remaining",
]
