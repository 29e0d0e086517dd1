"""``/metrics``, ``/health`` and ``/ready``: for the operator, without a token."""

from __future__ import annotations

import math
import time

from aiohttp import web
from prometheus_client import ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import CollectorRegistry

from stream_app.serving.health import Condition, Limits, unhealthy, unready
from stream_app.serving.inside import Inside
from stream_app.serving.metrics import Scrape

_NEVER_S = 1e9
"""Instead of infinity, which JSON does not have: no heartbeat was ever confirmed."""


class Operations:
    """Answers from a worker's inside."""

    def __init__(self, inside: Inside) -> None:
        self._inside = inside
        settings = inside.settings
        # A commit may be as old as the interval of checkpoints before it begins to be late.
        commit_s = settings.ready_commit_s + 2 * settings.checkpoint_interval_ms / 1000
        self._limits = Limits(settings.health_encoder_s, commit_s)
        self._process = ProcessCollector(registry=None)

    def routes(self) -> list[web.RouteDef]:
        """Return the routes, all to be read with GET."""
        return [
            web.get("/metrics", self.metrics),
            web.get("/health", self.health),
            web.get("/ready", self.ready),
        ]

    async def metrics(self, _: web.Request) -> web.Response:
        """Everything in the text format of Prometheus."""
        condition = await self._condition()
        registry = CollectorRegistry(auto_describe=False)
        registry.register(
            Scrape(
                self._inside,
                encoder_up=self._inside.encoder_process.info is not None
                and condition.encoder_silent_s <= self._limits.encoder_silent_s,
                ready=not unready(condition, self._limits),
                uncommitted_s=max(condition.still_s.values(), default=0.0),
                commit_limit_s=self._limits.commit_s,
            )
        )
        registry.register(self._process)
        text = generate_latest(registry)
        return web.Response(body=text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    async def health(self, _: web.Request) -> web.Response:
        """200 while the worker is alive, else 503 with the reasons."""
        condition = await self._condition()
        reasons = unhealthy(condition, self._limits)
        return _answer(
            {
                "healthy": not reasons,
                "reasons": reasons,
                "state": condition.state,
                "encoder_silent_s": round(condition.encoder_silent_s, 3),
                "loop_lag_s": round(self._inside.loop_lag.percentile_ms(0.99) / 1000, 4),
            },
            ok=not reasons,
        )

    async def ready(self, _: web.Request) -> web.Response:
        """200 while the worker does its work, else 503 with the reasons."""
        condition = await self._condition()
        reasons = unready(condition, self._limits)
        return _answer(
            {
                "ready": not reasons,
                "reasons": reasons,
                "state": condition.state,
                "partitions": sorted(self._inside.holding.partitions),
                "lag_records": sum(condition.lag_records.values()),
                "recovery_remaining_records": sum(condition.recovery_remaining.values()),
            },
            ok=not reasons,
        )

    async def _condition(self) -> Condition:
        inside = self._inside
        silent_s = await inside.encoder_process.silent_s()
        lost_s = inside.lease_lost_s()
        return Condition(
            inside.state(),
            silent_s,
            inside.app.recovering,
            inside.recovery_remaining(),
            lost_s if lost_s is None or math.isfinite(lost_s) else _NEVER_S,
            inside.lag.still_s(time.monotonic()),
            inside.lag.records(),
        )


def _answer(body: dict[str, object], *, ok: bool) -> web.Response:
    return web.json_response(body, status=200 if ok else 503)
