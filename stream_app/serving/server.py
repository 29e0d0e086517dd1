"""The worker's HTTP server: one address, off unless a port is set, up while the worker recovers."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from aiohttp import web
from aiohttp.http_exceptions import HttpProcessingError

from stream_app.errors import FixSettings
from stream_app.settings import Settings

log = logging.getLogger("stream_app.serving")

_requests_log = logging.getLogger("aiohttp.server")

_CLOSE_TIMEOUT_S = 1.0
"""For answers under way when the worker stops: its last checkpoint is done by then."""

_IDLE_S = 75.0
"""For the next request on a connection, the first one, too: each holds a file descriptor, and
nothing else ends one on which nothing comes. More than the 60 s for which proxies keep an idle
connection, or they would send a request on one that is being closed."""


class HttpServer:
    """Answers in the worker's own event loop: a handler must not take long, or the stream waits.

    ``routes``: at the root. ``apps``: prefix -> application, with middlewares of its own.
    """

    def __init__(
        self,
        settings: Settings,
        routes: Iterable[web.AbstractRouteDef],
        apps: Mapping[str, web.Application] = MappingProxyType({}),
    ) -> None:
        self._host = settings.http_host
        self._port = settings.http_port
        self._app = web.Application()
        self._app.add_routes(routes)
        for prefix, app in apps.items():
            self._app.add_subapp(prefix, app)
        self._runner: web.AppRunner | None = None

    async def start(self) -> None:
        """Listen; do nothing where no port is set.

        Raises:
            FixSettings: the address cannot be listened on.
        """
        if not self._port:
            return
        _requests_log.addFilter(_is_ours)
        runner = web.AppRunner(
            self._app,
            access_log=None,
            shutdown_timeout=_CLOSE_TIMEOUT_S,
            keepalive_timeout=_IDLE_S,
        )
        await runner.setup()
        try:
            await web.TCPSite(runner, self._host, self._port).start()
        except OSError as error:
            await runner.cleanup()
            raise FixSettings(
                f"http_host {self._host!r}, http_port {self._port}: cannot listen there "
                f"({error.strerror or error}); set http_port to a free port, or to 0 for no server"
            ) from None
        self._runner = runner
        log.info("HTTP at http://%s:%s", self._host, self._port)

    async def stop(self) -> None:
        """Close the connections and the port."""
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()


def _is_ours(record: logging.LogRecord) -> bool:
    """Leave out the traceback for each request that is no HTTP: anybody can send such, and fast."""
    return not (record.exc_info and isinstance(record.exc_info[1], HttpProcessingError))
