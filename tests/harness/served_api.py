"""The read API of a worker that is not one: partitions, encoder and group of the test's making."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any, TypeVar, cast

import aiohttp
from aiohttp import web
from yarl import URL

from encoders.config import EncoderConfig
from encoders.interface import EncoderInfo, Float32
from state.event import Event
from state.table import PartitionTable
from state.window import WindowPolicy
from stream_app import encoder_child
from stream_app.api.service import ReadApi
from stream_app.encoding import WindowEncoder
from stream_app.intake import Decoded, fold_events
from stream_app.lag import Lag
from stream_app.local_ports import HOST, free_port
from stream_app.meters import Meters
from stream_app.partition import Partition
from stream_app.serving.inside import Inside
from stream_app.serving.server import HttpServer
from stream_app.settings import Settings
from stream_app.status import Counts, LoopLag
from stream_app.topics import partition_of

T = TypeVar("T")
TOKEN = "sixteen-characters-or-more"
PARTITIONS = 4
DIMENSIONS = 8
TOPIC = "app-windows-changelog"


class InlineEncoder:
    """The stub encoder without its process."""

    def __init__(self) -> None:
        config = EncoderConfig(kind="stub", stub_dimensions=DIMENSIONS, slab_rows=256)
        self.info: EncoderInfo = encoder_child.request_load(config)
        self.epoch = 1

    async def call(self, function: Callable[..., T], *arguments: Any) -> T:
        return function(*arguments)


class ItemTexts(dict[str, str]):
    """A catalogue."""

    known = 0

    def texts(self, item_ids: Sequence[str]) -> list[str | None]:
        return [self.get(item_id) for item_id in item_ids]

    def media(self, item_ids: Sequence[str]) -> list[Float32 | None]:
        return [None for _ in item_ids]


class ServedApi:
    """Partitions held, and the API over them."""

    def __init__(self, folder: Path, group: dict[str, Any], **changed: object) -> None:
        """``group``: address -> topic -> partitions, shared by those that belong together."""
        port = free_port()
        self.url = f"http://{HOST}:{port}"
        values: dict[str, Any] = {
            "api_token": TOKEN,
            "http_port": port,
            "partitions": PARTITIONS,
            "app_id": "app",
            **changed,
        }
        self.settings = Settings(**values)
        self.folder = folder
        self.items = ItemTexts()
        self.buried: list[Any] = []
        self.partitions: dict[int, Partition] = {}
        self.state = "running"
        self.process = InlineEncoder()
        self.encoder = WindowEncoder(
            cast(Any, self.process),
            self.items,
            Counts(),
            rows=256,
            with_granularities=False,
            bury=self.buried.append,
        )
        self.rounds = SimpleNamespace(on_published=None)
        self._offset = 0
        self._parts: Any = None
        self.api = ReadApi(self._inside(group), cast(Any, SimpleNamespace(last=[])))
        self.server = HttpServer(self.settings, self.api.routes(), {"/v1": self.api.app()})
        self._parts = SimpleNamespace(
            catalogue=self.items, encoder=self.encoder, rounds=self.rounds
        )
        for coroutine in self.api.begin(self._parts, self.process.info):
            coroutine.close()  # what they would read is on a broker

    def _inside(self, group: dict[str, Any]) -> Inside:
        app = SimpleNamespace(
            conf=SimpleNamespace(canonical_url=URL(self.url)),
            assignor=SimpleNamespace(tables_metadata=lambda: group),
            recovering=False,
            recovery_started_s=0.0,
        )
        holding = SimpleNamespace(
            partitions=self.partitions, ours=lambda: list(self.partitions.values())
        )
        return Inside(
            self.settings,
            Counts(),
            Meters(),
            cast(Any, app),
            cast(Any, holding),
            cast(Any, self.process),
            LoopLag(),
            Lag(holding.ours, dict, cast(Any, None)),
            state=lambda: self.state,
            parts=lambda: self._parts,
        )

    def hold(self, *numbers: int) -> None:
        """Take partitions."""
        for number in numbers:
            table = PartitionTable(self.folder / f"p{number}-{free_port()}", 1 << 20)
            self.partitions[number] = Partition(number, table)

    def fold(self, *events: Event) -> Partition:
        """Fold events of one user."""
        key = events[0].user_id.encode()
        partition = self.partitions[partition_of(key, PARTITIONS)]
        decoded = []
        for event in events:
            decoded.append(Decoded(key, event, self._offset))
            self._offset += 1
        fold_events(partition, decoded, WindowPolicy())
        partition.forgotten_texts.clear()  # which the uptake would have dropped
        partition.last_offset = self._offset - 1
        return partition


class ApiClient:
    """Asks with the token, or with another."""

    def __init__(self, url: str, session: aiohttp.ClientSession) -> None:
        self._url = url
        self._session = session

    async def ask(
        self, path: str, method: str = "GET", token: str = TOKEN, **options: Any
    ) -> tuple[int, Any]:
        """Return status and JSON."""
        headers = {"Authorization": f"Bearer {token}", **options.pop("headers", {})}
        url = URL(self._url + path, encoded=True)
        async with self._session.request(method, url, headers=headers, **options) as answer:
            self.headers = answer.headers
            return answer.status, await answer.json()


@asynccontextmanager
async def serving(*served: ServedApi) -> AsyncIterator[list[ApiClient]]:
    """Start the servers, and yield a client of each."""
    try:
        for each in served:
            await each.server.start()
        async with aiohttp.ClientSession() as session:
            yield [ApiClient(each.url, session) for each in served]
    finally:
        for each in served:
            await each.server.stop()


def routes_of(app: web.Application) -> set[str]:
    """Return the paths that an application answers to."""
    return {resource.canonical for resource in app.router.resources()}
