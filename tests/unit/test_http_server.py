"""The HTTP server: off without a port, on its address alone, and one line where that is taken."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import socket
from pathlib import Path

import aiohttp
import pytest
from aiohttp import web

from stream_app.errors import FixSettings
from stream_app.local_ports import HOST, free_port
from stream_app.serving.server import HttpServer
from stream_app.settings import Settings
from stream_app.worker import Worker
from tests.harness.deadline import PATIENCE_S


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


async def test_what_is_no_http_is_refused_without_a_traceback(
    caplog: pytest.LogCaptureFixture,
) -> None:
    port = free_port()
    server = _server(port)
    await server.start()
    for said in (b"GET /hello HTTP/1.1\r\nHost: x\r\nno header\r\n\r\n", b"\x16\x03\x01\r\n\r\n"):
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(said)
        assert (await reader.readline()).startswith(b"HTTP/1.0 400")
        writer.close()
    await server.stop()
    assert [record.message for record in caplog.records if record.levelno > logging.INFO] == []


_REQUEST = b"GET /hello HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    ("said", "answer"), [(b"", b""), (_REQUEST, b""), (_REQUEST + b"\r\n", b"hello")]
)
async def test_a_connection_on_which_no_request_comes_is_closed(
    said: bytes, answer: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether nothing comes at all, a beginning and never the rest, or nothing after an answer."""
    monkeypatch.setattr("stream_app.serving.server._IDLE_S", 0.1)
    port = free_port()
    server = _server(port)
    await server.start()
    reader, writer = await asyncio.open_connection(HOST, port)
    writer.write(said)
    async with asyncio.timeout(PATIENCE_S):
        heard = await reader.read()
    assert heard.startswith(b"HTTP/1.1 200") == bool(answer)
    assert heard.endswith(answer)
    assert bool(heard) == bool(answer)
    writer.close()
    await server.stop()


def test_it_is_off_and_for_this_machine_alone_unless_told_otherwise() -> None:
    settings = Settings()
    assert settings.http_port == 0
    assert ipaddress.ip_address(settings.http_host).is_loopback


async def test_without_a_token_there_is_neither_api_nor_dashboard(tmp_path: Path) -> None:
    settings = Settings(http_port=free_port(), datadir=tmp_path, encoder="stub")
    server = Worker(settings)._server
    await server.start()
    async with aiohttp.ClientSession(f"http://{HOST}:{settings.http_port}") as client:
        for path in (
            "/",
            "/openapi.json",
            "/dashboard/main.js",
            "/v1/status",
            "/v1/users/a/interest",
        ):
            async with client.get(path) as answer:
                assert (path, answer.status) == (path, 404)
        async with client.get("/health") as answer:
            assert answer.status == 200
    await server.stop()


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
