"""Random plans of faults until the time is over: ``python -m tests.chaos --help``."""
