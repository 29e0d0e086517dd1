"""One file per contestant: ``python -m benchmarks.contestants.<module> run.json`` runs it until
SIGTERM. Nobody here knows when the clock runs: :mod:`benchmarks.measure` looks from outside."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Contestant:
    """How a contestant is started and told apart."""

    name: str
    label: str
    publishes: bool = True
    share: float = 1.0
    """Of the events, after which it is stopped: a rate does not need all of them."""


STOCK_NOOP = Contestant("stock_noop", "stock Faust, agent does nothing", False, share=0.25)
STOCK_FAUST = Contestant("stock_faust", "stock Faust, the whole job", share=0.1)
OURS = Contestant("ours", "interest-stream, everything on")
PLAIN = Contestant("plain_aiokafka", "aiokafka + rocksdict, no changelog")
QUIX = Contestant("quix", "Quix Streams")

ALL = (STOCK_NOOP, STOCK_FAUST, PLAIN, QUIX, OURS)
