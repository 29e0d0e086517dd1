"""Anything as input: the decoders may refuse it, with their own errors only, and must not grow."""
