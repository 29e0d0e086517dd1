"""A steady load for as long as you like, users that come and go, and a look for what grows.

``make soak MINUTES=30`` or ``python -m benchmarks.soak``: a check with an exit code, run by hand.
"""
