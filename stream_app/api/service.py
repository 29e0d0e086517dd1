"""The read API of one worker: its routes, and what they are answered from."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from functools import partial
from typing import Any

from aiohttp import web

from encoders.interface import EncoderInfo
from state.masking import mask
from state.window import Window
from stream_app.api import openapi, requests
from stream_app.api.admission import Token, admission, token_of
from stream_app.api.answers import AudienceRequest, EmbedAnswer, EmbedRequest
from stream_app.api.forwarding import FORWARDED_HEADER, Forwarding
from stream_app.api.found_user import FoundUser
from stream_app.api.history import history
from stream_app.api.interest import interest
from stream_app.api.item_space import ItemSpace
from stream_app.api.neighbours import audience, neighbours
from stream_app.api.patience import PatientEncoder
from stream_app.api.places import Places
from stream_app.api.problems import ApiProblem, as_json, not_ready, problems_as_json
from stream_app.api.status import StatusPage
from stream_app.api.status_answers import (
    StatusAnswer,
    WorkerPlace,
    WorkersAnswer,
    WorkerStatus,
)
from stream_app.api.user_vectors import UserVectors
from stream_app.burials import Burials
from stream_app.encoded import Encoded
from stream_app.parts import Parts
from stream_app.rounds import Share
from stream_app.serving.inside import Inside
from stream_app.serving.page import dashboard_routes
from stream_app.topics import partition_of

log = logging.getLogger("stream_app.api")

_DEFAULT_K = 10
_BEGIN_ANEW_S = 5.0
_ENDING = frozenset({"stopping", "stopped", "failed"})


class ReadApi:
    """Answers from a worker's memory. Made where a token is set, and not otherwise."""

    def __init__(self, inside: Inside, burials: Burials) -> None:
        """Raise :class:`FixSettings` where the token is none."""
        self._inside = inside
        self._settings = settings = inside.settings
        self._pseudonyms = settings.pseudonyms()
        token = token_of(settings)
        self._places = Places(
            str(inside.app.conf.canonical_url),
            settings.changelog_topic,
            lambda: inside.app.assignor.tables_metadata(),  # noqa: PLW0108  # made at the start
        )
        self._forwarding = Forwarding(token, self._places.own)
        self._admission = admission(Token(token), settings.api_requests_per_s)
        self._encoder = PatientEncoder(self._as_stored)
        self._items = ItemSpace(settings)
        self._users = UserVectors(settings, inside.holding.ours)
        self._status = StatusPage(inside, burials, self._places, self._items, self._users)

    def routes(self) -> list[web.AbstractRouteDef]:
        """Return what needs no token: the document, and the dashboard, for it holds no data."""
        document = openapi.document(self._settings)

        async def openapi_document(_: web.Request) -> web.Response:
            return web.json_response(document)

        return [web.get("/openapi.json", openapi_document), *dashboard_routes()]

    def app(self) -> web.Application:
        """Return what is to be served under ``/v1``."""
        app = web.Application(middlewares=[problems_as_json, self._admission])
        app.add_routes(
            [
                web.get("/users/{user_id}/interest", self._of_user(self._interest)),
                web.get("/users/{user_id}/neighbours", self._of_user(self._neighbours)),
                web.get("/users/{user_id}/history", self._of_user(self._history)),
                web.post("/audience", self._audience),
                web.post("/embed", self._embed),
                web.get("/status", self._this_status),
                web.get("/workers", self._workers),
            ]
        )
        app.cleanup_ctx.append(self._connected)
        return app

    def begin(self, parts: Parts, info: EncoderInfo) -> list[Coroutine[Any, Any, None]]:
        """Join a worker's parts; return what is to run beside it."""
        self._items.begin(info.model_id, info.dimensions)
        self._users.begin(info)
        parts.rounds.on_published = self._on_published
        beside = (self._items.follow, self._users.keep, self._status.watch)
        return [_whatever_happens(work) for work in beside]

    def _on_published(self, shares: list[Share], encoded: list[Encoded]) -> None:
        try:
            self._users.on_published(shares, encoded)
        except Exception:
            log.exception("Vectors for audiences are read anew: a bug, but not the stream's")
            self._users.read_anew()

    async def _connected(self, _: web.Application) -> AsyncIterator[None]:
        await self._forwarding.open()
        yield
        await self._forwarding.close()

    # -- users

    def _of_user(
        self, answer: Callable[[web.Request, FoundUser], Awaitable[web.Response]]
    ) -> Callable[[web.Request], Awaitable[web.Response]]:
        """Wrap what is answered of a user: here, or by the worker that holds the user."""

        async def of_user(request: web.Request) -> web.Response:
            user_id = request.match_info["user_id"]
            key = requests.user_key(user_id)
            number = partition_of(key, self._settings.partitions)
            if not self._holds(number):
                return await self._forwarding.to_holder(request, self._places.holder(number))
            if self._pseudonyms is not None:
                key = self._pseudonyms.of_key(key)
            found = self._found(user_id, key, number)
            try:
                answered = await answer(request, found)
            finally:
                forgotten = self._was_forgotten(found, key)
            if forgotten:
                raise _unknown(user_id)
            return answered

        return of_user

    def _was_forgotten(self, found: FoundUser, key: bytes) -> bool:
        """Tell whether the user was forgotten behind the request's back.

        The texts that the encoder was asked of them in between are then dropped.
        """
        partition = self._inside.holding.partitions.get(found.partition)
        if partition is None or partition.revoked:
            return False
        now = partition.peek(key) or Window()
        if set(found.window.event_ids[-1:]) <= set(now.event_ids):
            return False
        texts = [text for text in found.window.texts if text and text not in now.texts]
        if texts:
            partition.drop_texts(partial(self._encoder.forget, found.parts.encoder, texts))
        return True

    def _holds(self, number: int) -> bool:
        partition = self._inside.holding.partitions.get(number)
        return partition is not None and not partition.revoked

    def _found(self, user_id: str, key: bytes, number: int) -> FoundUser:
        """Return the user as of now. Nobody may hold on to the partition: see UserVectors."""
        parts, info = self._ready()
        partition = self._inside.holding.partitions[number]
        window = partition.peek(key)
        if window is None:
            raise _unknown(user_id)
        topic = self._settings.events_topic
        return FoundUser(user_id, window, topic, number, partition.last_offset, parts, info)

    def _ready(self) -> tuple[Parts, EncoderInfo]:
        parts, info = self._inside.parts(), self._inside.encoder_process.info
        state = self._inside.state()
        if parts is None or info is None or state in _ENDING:
            raise not_ready(f"the worker is {state}")
        return parts, info

    async def _interest(self, _: web.Request, found: FoundUser) -> web.Response:
        return as_json(await interest(found, self._encoder, self._places.own))

    async def _neighbours(self, request: web.Request, found: FoundUser) -> web.Response:
        most = self._settings.api_max_k
        k = requests.whole_number(request, "k", min(_DEFAULT_K, most), 1, most)
        unseen = requests.yes_or_no(request, "unseen")
        own = self._places.own
        return as_json(await neighbours(found, self._encoder, self._items, own, k=k, unseen=unseen))

    async def _history(self, _: web.Request, found: FoundUser) -> web.Response:
        return as_json(await history(found, self._encoder, self._items, self._places.own))

    # -- texts

    async def _audience(self, request: web.Request) -> web.Response:
        settings = self._settings
        asked = await requests.body(request, AudienceRequest, settings.api_max_body_bytes)
        self._must_be_short([asked.text])
        if asked.k > settings.api_max_k:
            message = f"k must be at most {settings.api_max_k} (api_max_k), found {asked.k:g}"
            raise ApiProblem(400, "bad-request", message)
        parts, info = self._ready()
        return as_json(
            await audience(
                asked.text,
                int(asked.k),
                users=self._users,
                encoder=self._encoder,
                window_encoder=parts.encoder,
                model_id=info.model_id,
                partitions=sorted(self._inside.holding.partitions),
                worker=self._places.own,
            )
        )

    async def _embed(self, request: web.Request) -> web.Response:
        asked = await requests.body(request, EmbedRequest, self._settings.api_max_body_bytes)
        self._must_be_short(asked.texts)
        parts, info = self._ready()
        vectors = await self._encoder.texts(parts.encoder, asked.texts)
        numbers = [None if vector is None else vector.tolist() for vector in vectors]
        return as_json(EmbedAnswer(info.model_id, info.dimensions, numbers))

    def _as_stored(self, text: str) -> str:
        """Return a text as a user's is stored: its vector is cached, and may be a dead letter."""
        return text if self._settings.mask_texts == "off" else mask(text)

    def _must_be_short(self, texts: list[str]) -> None:
        most = self._settings.max_text_chars
        longest = max(map(len, texts))
        if longest > most:
            message = f"a text may have {most} characters (max_text_chars), found {longest}"
            raise ApiProblem(400, "bad-request", message)

    # -- workers

    async def _this_status(self, _: web.Request) -> web.Response:
        return as_json(self._status.status())

    async def _workers(self, request: web.Request) -> web.Response:
        if FORWARDED_HEADER in request.headers:
            raise ApiProblem(400, "bad-request", "ask the worker itself")
        others = [place for place in self._places.everybody() if place.url != self._places.own]
        answers = await self._forwarding.statuses_of(others)
        found = [
            _worker(self._status.place(place), answer)
            for place, answer in zip(others, answers, strict=True)
        ]
        this = self._status.status()
        mine = [each for each in this.workers if each.is_this]
        return as_json(WorkersAnswer([*(_worker(place, this) for place in mine), *found]))


async def _whatever_happens(work: Callable[[], Coroutine[Any, Any, None]]) -> None:
    """Run what the API needs beside the stream; a bug of the API must not end the stream."""
    while True:
        try:
            await work()
        except Exception:
            log.exception("A task of the API failed and begins anew: a bug, but not the stream's")
            await asyncio.sleep(_BEGIN_ANEW_S)


def _unknown(user_id: str) -> ApiProblem:
    why = "nothing folded yet, forgotten, or silent for too long"
    return ApiProblem(404, "unknown-user", f"no window of user {user_id!r}: {why}")


def _worker(place: WorkerPlace, answer: StatusAnswer | str) -> WorkerStatus:
    status, error = (None, answer) if isinstance(answer, str) else (answer, None)
    return WorkerStatus(place.url, place.partitions, place.is_this, status, error)
