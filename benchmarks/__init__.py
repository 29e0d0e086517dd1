"""How fast, against whom, measured how: ``python -m benchmarks``."""
