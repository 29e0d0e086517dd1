"""The HTTP server: off without a port, on its address alone, and one line where that is taken."""

from __future__ import annotations

import socket

import aiohttp
import pytest
from aiohttp import web

from stream_app.errors import FixSettings
from stream_app.local_ports import HOST, free_port
from stream_app.serving.server import HttpServer
from stream_app.settings import Settings


async def _hello(_: web.Request) -> web.Response:
    return web.Response(text="hello")


def _server(port: int) -> HttpServer:
    inner = web.Application()
    inner.add_routes([web.get("/hello", _hello)])
    return HttpServer(Settings(http_port=port), [web.get("/hello", _hello)], {"/v1": inner})


async def test_routes_and_applications_are_answered_until_the_stop() -> None:
    port = free_port()
    server = _server(port)
    await server.start()
    async with aiohttp.ClientSession(f"http://{HOST}:{port}") as client:
        for path in ("/hello", "/v1/hello"):
            async with client.get(path) as answer:
                assert await answer.text() == "hello"
        async with client.get("/nothing") as answer:
            assert answer.status == 404
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.get("/hello")


async def test_without_a_port_nothing_listens(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise AssertionError("a socket was bound")

    monkeypatch.setattr(socket.socket, "bind", refuse)
    server = _server(0)
    await server.start()
    await server.stop()


async def test_a_port_in_use_is_one_line_that_names_the_setting() -> None:
    with socket.create_server((HOST, 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(FixSettings, match=f"http_port {port}: cannot listen") as caught:
            await _server(port).start()
    assert "\n" not in str(caught.value)


async def test_a_host_that_is_not_ours_is_one_line_too() -> None:
    settings = Settings(http_host="203.0.113.7", http_port=free_port())
    with pytest.raises(FixSettings, match=r"http_host '203\.0\.113\.7'"):
        await HttpServer(settings, []).start()
