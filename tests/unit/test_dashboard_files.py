"""The dashboard's files: open, strict about what they may load, complete, and in the wheel."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import aiohttp
import pytest

from stream_app.local_ports import HOST, free_port
from stream_app.serving.page import PREFIX, dashboard_files, dashboard_routes
from stream_app.serving.server import HttpServer
from stream_app.settings import Settings
from tests.harness.chromium import ABSENT, find, install

FILES = dashboard_files()
SCRIPTS = {name: text.decode() for name, text in FILES.items() if name.endswith(".js")}
MARKUP = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|DOMParser"
)
ELSEWHERE = re.compile(r"""(?:https?:)?//[a-z0-9.-]+\.[a-z]{2,}""")


class Linked(HTMLParser):
    """Collects what a page names: files, ids, inline code."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.files: list[str] = []
        self.ids: list[str] = []
        self.inline: list[str] = []
        self.labelled: set[str] = set()
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.files += [v for n, v in attrs if n in ("src", "href") and v and not v.startswith("#")]
        self.ids += [v for n, v in attrs if n == "id" and v]
        self.inline += [n for n, _ in attrs if n == "style" or n.startswith("on")]
        if tag == "style" or (tag == "script" and not given.get("src")):
            self.inline.append(tag)
        if tag == "label":
            self.labelled.add(given.get("for") or "")


INDEX = Linked(FILES["index.html"].decode())


async def test_the_page_and_all_it_names_are_served_without_a_token_and_strictly() -> None:
    port = free_port()
    server = HttpServer(Settings(http_port=port), dashboard_routes())
    await server.start()
    try:
        async with aiohttp.ClientSession(f"http://{HOST}:{port}") as client:
            for path in ["/", *(f"/{name}" for name in INDEX.files)]:
                async with client.get(path) as answer:
                    assert answer.status == 200, path
                    policy = answer.headers["Content-Security-Policy"]
                    assert "default-src 'none'" in policy
                    assert "script-src 'self';" in policy
                    assert "unsafe" not in policy
                    assert answer.headers["X-Content-Type-Options"] == "nosniff"
                    tag = answer.headers["ETag"]
                async with client.get(path, headers={"If-None-Match": tag}) as again:
                    assert again.status == 304, path
            async with client.get("/") as answer:
                assert answer.content_type == "text/html"
            async with client.get("/dashboard/../../../pyproject.toml") as answer:
                assert answer.status == 404
    finally:
        await server.stop()


def test_scripts_import_what_is_there_and_every_file_is_reached() -> None:
    reached = {"index.html"}
    waiting = [name.removeprefix(PREFIX.lstrip("/")) for name in INDEX.files]
    while waiting:
        name = waiting.pop()
        if name not in reached:
            reached.add(name)
            waiting += re.findall(r'from "\./([\w.]+)"', SCRIPTS.get(name, ""))
    assert reached == set(FILES)


def test_every_element_that_a_script_asks_for_is_there_once() -> None:
    asked = set(re.findall(r'(?:byId|fill)\(\s*"([\w-]+)"', "".join(SCRIPTS.values())))
    assert len(asked) > 20
    assert asked <= set(INDEX.ids)
    assert len(INDEX.ids) == len(set(INDEX.ids))


@pytest.mark.parametrize("name", SCRIPTS)
def test_no_script_makes_markup_of_a_string(name: str) -> None:
    assert not MARKUP.search(SCRIPTS[name])


@pytest.mark.parametrize("name", FILES)
def test_no_file_names_another_host(name: str) -> None:
    namespaces = FILES[name].decode().replace("http://www.w3.org/2000/svg", "")
    assert not ELSEWHERE.search(namespaces)


def test_nothing_is_inline_for_the_policy_forbids_it() -> None:
    assert INDEX.inline == []


def test_the_token_is_kept_for_the_tab_alone() -> None:
    kept = [name for name, text in SCRIPTS.items() if "sessionStorage" in text]
    assert kept == ["api.js"]
    assert set(re.findall(r"localStorage\.\w+\((\w+)", "".join(SCRIPTS.values()))) == {"THEME"}


def test_where_a_browser_is_nothing_is_installed_and_where_none_may_be_it_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find() is None
    assert install().startswith(ABSENT)
    browser = tmp_path / "chromium"
    browser.write_text("#!/bin/sh\n")
    browser.chmod(0o755)
    assert install() == f"browser: {browser}"
