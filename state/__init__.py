"""What is remembered of a user: events, windows, their bytes, their RocksDB table.

Nothing here knows Kafka, Faust or a model: values in, values out, but for :mod:`state.table`.
"""
