"""Forgetting where no broker is needed: what the API is asked, what the cache is held to."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from encoders import text_cache
from encoders.config import EncoderConfig
from encoders.text_encoder import TextEncoder
from encoders.text_rows import content_key
from encoders.text_store import TextStore
from stream_app.errors import FixData, FixSettings
from stream_app.forgetting import Api, Finding, _in_api, request
from stream_app.settings import Settings
from tests.conformance.models import tiny_bert

TOKEN = "a token of sixteen"


async def _answered(user_id: str, token: str = TOKEN) -> Finding:
    """Ask an API that knows alice and a user with a name that needs quoting."""

    async def interest(request_: web.Request) -> web.Response:
        if request_.headers["Authorization"] != f"Bearer {TOKEN}":
            return web.Response(status=401)
        name = request_.match_info["user"]
        if name == "broken":
            return web.Response(status=503)
        known = name in ("alice", "a/b ?")
        return web.json_response(
            {"error": "" if known else "unknown-user"}, status=200 if known else 404
        )

    app = web.Application()
    app.router.add_get("/v1/users/{user}/interest", interest)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        port = runner.addresses[0][1]
        return await _in_api(Api(f"http://127.0.0.1:{port}/", token), user_id)
    finally:
        await runner.cleanup()


@pytest.mark.parametrize(
    ("user_id", "known"), [("alice", True), ("a/b ?", True), ("gone", False), ("broken", None)]
)
def test_the_api_is_asked(user_id: str, known: bool | None) -> None:
    assert asyncio.run(_answered(user_id)).known is known


def test_a_refused_token_is_no_proof() -> None:
    with pytest.raises(FixSettings, match="refuses the token"):
        asyncio.run(_answered("gone", "another token"))


def test_an_api_that_does_not_answer_is_no_proof() -> None:
    found = asyncio.run(_in_api(Api("http://127.0.0.1:9", TOKEN), "gone"))
    assert found.known is None
    assert "does not answer" in found.detail


@pytest.mark.parametrize("user_id", ["", "a\0b", "a" * 257, "\ud800"])
def test_who_nobody_can_be_is_refused(user_id: str) -> None:
    with pytest.raises(FixData, match="is no user id"):
        request(Settings(), user_id, "f")


def test_a_forgotten_text_goes_whichever_model_put_it_into_the_cache(tmp_path: Path) -> None:
    """The cache outlives a change of the model; what the former one put there must go, too."""
    cache = tmp_path / "cache"
    config = EncoderConfig(
        kind="transformer", slab_rows=64, cache_dir=str(cache), cache_max_bytes=1 << 20
    )
    for seed in (1, 2):
        model = tiny_bert(tmp_path / f"bert-{seed}", seed=seed)
        store = TextStore(config, TextEncoder(replace(config, text_model=str(model))))
        store.put([(0, "a secret"), (1, "a tent")])
        if seed == 2:
            store.drop([(0, "a secret")])
        store.close()
    names = text_cache.namespaces(cache)
    assert len(names) == 2
    secrets = [content_key(name, "a secret") for name in names]
    others = [content_key(name, "a tent") for name in names]
    assert text_cache.held(cache, secrets + others) == others


def test_a_damaged_list_of_models_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "namespaces").write_text("zz\n00ff\nabc\n")
    assert text_cache.namespaces(tmp_path) == [b"\x00\xff"]
    assert text_cache.namespaces(tmp_path, b"\x01") == [b"\x00\xff", b"\x01"]
    assert text_cache.namespaces(tmp_path) == [b"\x00\xff", b"\x01"]
