"""The worker: everything that can fail because of the world (Kafka, time, files, processes)."""
