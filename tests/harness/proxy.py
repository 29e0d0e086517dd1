"""A TCP proxy between workers and a broker, and all that a network does to what passes."""

from __future__ import annotations

import asyncio
import contextlib
import struct
import threading
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any

from stream_app.local_ports import HOST

_HEADER = struct.Struct("!ih")
"""Of a Kafka request: its length without these four bytes, and its api key."""
_PRODUCE = 0
_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Weather:
    """What the network is like."""

    cut: bool = False
    """Connections end, and no new one is made."""
    vanishing: bool = False
    """Connections stay, new ones are taken, and no byte comes through, either way."""
    latency_s: float = 0.0
    """Each piece of data waits as long."""
    bytes_per_s: float = float("inf")
    produce_vanishes: bool = False
    """Produce requests do not come through; all others do."""
    produce_latency_s: float = 0.0
    """Each produce request waits as long, and so does what follows it on its connection."""


FAIR = Weather()


class Proxy:
    """Listens on a port of its own and passes on what comes, to ``to_port`` and back.

    It runs in a thread of its own; :meth:`change` may be called from any other.
    """

    def __init__(self, port: int, to_port: int) -> None:
        self.port = port
        self._to_port = to_port
        self._weather = FAIR
        self._connections: dict[asyncio.Task[None], bool] = {}
        """Each connection, and whether anything that was sent on it has vanished."""
        self._orphans: set[asyncio.Task[None]] = set()
        self.vanished_bytes = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._server: asyncio.Server = self._run(self._listen())

    @property
    def bootstrap(self) -> str:
        """``host:port`` for clients."""
        return f"{HOST}:{self.port}"

    def change(self, weather: Weather) -> None:
        """Let the network be so from now on.

        A connection on which bytes have vanished cannot be mended and ends when they no longer do.
        """
        self._run(self._change(weather))

    def orphan(self) -> None:
        """Let nothing come through on the connections there are, for good; new ones are fine.

        As when a firewall on the way has forgotten them: neither end is told.
        """
        self._run(self._orphan())

    def close(self) -> None:
        """End all connections and stop listening."""
        self._run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(30)

    async def _listen(self) -> asyncio.Server:
        return await asyncio.start_server(self._connect, HOST, self.port)

    async def _change(self, weather: Weather) -> None:
        self._weather = weather
        if weather.cut:
            self._end(list(self._connections))
        elif not weather.vanishing and not weather.produce_vanishes:
            self._end([task for task, torn in self._connections.items() if torn])

    async def _orphan(self) -> None:
        self._orphans |= self._connections.keys()

    async def _close(self) -> None:
        self._server.close()
        tasks = list(self._connections)
        self._end(tasks)
        await asyncio.gather(*tasks, return_exceptions=True)

    def _end(self, tasks: list[asyncio.Task[None]]) -> None:
        for task in tasks:
            task.cancel()

    async def _connect(self, near: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if self._weather.cut:
            back.close()
            return
        self._connections[task] = False
        forth: asyncio.StreamWriter | None = None
        try:
            with contextlib.suppress(OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                far, forth = await asyncio.open_connection(HOST, self._to_port)
                pumps = (self._requests(task, near, forth), self._answers(task, far, back))
                await _until_one_ends([asyncio.ensure_future(pump) for pump in pumps])
        finally:
            self._orphans.discard(task)
            del self._connections[task]
            for writer in (back, forth):
                if writer is not None:
                    writer.transport.abort()

    async def _requests(
        self,
        task: asyncio.Task[None],
        near: asyncio.StreamReader,
        forth: asyncio.StreamWriter,
    ) -> None:
        """Pass on request after request, for some kinds of them may fare worse."""
        while True:
            header = await near.readexactly(_HEADER.size)
            length, api_key = _HEADER.unpack(header)
            request = header + await near.readexactly(length - 2)
            is_produce = api_key == _PRODUCE
            if is_produce:
                await asyncio.sleep(self._weather.produce_latency_s)
            if is_produce and self._weather.produce_vanishes:
                self._vanish(task, request)
            else:
                await self._pass_on(task, request, forth)

    async def _answers(
        self, task: asyncio.Task[None], far: asyncio.StreamReader, back: asyncio.StreamWriter
    ) -> None:
        while data := await far.read(_CHUNK_BYTES):
            await self._pass_on(task, data, back)

    async def _pass_on(
        self, task: asyncio.Task[None], data: bytes, writer: asyncio.StreamWriter
    ) -> None:
        weather = self._weather
        await asyncio.sleep(weather.latency_s + len(data) / weather.bytes_per_s)
        if self._weather.vanishing or task in self._orphans:
            self._vanish(task, data)
            return
        writer.write(data)
        await writer.drain()

    def _vanish(self, task: asyncio.Task[None], data: bytes) -> None:
        self._connections[task] = True
        self.vanished_bytes += len(data)


async def _until_one_ends(pumps: list[asyncio.Future[None]]) -> None:
    try:
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
