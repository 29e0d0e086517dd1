"""How good the vectors are, offline: splits, metrics, baselines, and reports of them.

Nothing here imports torch or Kafka at import time; the real model comes in as an
``InterestEncoder``. Everything random takes a seed.
"""
